"""The only table of error codes and their HTTP and gRPC statuses.

An error that is not in it is 400 and INVALID_ARGUMENT if it is an InputError, else 500 and INTERNAL.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from emotivetalk.actors.errors import OverloadError
from emotivetalk.errors import EmotiveTalkError, InputError


@dataclass(frozen=True)
class Answer:
    """The status of an error.

    Attributes:
        http: status code.
        grpc: name of the `grpc.StatusCode`.
        retryable: True if the same request may succeed later.
    """

    http: int
    grpc: str
    retryable: bool = False


INVALID = Answer(400, "INVALID_ARGUMENT")
INTERNAL = Answer(500, "INTERNAL")
TOO_LARGE = Answer(413, "INVALID_ARGUMENT")
MISSING = Answer(404, "NOT_FOUND")
WRONG_STATE = Answer(409, "FAILED_PRECONDITION")
OVERLOADED = Answer(429, "RESOURCE_EXHAUSTED", retryable=True)
UNAVAILABLE = Answer(503, "UNAVAILABLE", retryable=True)
NO_SPACE = Answer(507, "UNAVAILABLE", retryable=True)

ANSWERS = {
    # Access
    "unauthorized": Answer(401, "UNAUTHENTICATED"),
    "origin_forbidden": Answer(403, "PERMISSION_DENIED"),
    # Existence
    "not_found": MISSING,
    "method_not_allowed": Answer(405, "UNIMPLEMENTED"),
    "job_not_found": MISSING,
    "segment_not_found": MISSING,
    "file_not_found": MISSING,
    "batch_not_found": MISSING,
    "artifact_not_found": MISSING,  # removed between the look-up and the read
    "model_not_found": MISSING,
    # The job's status
    "job_state": WRONG_STATE,
    "video_not_ready": Answer(409, "FAILED_PRECONDITION", retryable=True),
    "video_failed": WRONG_STATE,
    "video_cancelled": WRONG_STATE,
    "job_fenced": Answer(409, "ABORTED"),
    "idempotency_conflict": Answer(422, "ALREADY_EXISTS"),
    # The request itself
    "upload_too_large": TOO_LARGE,
    "image_too_many_bytes": TOO_LARGE,
    "audio_too_many_bytes": TOO_LARGE,
    "video_too_many_bytes": TOO_LARGE,
    "url_too_many_bytes": TOO_LARGE,
    "upload_timeout": Answer(408, "DEADLINE_EXCEEDED", retryable=True),
    "body_unsupported": Answer(415, "INVALID_ARGUMENT"),
    "range_unsatisfiable": Answer(416, "OUT_OF_RANGE"),
    # Load
    "queue_full": OVERLOADED,
    "too_many_jobs": OVERLOADED,
    "too_many_batches": OVERLOADED,
    "too_many_files": OVERLOADED,
    "rate_limited": OVERLOADED,
    "gateway_busy": OVERLOADED,
    "live_full": OVERLOADED,
    "too_many_live_calls": OVERLOADED,
    # Live calls
    "live_idle": Answer(408, "DEADLINE_EXCEEDED", retryable=True),
    "live_unavailable": Answer(501, "UNIMPLEMENTED"),
    "live_ended": UNAVAILABLE,
    # Dependencies of the service
    "job_store_unavailable": UNAVAILABLE,
    "job_store_missing": UNAVAILABLE,
    "artifacts_unavailable": UNAVAILABLE,
    "artifacts_no_space": NO_SPACE,
    "output_no_space": NO_SPACE,
    "output_failed": UNAVAILABLE,
    "intake_unavailable": UNAVAILABLE,
}

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def answer_to(error: BaseException) -> Answer:
    """Return the error's status."""
    if isinstance(error, EmotiveTalkError) and error.code in ANSWERS:
        return ANSWERS[error.code]
    if isinstance(error, OverloadError):
        return OVERLOADED
    return INVALID if isinstance(error, InputError) else INTERNAL


def public_error(error: BaseException) -> EmotiveTalkError:
    """Return the error that callers may read. Internal errors are replaced: their text may hold paths and addresses."""
    if isinstance(error, EmotiveTalkError) and (isinstance(error, InputError) or answer_to(error).http < 500):
        return error
    return EmotiveTalkError(
        error.code if isinstance(error, EmotiveTalkError) else "internal",
        "The service cannot do this now; the reason is in its log",
        "Try again, and tell the operator if the error persists.",
    )


def error_type(status: int) -> str:
    """Return OpenAI's class of errors for an HTTP status."""
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


def retry_after_s(error: BaseException) -> int | None:
    """Return the whole seconds to wait before the next try, at least 1; None if trying again does not help."""
    seconds = getattr(error, "retry_after_s", None)
    if seconds is None:
        return 1 if answer_to(error).retryable else None
    return max(1, math.ceil(seconds))
