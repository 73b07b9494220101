"""The error tree. Every error carries a stable code, a message that names the input and the limit, and a remedy."""

from __future__ import annotations

from typing import Any, Self, TypeVar

ErrorT = TypeVar("ErrorT", bound="EmotiveTalkError")


class EmotiveTalkError(Exception):
    """Base of all run-time errors. Instances survive pickling, whatever a subclass's constructor takes.

    Args:
        code: stable name for programs, subject first: "audio_silent", "image_too_large".
        message: what is wrong, naming the input and the limit, without a full stop at its end.
        remedy: what the user can do, one sentence or more.
    """

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(code, message, remedy)
        self.code = code
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (type(self), self.code, self.message, self.remedy, self.__dict__)

    def within(self, place: str) -> Self:
        """Return the same error with `place` in front of its message, as in "key 2: there is no emotion 'hapy'"."""
        return _revive(type(self), self.code, f"{place}: {self.message}", self.remedy, {})


def _revive(kind: type[ErrorT], code: str, message: str, remedy: str, fields: dict[str, Any]) -> ErrorT:
    error = kind.__new__(kind, code, message, remedy)
    EmotiveTalkError.__init__(error, code, message, remedy)
    error.__dict__.update(fields)
    return error


class InputError(EmotiveTalkError):
    """The user's input cannot be used (exit status 2 of the command)."""


class InvalidValueError(InputError, ValueError):
    """A value that the user chose is unknown or out of range; a ValueError to callers from Python."""


class InvalidRequestError(InputError):
    """A field of a request is missing, unknown or invalid.

    Args:
        field: path of the field, such as "emotion.intensity"; empty for the request as a whole.
        message: what is wrong with it.
    """

    def __init__(self, field: str, message: str, remedy: str = "Correct the value.") -> None:
        super().__init__("request_invalid", f"{field}: {message}" if field else message, remedy)
        self.field = field
        self.reason = message


class OutputError(EmotiveTalkError):
    """A result could not be written although its place was usable before the work began (disk full, folder gone)."""


class OverloadError(EmotiveTalkError):
    """The service refuses work because it has enough.

    Attributes:
        retry_after_s: seconds to wait before the next try.
    """

    def __init__(self, code: str, message: str, retry_after_s: float, remedy: str | None = None) -> None:
        super().__init__(code, message, remedy or f"Try again in {retry_after_s:.3g} s.")
        self.retry_after_s = retry_after_s


class JobNotFoundError(InputError):
    """The job does not exist or belongs to another caller; the two are not told apart."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            "job_not_found", f"there is no video {job_id}", "Check the id; videos are removed when they expire."
        )
        self.job_id = job_id


class VideoNotReadyError(InputError):
    """The finished video was requested before it was finished."""

    def __init__(self, job_id: str, status: str, progress: int) -> None:
        super().__init__(
            "video_not_ready",
            f"video {job_id} is {status} ({progress} %)",
            "Ask again when its status is completed, or read its stream.",
        )
        self.job_id = job_id
        self.status = status
