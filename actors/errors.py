"""Errors of the service, on top of `emotivetalk.errors`. `gateway/errors.py` maps codes to HTTP and gRPC statuses."""

from __future__ import annotations

from emotivetalk.errors import EmotiveTalkError, InputError, JobNotFoundError, OverloadError, VideoNotReadyError

__all__ = [
    "ArtifactNotFoundError",
    "ArtifactStoreError",
    "BatchNotFoundError",
    "FencedError",
    "FileNotFoundInStoreError",
    "IdempotencyConflictError",
    "JobNotFoundError",
    "JobStateError",
    "JobStoreError",
    "OverloadError",
    "QueueFullError",
    "RateLimitedError",
    "ServingError",
    "TooManyBatchesError",
    "TooManyJobsError",
    "UnauthorizedError",
    "VideoCancelledError",
    "VideoFailedError",
    "VideoNotReadyError",
]


class ServingError(EmotiveTalkError):
    """An error of the service itself."""


class JobStateError(ServingError, InputError):
    """The job's status does not allow the operation."""

    def __init__(self, job_id: str, status: str, message: str, remedy: str) -> None:
        super().__init__("job_state", message, remedy)
        self.job_id = job_id
        self.status = status


class FencedError(ServingError):
    """The claim is void: another worker holds the job, or it ended or was deleted. Stop, and publish nothing."""

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__("job_fenced", f"the claim on {job_id} is void: {reason}", "Stop working on it.")
        self.job_id = job_id


class IdempotencyConflictError(ServingError, InputError):
    """The Idempotency-Key was used before with another request."""

    def __init__(self, key: str, job_id: str) -> None:
        super().__init__(
            "idempotency_conflict",
            f"Idempotency-Key {key!r} was used for another request, which made {job_id}",
            "Send the same request as before, or a new key.",
        )
        self.key = key
        self.job_id = job_id


class QueueFullError(OverloadError):
    """The queue holds as many jobs as it may."""

    def __init__(self, max_queued: int, retry_after_s: float) -> None:
        super().__init__(
            "queue_full", f"{max_queued} videos are queued, which is the limit limits.max_queued", retry_after_s
        )


class TooManyJobsError(OverloadError):
    """The caller has as many unfinished jobs as it may."""

    def __init__(self, max_per_owner: int, retry_after_s: float) -> None:
        super().__init__(
            "too_many_jobs",
            f"you have {max_per_owner} unfinished videos, which is the limit limits.max_concurrent_jobs",
            retry_after_s,
        )


class TooManyBatchesError(OverloadError):
    """The caller has as many unfinished batches as it may."""

    def __init__(self, max_per_owner: int) -> None:
        super().__init__(
            "too_many_batches",
            f"you have {max_per_owner} unfinished batches, which is the limit limits.max_batches",
            60.0,
        )


class RateLimitedError(OverloadError):
    """The caller exceeds its request rate."""

    def __init__(self, requests_per_minute: int, retry_after_s: float) -> None:
        super().__init__(
            "rate_limited",
            f"more than {requests_per_minute} requests in a minute, which is the limit limits.requests_per_minute",
            retry_after_s,
        )


class FileNotFoundInStoreError(ServingError, InputError):
    """The uploaded file does not exist or belongs to another caller; the two are not told apart."""

    def __init__(self, file_id: str) -> None:
        name = file_id if len(file_id) <= 64 and file_id.isprintable() else "with this id"
        super().__init__(
            "file_not_found", f"there is no file {name}", "Check the id; files are removed when they expire."
        )
        self.file_id = file_id


class BatchNotFoundError(ServingError, InputError):
    """The batch does not exist or belongs to another caller; the two are not told apart."""

    def __init__(self, batch_id: str) -> None:
        name = batch_id if len(batch_id) <= 64 and batch_id.isprintable() else "with this id"
        super().__init__(
            "batch_not_found", f"there is no batch {name}", "Check the id; ended batches are removed later."
        )
        self.batch_id = batch_id


class UnauthorizedError(ServingError, InputError):
    """The bearer token is missing or unknown."""

    def __init__(self, message: str = "a valid bearer token is needed") -> None:
        super().__init__("unauthorized", message, "Send the header `Authorization: Bearer <token>`.")


class VideoFailedError(ServingError):
    """The requested video's job failed.

    Attributes:
        cause: the job's `error.code`.
    """

    def __init__(self, job_id: str, cause: str, message: str) -> None:
        super().__init__("video_failed", f"video {job_id} failed: {message}", "Send the request again.")
        self.job_id = job_id
        self.cause = cause


class VideoCancelledError(ServingError, InputError):
    """The requested video's job was cancelled."""

    def __init__(self, job_id: str) -> None:
        super().__init__("video_cancelled", f"video {job_id} was cancelled", "Send the request again.")
        self.job_id = job_id


class JobStoreError(ServingError):
    """The database of jobs is unusable: `job_store_unavailable`, `job_store_version`, `job_store_missing`."""


class ArtifactStoreError(ServingError):
    """The artifact store is unusable: `artifacts_unavailable`, `artifacts_no_space`."""


class ArtifactNotFoundError(ArtifactStoreError):
    """A file is missing from the artifact store."""

    def __init__(self, path: str) -> None:
        super().__init__("artifact_not_found", f"{path} is not in the artifact store", "It may have been removed.")
        self.path = path
