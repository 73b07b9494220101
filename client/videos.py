"""What the client hands out and sends, the same over both protocols; and the errors it raises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from emotivetalk.actors.errors import OverloadError
from emotivetalk.errors import EmotiveTalkError, InputError
from emotivetalk.timebase import FRAME_RATE_HZ

UPLOAD_TIMEOUT_S = 900.0  # the service checks the inputs before it answers
CHUNK_BYTES = 1 << 16
FINAL = ("completed", "failed", "cancelled")

Source: TypeAlias = Path | str  # a string is a URL that the service fetches


@dataclass(frozen=True)
class VideoError:
    """Why a video failed: a stable code, and what to tell people."""

    code: str
    message: str


@dataclass(frozen=True)
class Video:
    """A video's job, as it was when it was asked for.

    Attributes:
        id: "video_" and 32 hexadecimal digits.
        status: "queued", "in_progress", "completed", "failed" or "cancelled".
        progress: percent; 100 only when completed.
        model: name of the checkpoint.
        created_at, started_at, completed_at, expires_at: whole seconds since the epoch, UTC; None: not yet.
        width, height: pixels.
        num_frames: of the whole video, 25 a second.
        frames_done: that can be streamed.
        error: None unless it failed.
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

    @property
    def duration_s(self) -> float:
        """How long the video is."""
        return self.num_frames / FRAME_RATE_HZ

    @property
    def is_final(self) -> bool:
        """Whether the status will stay as it is."""
        return self.status in FINAL


@dataclass(frozen=True)
class VideoPage:
    """Some videos, and whether more come after the last."""

    videos: tuple[Video, ...]
    has_more: bool


@dataclass(frozen=True)
class Order:
    """A video to make. `emotion` is JSON as in the HTTP interface; by image or video it has its file in `shown`."""

    portrait: Source
    audio: Source
    emotion: dict[str, Any] | None
    shown: Source | None
    seed: int
    num_steps: int | None
    emotion_strength: float
    face: int | None
    webhook_url: str | None
    idempotency_key: str

    def settings(self) -> dict[str, Any]:
        """The numbers that were given."""
        values = {
            "seed": self.seed,
            "num_steps": self.num_steps,
            "emotion_strength": self.emotion_strength,
            "face": self.face,
        }
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class EmotionChange:
    """Among the audio of a live video: what is spoken from here on has this emotion.

    Attributes:
        emotion: a name, or with an intensity, "happy:0.8".
        text: a description in English. With neither: the portrait's own expression.
    """

    emotion: str | None = None
    text: str | None = None

    def values(self) -> dict[str, Any] | None:
        """As JSON in the HTTP interface.

        Raises:
            InputError: both, or an intensity that is not a number.
        """
        if self.emotion is not None and self.text is not None:
            raise InputError(
                "emotion_conflict", "an emotion by name and one by text cannot be given together", "Choose one."
            )
        if self.emotion is not None:
            return label_values(self.emotion)
        return None if self.text is None else {"kind": "text", "text": self.text}


@dataclass(frozen=True)
class LiveOrder:
    """A live video. `audio` has 16-bit samples and changes of emotion, in their order; `settings` as in `Order`."""

    portrait: Path
    audio: Iterable[bytes | EmotionChange]
    emotion: dict[str, Any] | None
    settings: dict[str, Any]


class Transport(Protocol):
    """What a protocol has to be able to do. All methods raise EmotiveTalkError, with the service's code where it said one."""

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


def label_values(text: str) -> dict[str, Any]:
    """An emotion by name, "happy" or "happy:0.8", as JSON in the HTTP interface.

    Raises:
        InputError: the intensity is not a number.
    """
    name, colon, intensity = (part.strip() for part in text.partition(":"))
    if not colon:
        return {"kind": "label", "emotion": name}
    try:
        return {"kind": "label", "emotion": name, "intensity": float(intensity)}
    except ValueError as error:
        raise InputError(
            "emotion_invalid", f"the intensity in {text!r} is not a number", "Write it as in happy:0.8."
        ) from error


def said_by_service(
    code: str, whole: str, *, remedy: str | None = None, is_input: bool, retry_after_s: float | None = None
) -> EmotiveTalkError:
    """The error that the service told.

    Args:
        whole: message and remedy, as people read them.
        remedy: its last part, where it is known.
        is_input: the caller's mistake.
        retry_after_s: the service has enough to do, and says when to ask again.
    """
    if remedy and whole.endswith(remedy):
        message = whole.removesuffix(remedy).rstrip().removesuffix(".")
    else:
        message, _, remedy = whole.partition(". ")
    if retry_after_s is not None:
        error = OverloadError(code, message.rstrip("."), retry_after_s)
        error.remedy = remedy or error.remedy
        return error
    kind = InputError if is_input and code != "video_failed" else EmotiveTalkError
    return kind(code, message.rstrip("."), remedy or "Try again.")


def unreachable(address: str, why: object) -> EmotiveTalkError:
    """There is no service, or the connection to it broke."""
    return EmotiveTalkError(
        "service_unreachable",
        f"the service at {address} cannot be reached ({why})",
        "Check the address, and that `emotivetalk serve` runs there.",
    )


def timed_out(address: str) -> EmotiveTalkError:
    """The service did not answer in time."""
    return EmotiveTalkError(
        "service_timeout", f"the service at {address} did not answer in time", "Try again, or allow it more time."
    )
