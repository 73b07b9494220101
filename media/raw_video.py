"""Raw footage for a corpus: its pictures at 25 frames per second by time stamp, and its sound.

PyAV reads the header, because decord tells neither how large or complete a file is, nor its rotation and aspect. decord
reads the pictures. It gives up at random at the end of files with B-frames: PyAV reads those, and files that decord
refuses. Footage may be long, so pictures are read in stretches and not kept.
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
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import Float, Int, UInt8

from emotivetalk.errors import InputError
from emotivetalk.files import quoted
from emotivetalk.limits import Limits
from emotivetalk.media.audio import Waveform, read_sound
from emotivetalk.media.containers import claimed_duration_s, container_duration_s, is_cut_off, open_media, too_long
from emotivetalk.timebase import FRAME_RATE_HZ, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

RAW_LIMITS = Limits(video_s=1800.0, audio_s=2000.0)  # what is kept of half an hour is a gigabyte
_AT_ONCE = 16  # frames: of 4K video they are 400 MB
_MISSING_S, _MISSING_SHARE = 0.25, 0.02  # a header may promise so much more than there is
_EOF_RETRIES = "128"  # decord's default of 10240 keeps it busy for minutes at the end of a damaged file

log = logging.getLogger(__name__)

FrameArray = UInt8[np.ndarray, "frames height width 3"]


@dataclass(frozen=True)
class Footage:
    """Properties of a file, from its header.

    Attributes:
        width, height: as displayed: square pixels, upright.
        quarter_turns: counter-clockwise, from stored to upright.
        start_s: time of the first picture on the file's time line.
        claimed_s: length of the pictures, or of the whole file if the header has no other; None if it has neither.
        has_sound: True if there is a sound track.
        has_b_frames: True if pictures are stored in another order than they are displayed.
    """

    path: Path
    width: int
    height: int
    quarter_turns: int
    start_s: float
    claimed_s: float | None
    has_sound: bool
    has_b_frames: bool


def require_decord() -> ModuleType:
    """Import the package decord, set up for footage that may be damaged.

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
    """Read a file's header and its first picture.

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
        claimed_s = claimed_duration_s(path, container, stream) or container_duration_s(container)
        if claimed_s is not None and claimed_s > limits.video_s:
            raise too_long(path, "video", claimed_s, limits.video_s)
        sound = container.streams.best("audio")
        turns, start_s = _first_picture(container, stream)
        has_b_frames = stream.codec_context.has_b_frames
        width = max(2, round(stream.width * float(stream.codec_context.sample_aspect_ratio or Fraction(1))))
        height = stream.height
        size = (height, width) if turns % 2 else (width, height)
        return Footage(path, *size, turns, start_s, claimed_s, isinstance(sound, AudioStream), has_b_frames)


def _first_picture(container: InputContainer, stream: VideoStream) -> tuple[int, float]:
    for frame in container.decode(stream):
        return round(frame.rotation / 90) % 4, frame.time or 0.0
    return 0, 0.0


class PictureReader:
    """The pictures of a file at 25 frames per second: picture i is the one on screen at (i + 1/2) / 25 s.

    Args:
        footage: result of `probe`.
        long_side: pixels to which larger pictures are scaled down while they are decoded; None keeps their size.

    Raises:
        InputError: video_corrupt, video_empty.
    """

    def __init__(self, footage: Footage, long_side: int | None = None) -> None:
        decord = require_decord()
        self.footage = footage
        scale = 1.0 if long_side is None else min(1.0, long_side / max(footage.width, footage.height))
        self.width, self.height = max(2, round(footage.width * scale)), max(2, round(footage.height * scale))
        self._stored = (self.height, self.width) if footage.quarter_turns % 2 else (self.width, self.height)
        self._pictures: _DecordPictures | _AVPictures
        if footage.has_b_frames:
            self._pictures = _AVPictures(footage.path, *self._stored)
        else:
            try:
                self._pictures = _DecordPictures(decord, footage.path, *self._stored)
            except _decord_errors() as error:
                self._pictures = self._without_decord(error)
        if not self._pictures.starts_s:
            raise InputError(
                "video_empty", f"video {quoted(footage.path)} has no pictures in it", "Export it again, as MP4."
            )
        starts_s = np.array(self._pictures.starts_s)
        self.duration_s = self._pictures.end_s - starts_s[0]
        self.index = index_at_25(starts_s - starts_s[0], self.duration_s)

    def __len__(self) -> int:
        return len(self.index)

    def read(self, frames: Sequence[int]) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """Read pictures by their numbers, which must rise, as RGB. A few are decoded at once.

        Raises:
            InputError: video_corrupt.
        """
        for start in range(0, len(frames), _AT_ONCE):
            wanted = self.index[np.asarray(frames[start : start + _AT_ONCE])]
            unique, place = np.unique(wanted, return_inverse=True)
            try:
                pictures = self._pictures.read(unique.tolist())
            except _decord_errors() as error:
                self._pictures = self._without_decord(error)
                pictures = self._pictures.read(unique.tolist())
            for position in place:
                yield np.ascontiguousarray(np.rot90(pictures[position], self.footage.quarter_turns))

    def _without_decord(self, error: Exception) -> _AVPictures:
        """Read with PyAV; if that fails too, the error has the messages of both."""
        path = self.footage.path
        message = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        log.debug("decord refused %s: %s", path, error)
        try:
            return _AVPictures(path, *self._stored)
        except InputError as refused:
            raise InputError(refused.code, f"{refused.message}; decord: {message[0]}", refused.remedy) from error


class _DecordPictures:
    """A file's pictures by decord, at the given size.

    Attributes:
        starts_s: when each appears, rising.
        end_s: when the last one ends.
    """

    def __init__(self, decord: ModuleType, path: Path, width: int, height: int) -> None:
        self._reader: Any = decord.VideoReader(str(path), width=width, height=height, num_threads=1, ctx=decord.cpu(0))
        num = len(self._reader)
        stamps = np.asarray(self._reader.get_frame_timestamp(range(num)) if num else np.zeros((0, 2)), np.float64)
        self.starts_s: list[float] = stamps[:, 0].tolist()
        self.end_s = float(stamps[-1, 1]) if num else 0.0

    def read(self, indices: list[int]) -> FrameArray:
        """Read pictures by their rising numbers."""
        return self._reader.get_batch(indices).asnumpy()


class _AVPictures:
    """Pictures decoded by PyAV from the beginning of the file; reading backwards starts again."""

    def __init__(self, path: Path, width: int, height: int) -> None:
        self._path, self._width, self._height = path, width, height
        self.starts_s: list[float] = []
        self.end_s = 0.0
        for frame in self._decode():
            start_s = self.end_s if frame.time is None else frame.time
            length = (
                frame.duration * frame.time_base if frame.duration and frame.time_base else Fraction(1, FRAME_RATE_HZ)
            )
            self.starts_s.append(start_s)
            self.end_s = start_s + float(length)
        self._frames = self._decode()
        self._next = 0

    def _decode(self) -> Iterator[VideoFrame]:
        with open_media(self._path, "video", RAW_LIMITS) as container:
            stream = container.streams.best("video")
            assert isinstance(stream, VideoStream)
            yield from container.decode(stream)

    def read(self, indices: list[int]) -> FrameArray:
        """Read pictures by their rising numbers."""
        if indices[0] < self._next:
            self._frames, self._next = self._decode(), 0
        wanted, pictures = set(indices), []
        while self._next <= indices[-1]:
            frame = next(self._frames)
            if self._next in wanted:
                scaled = frame.reformat(self._width, self._height, format="rgb24", interpolation="AREA", threads=1)
                pictures.append(scaled.to_ndarray())
            self._next += 1
        return np.stack(pictures)


def _decord_errors() -> tuple[type[Exception], ...]:
    """Classes of decord's exceptions. Its own class derives from Exception only."""
    return RuntimeError, require_decord().DECORDError


def index_at_25(
    starts_s: Float[np.ndarray, " pictures"], end_s: float, frames_per_s: int = FRAME_RATE_HZ
) -> Int[np.ndarray, " frames"]:
    """Number of the picture that is on screen at (i + 1/2) / 25 s, for every i before the end, at least one.

    Args:
        starts_s: when each picture appears, rising, the first at 0.
        end_s: when the last one ends.
    """
    num = max(1, round(end_s * frames_per_s))
    middles = (np.arange(num) + 0.5) / frames_per_s
    return np.clip(np.searchsorted(starts_s, middles + 1e-6, side="right") - 1, 0, len(starts_s) - 1)


def read_beside(footage: Footage, num_frames: int, limits: Limits = RAW_LIMITS) -> tuple[Waveform, float]:
    """Read the sound of the first `num_frames` pictures, 16 kHz mono, with silence where the track has none.

    Returns:
        The samples, 640 per frame; and the length of the whole sound track in seconds.

    Raises:
        InputError: audio_missing_stream; audio_corrupt.
    """
    sound, start_s = read_sound(footage.path, limits)
    late = round((start_s - footage.start_s) * SAMPLE_RATE_HZ)
    aligned = np.concatenate([np.zeros(max(0, late), np.float32), sound[max(0, -late) :]])
    num_samples = num_frames * SAMPLES_PER_FRAME
    return np.pad(aligned[:num_samples], (0, max(0, num_samples - len(aligned)))), len(sound) / SAMPLE_RATE_HZ


def check_whole(footage: Footage, pictures_s: float, sound_s: float) -> None:
    """Raise InputError (video_truncated) if pictures and sound are clearly shorter than the header says.

    Args:
        pictures_s, sound_s: their lengths; the header's may be that of either.
    """
    claimed_s, found_s = footage.claimed_s, max(pictures_s, sound_s)
    if claimed_s is not None and found_s < claimed_s - max(_MISSING_S, _MISSING_SHARE * claimed_s):
        raise _truncated(footage.path, f"it should last {claimed_s:.2f} s, {found_s:.2f} s are there")


def _truncated(path: Path, why: str) -> InputError:
    return InputError("video_truncated", f"video {quoted(path)} is cut off: {why}", "Copy or export it again.")
