"""Decode a video to frames at a fixed rate, by time stamp: for emotion videos."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from jaxtyping import UInt8

from emotivetalk.errors import InputError
from emotivetalk.files import quoted
from emotivetalk.limits import Limits
from emotivetalk.media.containers import check_complete, claimed_duration_s, open_media, too_long
from emotivetalk.timebase import FRAME_RATE_HZ

Frame = UInt8[np.ndarray, "height width 3"]


def read_frames(
    path: Path, fps: float = FRAME_RATE_HZ, max_s: float | None = None, limits: Limits | None = None
) -> UInt8[np.ndarray, "frames height width 3"]:
    """Decode a video's pictures, upright, resampled to `fps`: frame i is the one on screen at (i + 1/2) / fps.

    The rate of the source may vary. Frames larger than limits.video_side are scaled down to it.

    Args:
        fps: frames per second of the result.
        max_s: seconds to read from the beginning; None reads all, up to limits.video_s.

    Raises:
        InputError: not a media file, no pictures in it, too large, too long, cut off or damaged.
    """
    limits = limits or Limits()
    with open_media(path, "video", limits) as container:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or _is_cover(stream):
            raise InputError(
                "video_missing_stream", f"video {quoted(path)} has sound but no pictures", "Give a file with video."
            )
        _check_size(path, stream, limits)
        claimed_s = claimed_duration_s(path, container, stream)
        wanted_s = limits.video_s if max_s is None else min(max_s, limits.video_s)
        if max_s is None and claimed_s is not None and claimed_s > limits.video_s:
            raise too_long(path, "video", claimed_s, limits.video_s)
        max_frames = max(1, round(wanted_s * fps))
        frames: list[Frame] = []
        for frame in _resampled(container, stream, fps, limits.video_side):
            if len(frames) == max_frames:
                if max_s is None:
                    raise too_long(path, "video", (len(frames) + 1) / fps, limits.video_s)
                break
            if frames and frame.shape != frames[0].shape:
                raise InputError(
                    "video_corrupt", f"video {quoted(path)} changes its size midway", "Export it again, as MP4."
                )
            frames.append(frame)
        if len(frames) < max_frames:
            check_complete(path, "video", claimed_s, len(frames) / fps)
    if not frames:
        raise InputError("video_empty", f"video {quoted(path)} has no pictures in it", "Export it again, as MP4.")
    return np.stack(frames)


def _resampled(container: InputContainer, stream: VideoStream, fps: float, side: int) -> Iterator[Frame]:
    """Yield each decoded picture once per sampling time while it is on screen."""
    aspect = stream.codec_context.sample_aspect_ratio or Fraction(1)
    start_s = end_s = 0.0
    num_given = 0
    current: av.VideoFrame | None = None
    for frame in container.decode(stream):
        if current is None:
            start_s = _time_s(frame, 0.0)
        now_s = _time_s(frame, end_s + start_s) - start_s
        repeats = max(0, round(now_s * fps) - num_given)
        if current is not None and repeats:
            yield from [_to_rgb(current, aspect, side)] * repeats
            num_given += repeats
        current = frame
        end_s = now_s + _frame_s(frame, stream)
    if current is not None:
        yield from [_to_rgb(current, aspect, side)] * max(0, round(end_s * fps) - num_given, 1 - num_given)


def _time_s(frame: av.VideoFrame, otherwise: float) -> float:
    return otherwise if frame.time is None else frame.time


def _frame_s(frame: av.VideoFrame, stream: VideoStream) -> float:
    if frame.duration and frame.time_base:
        return float(frame.duration * frame.time_base)
    return float(1 / (stream.average_rate or Fraction(FRAME_RATE_HZ)))


def _to_rgb(frame: av.VideoFrame, aspect: Fraction, side: int) -> Frame:
    """RGB, upright, with square pixels, each side at most `side`."""
    width, height = frame.width * float(aspect), float(frame.height)
    scale = min(1.0, side / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    rgb = frame.reformat(*size, format="rgb24", interpolation="AREA", threads=1).to_ndarray()
    return np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90)))


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _check_size(path: Path, stream: VideoStream, limits: Limits) -> None:
    if stream.width * stream.height > limits.video_pixels:
        raise InputError(
            "video_too_large",
            f"video {quoted(path)} has {stream.width} x {stream.height} pixels; "
            f"the limit is {limits.video_pixels / 1e6:g} megapixels",
            "Scale it down, or raise limits.video_pixels.",
        )
