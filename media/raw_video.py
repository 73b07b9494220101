"""Raw footage for a corpus: pictures by decord, at 25 frames a second by time stamp, and the sound that goes with them.

PyAV looks at the container first, because decord neither says how large or how complete a file is nor turns and
stretches pictures as players do. Footage may be long, so pictures are read in stretches and never kept.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from jaxtyping import Float, Int, UInt8

from emotivetalk.errors import InputError
from emotivetalk.files import quoted
from emotivetalk.limits import Limits
from emotivetalk.media.audio import Waveform, read_sound
from emotivetalk.media.containers import claimed_duration_s, is_cut_off, open_media, too_long
from emotivetalk.timebase import FRAME_RATE_HZ, SAMPLE_RATE_HZ

RAW_LIMITS = Limits(video_s=1800.0, audio_s=2000.0)  # what is kept of half an hour is a gigabyte
_AT_ONCE = 16  # frames: of 4K video they are 400 MB
_MISSING_S, _MISSING_SHARE = 0.25, 0.02  # a header may promise so much more than there is
_EOF_RETRIES = "128"  # decord's own 10240 keep it busy for minutes at the end of a damaged file

log = logging.getLogger(__name__)

Frames = UInt8[np.ndarray, "frames height width 3"]


@dataclass(frozen=True)
class Footage:
    """What a file says of itself.

    Attributes:
        width, height: as shown: square pixels, upright.
        quarter_turns: counter-clockwise, from stored to upright.
        start_s: of the first picture, on the file's time line.
        claimed_s: how long the pictures last, or all of the file where the stream says nothing.
        has_sound: whether there is a sound track.
    """

    path: Path
    width: int
    height: int
    quarter_turns: int
    start_s: float
    claimed_s: float | None
    has_sound: bool


def require_decord() -> ModuleType:
    """The package decord, set up for footage that may be damaged.

    Raises:
        InputError: it is not installed.
    """
    os.environ.setdefault("DECORD_EOF_RETRY_MAX", _EOF_RETRIES)
    try:
        import decord
    except ImportError as error:
        raise InputError(
            "decord_missing",
            f"reading raw video needs the package decord, which cannot be imported ({error})",
            "Install it with: pip install 'emotivetalk[prepare]'.",
        ) from error
    decord.logging.set_level(decord.logging.QUIET)
    return decord


def probe(path: Path, limits: Limits = RAW_LIMITS) -> Footage:
    """Look at a file's header and its first picture.

    Raises:
        InputError: video_unreadable, video_truncated, video_missing_stream, video_too_large, video_too_long, and what
            `emotivetalk.files.check_readable` raises.
    """
    if is_cut_off(path):
        raise _truncated(path, "its last part is missing")
    with open_media(path, "video", limits) as container:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
            raise InputError(
                "video_missing_stream", f"video {quoted(path)} has no moving pictures", "Give a file with video."
            )
        if stream.width * stream.height > limits.video_pixels:
            raise InputError(
                "video_too_large",
                f"video {quoted(path)} has {stream.width} x {stream.height} pixels; "
                f"the limit is {limits.video_pixels / 1e6:g} megapixels",
                "Scale it down.",
            )
        claimed_s = claimed_duration_s(path, container, stream)
        if claimed_s is not None and claimed_s > limits.video_s:
            raise too_long(path, "video", claimed_s, limits.video_s)
        sound = container.streams.best("audio")
        turns, start_s = _first_picture(container, stream)
        width = max(2, round(stream.width * float(stream.codec_context.sample_aspect_ratio or Fraction(1))))
        height = stream.height
        size = (height, width) if turns % 2 else (width, height)
        return Footage(path, *size, turns, start_s, claimed_s, isinstance(sound, AudioStream))


def _first_picture(container: InputContainer, stream: VideoStream) -> tuple[int, float]:
    for frame in container.decode(stream):
        return round(frame.rotation / 90) % 4, frame.time or 0.0
    return 0, 0.0


class PictureReader:
    """The pictures of a file at 25 frames a second: picture i is what was on screen at (i + 1/2) / 25 s.

    Args:
        footage: what `probe` gave.
        long_side: pictures larger than this are scaled down to it while they are decoded; None leaves them as they are.

    Raises:
        InputError: video_codec (decord does not know it), video_truncated, video_corrupt, video_empty.
    """

    def __init__(self, footage: Footage, long_side: int | None = None) -> None:
        decord = require_decord()
        self.footage = footage
        scale = 1.0 if long_side is None else min(1.0, long_side / max(footage.width, footage.height))
        self.width, self.height = max(2, round(footage.width * scale)), max(2, round(footage.height * scale))
        stored = (self.height, self.width) if footage.quarter_turns % 2 else (self.width, self.height)
        try:
            self._reader: Any = decord.VideoReader(
                str(footage.path), width=stored[0], height=stored[1], num_threads=1, ctx=decord.cpu(0)
            )
            num = len(self._reader)
            stamps = np.asarray(self._reader.get_frame_timestamp(range(num)) if num else np.zeros((0, 2)), np.float64)
        except RuntimeError as error:  # decord's own error is one
            raise self._refused(error) from error
        if len(stamps) == 0:
            raise InputError(
                "video_empty", f"video {quoted(footage.path)} has no pictures in it", "Export it again, as MP4."
            )
        self.index = index_at_25(stamps[:, 0] - stamps[0, 0], float(stamps[-1, 1] - stamps[0, 0]))
        self.duration_s = float(stamps[-1, 1] - stamps[0, 0])

    def __len__(self) -> int:
        return len(self.index)

    def read(self, frames: Sequence[int]) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """Pictures by their number, rising, each as RGB; a few are decoded at once.

        Raises:
            InputError: video_corrupt.
        """
        for start in range(0, len(frames), _AT_ONCE):
            wanted = self.index[np.asarray(frames[start : start + _AT_ONCE])]
            unique, place = np.unique(wanted, return_inverse=True)
            try:
                pictures = self._reader.get_batch(unique.tolist()).asnumpy()
            except RuntimeError as error:
                raise self._refused(error) from error
            for position in place:
                yield np.ascontiguousarray(np.rot90(pictures[position], self.footage.quarter_turns))

    def _refused(self, error: RuntimeError) -> InputError:
        path, said = self.footage.path, str(error)
        log.debug("decord refused %s: %s", path, said)
        if "cannot find video stream" in said or "avcodec" in said.lower():
            return InputError(
                "video_codec",
                f"the pictures of video {quoted(path)} are coded in a way that decord does not know",
                "Convert it to H.264.",
            )
        if "av_read_frame" in said:
            return _truncated(path, "reading ends too early")
        return InputError("video_corrupt", f"video {quoted(path)} is damaged", "Copy or export it again.")


def index_at_25(
    starts_s: Float[np.ndarray, " pictures"], end_s: float, frames_per_s: int = FRAME_RATE_HZ
) -> Int[np.ndarray, " frames"]:
    """Which of the pictures is on screen at (i + 1/2) / 25 s, for every i before the end (at least one).

    Args:
        starts_s: when each appears, rising, the first at 0.
        end_s: when the last one goes.
    """
    num = max(1, round(end_s * frames_per_s))
    middles = (np.arange(num) + 0.5) / frames_per_s
    return np.clip(np.searchsorted(starts_s, middles + 1e-6, side="right") - 1, 0, len(starts_s) - 1)


def read_beside(footage: Footage, num_frames: int, limits: Limits = RAW_LIMITS) -> tuple[Waveform, float]:
    """The sound of `num_frames` pictures from the first one on, 16 kHz mono; silence where the file has none.

    Returns:
        The samples, 640 a frame; and how long the sound track is by itself, in seconds.

    Raises:
        InputError: audio_missing_stream; audio_corrupt.
    """
    sound, start_s = read_sound(footage.path, limits)
    late = round((start_s - footage.start_s) * SAMPLE_RATE_HZ)
    heard = np.concatenate([np.zeros(max(0, late), np.float32), sound[max(0, -late) :]])
    num_samples = num_frames * (SAMPLE_RATE_HZ // FRAME_RATE_HZ)
    return np.pad(heard[:num_samples], (0, max(0, num_samples - len(heard)))), len(sound) / SAMPLE_RATE_HZ


def check_whole(footage: Footage, pictures_s: float, sound_s: float) -> None:
    """Raise InputError (video_truncated) if the header promises clearly more than pictures and sound last.

    Args:
        pictures_s, sound_s: how long they are; the header's figure may be either's.
    """
    claimed_s, found_s = footage.claimed_s, max(pictures_s, sound_s)
    if claimed_s is not None and found_s < claimed_s - max(_MISSING_S, _MISSING_SHARE * claimed_s):
        raise _truncated(footage.path, f"it should last {claimed_s:.2f} s, {found_s:.2f} s are there")


def _truncated(path: Path, why: str) -> InputError:
    return InputError("video_truncated", f"video {quoted(path)} is cut off: {why}", "Copy or export it again.")
