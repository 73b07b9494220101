"""The client's values and errors, the same over both protocols."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from emotivetalk.client.batches import BatchTransport
from emotivetalk.errors import EmotiveTalkError, InputError, JobNotFoundError, OverloadError
from emotivetalk.request import Emotion, LabelEmotion, TextEmotion, VideoSettings, choose_emotion
from emotivetalk.timebase import FRAME_RATE_HZ

UPLOAD_TIMEOUT_S = 900.0  # the service checks the inputs before it answers
CHUNK_BYTES = 1 << 16
FINAL = ("completed", "failed", "cancelled")

Source: TypeAlias = Path | str  # a string is a URL that the service fetches, or the id of a file that it stores
_FILE_ID = re.compile(r"file-[0-9a-f]{32}")


def is_file_id(source: str) -> bool:
    """Return True for the id of a file that the service stores."""
    return _FILE_ID.fullmatch(source) is not None


@dataclass(frozen=True)
class VideoError:
    """The reason why a video failed: a stable code, and a message for people."""

    code: str
    message: str


@dataclass(frozen=True)
class Video:
    """A snapshot of a video's job.

    Attributes:
        id: "video_" and 32 hexadecimal digits.
        status: "queued", "in_progress", "completed", "failed" or "cancelled".
        progress: percent; 100 only when completed.
        model: name of the checkpoint.
        created_at, started_at, completed_at, expires_at: whole seconds since the epoch, UTC; None before the event.
        width, height: pixels.
        num_frames: length of the whole video at 25 frames a second.
        frames_done: frames that can be streamed already.
        error: None unless the video failed.
        device_s: seconds that networks and decoder computed; None unless the video is finished.
    """

    id: str
    status: str
    progress: int
    model: str
    created_at: int
    started_at: int | None
    completed_at: int | None
    expires_at: int | None
    width: int
    height: int
    num_frames: int
    frames_done: int
    seed: int
    error: VideoError | None = None
    device_s: float | None = None

    @property
    def duration_s(self) -> float:
        """Length of the video, seconds."""
        return self.num_frames / FRAME_RATE_HZ

    @property
    def is_final(self) -> bool:
        """True if the status will not change any more."""
        return self.status in FINAL


@dataclass(frozen=True)
class VideoPage:
    """A page of videos, and a flag that is True if more follow."""

    videos: tuple[Video, ...]
    has_more: bool


@dataclass(frozen=True)
class Order:
    """A video to make. An emotion by image or video has its file in `emotion_file`."""

    portrait: Source
    audio: Source
    emotion: Emotion | None
    emotion_file: Source | None
    settings: VideoSettings
    webhook_url: str | None
    idempotency_key: str


@dataclass(frozen=True)
class EmotionChange:
    """A change of emotion among the audio of a live video; it holds for the audio that follows.

    Attributes:
        emotion: a name, optionally with an intensity: "happy:0.8".
        text: a description in English. With neither, the emotion is the portrait's own expression.
    """

    emotion: str | None = None
    text: str | None = None

    def chosen(self) -> LabelEmotion | TextEmotion | None:
        """Return the emotion.

        Raises:
            InputError: both were given, or the one given is invalid.
        """
        emotion = choose_emotion({"emotion": self.emotion, "emotion_text": self.text})
        assert isinstance(emotion, LabelEmotion | TextEmotion | None)
        return emotion


@dataclass(frozen=True)
class LiveOrder:
    """A live video. `audio` yields 16-bit samples and changes of emotion, in order."""

    portrait: Path
    audio: Iterable[bytes | EmotionChange]
    emotion: LabelEmotion | TextEmotion | None
    settings: VideoSettings


class Transport(Protocol):
    """The operations of a protocol. All raise EmotiveTalkError, with the service's code if it answered with one."""

    @property
    def batches(self) -> BatchTransport: ...

    def create(self, order: Order) -> Video: ...

    def get(self, video_id: str) -> Video: ...

    def list(self, limit: int, after: str | None, order: str, status: str | None) -> VideoPage: ...

    def watch(self, video_id: str) -> Iterator[Video]: ...

    def stream(self, video_id: str) -> Iterator[bytes]: ...

    def content(self, video_id: str) -> Iterator[bytes]: ...

    def live(self, order: LiveOrder) -> Iterator[bytes]: ...

    def cancel(self, video_id: str) -> Video: ...

    def delete(self, video_id: str) -> None: ...

    def close(self) -> None: ...


def checked_id(video_id: str) -> str:
    """Return the id; raise JobNotFoundError if it would change the URL's path."""
    if not video_id.isascii() or not video_id.replace("_", "").replace("-", "").isalnum():
        raise JobNotFoundError(video_id)
    return video_id


def service_error(
    code: str, text: str, *, remedy: str | None, is_input: bool, retry_after_s: float | None = None
) -> EmotiveTalkError:
    """Rebuild the error that the service answered with.

    Args:
        text: message and remedy, as people read them.
        remedy: the last part of `text`; None if the service tells none.
        is_input: the caller's request is at fault.
        retry_after_s: the service is overloaded; seconds to wait.
    """
    message = text.removesuffix(remedy or "").rstrip().removesuffix(".")
    remedy = remedy or "Try again, or ask the operator."
    if retry_after_s is not None:
        return OverloadError(code, message, retry_after_s, remedy)
    kind = InputError if is_input and code != "video_failed" else EmotiveTalkError
    return kind(code, message, remedy)


def unreachable(address: str, why: object) -> EmotiveTalkError:
    """Return the error for a service that cannot be reached, or whose connection broke."""
    return EmotiveTalkError(
        "service_unreachable",
        f"the service at {address} cannot be reached ({why})",
        "Check the address, and that `emotivetalk serve` runs there.",
    )


def timed_out(address: str) -> EmotiveTalkError:
    """Return the error for an answer that did not come in time."""
    return EmotiveTalkError(
        "service_timeout", f"the service at {address} did not answer in time", "Try again, or allow it more time."
    )
