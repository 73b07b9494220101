"""What can go wrong in serving, on top of `emotivetalk.errors`. HTTP and gRPC translate by `code`, in one table of the gateway."""

from __future__ import annotations

from typing import Any

from emotivetalk.errors import EmotiveTalkError, InputError


class ServingError(EmotiveTalkError):
    """An error of the service. Unlike a plain exception with its own arguments it survives pickling between processes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (type(self), self.code, self.message, self.remedy, self.__dict__)


def _revive(kind: type[ServingError], code: str, message: str, remedy: str, fields: dict[str, Any]) -> ServingError:
    error = kind.__new__(kind, code, message, remedy)
    EmotiveTalkError.__init__(error, code, message, remedy)
    error.__dict__.update(fields)
    return error


class JobNotFoundError(ServingError, InputError):
    """There is no such job, or it is somebody else's (who asks cannot tell which)."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            "job_not_found", f"there is no video {job_id}", "Check the id; videos are removed when they expire."
        )
        self.job_id = job_id


class JobStateError(ServingError, InputError):
    """What was asked for does not go with the job's status."""

    def __init__(self, job_id: str, status: str, message: str, remedy: str) -> None:
        super().__init__("job_state", message, remedy)
        self.job_id = job_id
        self.status = status


class FencedError(ServingError):
    """Somebody else has the job now, or it is cancelled, done or deleted: stop working on it and publish nothing."""

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__("job_fenced", f"the claim on {job_id} is void: {reason}", "Stop working on it.")
        self.job_id = job_id


class IdempotencyConflictError(ServingError, InputError):
    """The same Idempotency-Key came with another request."""

    def __init__(self, key: str, job_id: str) -> None:
        super().__init__(
            "idempotency_conflict",
            f"Idempotency-Key {key!r} was used for another request, which made {job_id}",
            "Send the same request as before, or a new key.",
        )
        self.key = key
        self.job_id = job_id


class OverloadError(ServingError):
    """The service answers that it has enough to do.

    Attributes:
        retry_after_s: when to ask again, seconds.
    """

    def __init__(self, code: str, message: str, retry_after_s: float) -> None:
        super().__init__(code, message, f"Try again in {retry_after_s:.3g} s.")
        self.retry_after_s = retry_after_s


class QueueFullError(OverloadError):
    """As many jobs wait as the service lets wait."""

    def __init__(self, max_queued: int, retry_after_s: float) -> None:
        super().__init__(
            "queue_full", f"{max_queued} videos wait already, which is the limit limits.max_queued", retry_after_s
        )


class TooManyJobsError(OverloadError):
    """The caller has as many unfinished jobs as one caller may have."""

    def __init__(self, max_per_owner: int, retry_after_s: float) -> None:
        super().__init__(
            "too_many_jobs",
            f"you have {max_per_owner} unfinished videos, which is the limit limits.max_concurrent_jobs",
            retry_after_s,
        )


class RateLimitedError(OverloadError):
    """The caller asks more often than it may."""

    def __init__(self, requests_per_minute: int, retry_after_s: float) -> None:
        super().__init__(
            "rate_limited",
            f"more than {requests_per_minute} requests in a minute, which is the limit limits.requests_per_minute",
            retry_after_s,
        )


class UnauthorizedError(ServingError, InputError):
    """No token, or one that is not known."""

    def __init__(self, message: str = "a valid bearer token is needed") -> None:
        super().__init__("unauthorized", message, "Send the header `Authorization: Bearer <token>`.")


class VideoNotReadyError(ServingError, InputError):
    """The finished video was asked for before it was finished."""

    def __init__(self, job_id: str, status: str, progress: int) -> None:
        super().__init__(
            "video_not_ready",
            f"video {job_id} is {status} ({progress} %)",
            "Ask again when its status is completed, or read its stream.",
        )
        self.job_id = job_id
        self.status = status


class VideoFailedError(ServingError):
    """The video was asked for, but its job failed.

    Attributes:
        cause: the job's `error.code`.
    """

    def __init__(self, job_id: str, cause: str, message: str) -> None:
        super().__init__("video_failed", f"video {job_id} failed: {message}", "Send the request again.")
        self.job_id = job_id
        self.cause = cause


class VideoCancelledError(ServingError, InputError):
    """The video was asked for, but its job was cancelled."""

    def __init__(self, job_id: str) -> None:
        super().__init__("video_cancelled", f"video {job_id} was cancelled", "Send the request again.")
        self.job_id = job_id


class JobStoreError(ServingError):
    """The database of jobs cannot be used: `job_store_unavailable`, `job_store_version`, `job_store_missing`."""


class ArtifactStoreError(ServingError):
    """The store of files cannot be used: `artifacts_unavailable`, `artifacts_no_space`."""


class ArtifactNotFoundError(ArtifactStoreError):
    """A file that should be in the store is not."""

    def __init__(self, path: str) -> None:
        super().__init__("artifact_not_found", f"{path} is not in the artifact store", "It may have been removed.")
        self.path = path
