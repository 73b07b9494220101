"""The one table from error codes to HTTP and gRPC statuses.

What is not in it: an InputError is the caller's mistake (400, INVALID_ARGUMENT), anything else is ours (500, INTERNAL).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from emotivetalk.actors.errors import OverloadError
from emotivetalk.errors import EmotiveTalkError, InputError


@dataclass(frozen=True)
class Answer:
    """How an error is told.

    Attributes:
        http: status code.
        grpc: name of the `grpc.StatusCode`.
        retryable: the same request may succeed later.
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
    # Who may
    "unauthorized": Answer(401, "UNAUTHENTICATED"),
    "origin_forbidden": Answer(403, "PERMISSION_DENIED"),
    # What there is
    "not_found": MISSING,
    "method_not_allowed": Answer(405, "UNIMPLEMENTED"),
    "job_not_found": MISSING,
    "segment_not_found": MISSING,
    "artifact_not_found": MISSING,  # removed between looking and reading
    "model_not_found": MISSING,
    # What goes with a job's status
    "job_state": WRONG_STATE,
    "video_not_ready": Answer(409, "FAILED_PRECONDITION", retryable=True),
    "video_failed": WRONG_STATE,
    "video_cancelled": WRONG_STATE,
    "job_fenced": Answer(409, "ABORTED"),
    "idempotency_conflict": Answer(422, "ALREADY_EXISTS"),
    # Requests as such
    "upload_too_large": TOO_LARGE,
    "image_too_many_bytes": TOO_LARGE,
    "audio_too_many_bytes": TOO_LARGE,
    "video_too_many_bytes": TOO_LARGE,
    "url_too_many_bytes": TOO_LARGE,
    "upload_timeout": Answer(408, "DEADLINE_EXCEEDED", retryable=True),
    "body_unsupported": Answer(415, "INVALID_ARGUMENT"),
    "range_unsatisfiable": Answer(416, "OUT_OF_RANGE"),
    # Enough to do
    "queue_full": OVERLOADED,
    "too_many_jobs": OVERLOADED,
    "rate_limited": OVERLOADED,
    "gateway_busy": OVERLOADED,
    "live_full": OVERLOADED,
    "too_many_live_calls": OVERLOADED,
    # Live calls
    "live_idle": Answer(408, "DEADLINE_EXCEEDED", retryable=True),
    "live_unavailable": Answer(501, "UNIMPLEMENTED"),
    "live_ended": UNAVAILABLE,
    # Things that the service stands on
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
    """How to tell this error."""
    if isinstance(error, EmotiveTalkError) and error.code in ANSWERS:
        return ANSWERS[error.code]
    if isinstance(error, OverloadError):
        return OVERLOADED
    return INVALID if isinstance(error, InputError) else INTERNAL


def public_code(error: BaseException) -> str:
    """The error's code; "internal" for what is ours and no error that we have a name for."""
    return error.code if isinstance(error, EmotiveTalkError) else "internal"


def public_message(error: BaseException) -> str:
    """What callers may read: nothing of our insides (paths, addresses) where the error is ours."""
    if isinstance(error, InputError) or (isinstance(error, EmotiveTalkError) and answer_to(error).http < 500):
        return str(error)
    return "The service cannot do this now; the reason is in its log. Try again, and tell the operator if it stays."


def error_type(status: int) -> str:
    """The class of errors that clients of OpenAI's API know, by HTTP status."""
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


def retry_after_s(error: BaseException) -> int | None:
    """Whole seconds after which to try again, at least 1; None where the error does not say."""
    seconds = getattr(error, "retry_after_s", None)
    if seconds is None:
        return 1 if answer_to(error).retryable else None
    return max(1, math.ceil(seconds))
