"""The records of batches: uploaded files, batches of videos, and their rows. All are frozen snapshots."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class BatchStatus(StrEnum):
    """The statuses of OpenAI's batches.

    validating -> in_progress -> finalizing -> completed. A batch whose file cannot be used has failed; one whose window
    ends has expired; `cancel` leads over cancelling to cancelled.
    """

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """True if the batch will not change any more."""
        return self in (BatchStatus.FAILED, BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED)


class RowStatus(StrEnum):
    """pending -> submitted -> completed | failed. A row of a cancelled or expired batch has failed."""

    PENDING = "pending"
    SUBMITTED = "submitted"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file that a caller uploaded, or the result of a batch. Each field is a column of the job store.

    Args:
        file_id: "file-" and 32 hex digits.
        purpose: "batch" (a manifest), "batch_output", or "user_data" (a portrait, speech or emotion).
        expires_at: time at which the file is removed; seconds since the epoch.
    """

    file_id: str
    owner: str
    filename: str
    purpose: str
    num_bytes: int
    created_at: float
    expires_at: float


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch of videos. Each field is a column of the job store; times are seconds since the epoch.

    Args:
        batch_id: "batch_" and 32 hex digits; sorts by time of creation.
        endpoint: "/v1/videos".
        completion_window: as the client wrote it ("24h").
        input_file_id: the manifest.
        output_file_id, error_file_id: the results, once the batch has ended; None where no row completed or failed.
        errors: reasons why the whole batch failed, as {"code", "message", "line"}.
        metadata: the client's own notes.
        num_total, num_completed, num_failed: counts of rows.
        expires_at: end of the completion window.
    """

    batch_id: str
    owner: str
    endpoint: str
    completion_window: str
    input_file_id: str
    status: BatchStatus
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: list[dict[str, Any]] | None = None
    metadata: dict[str, Any] | None = None
    num_total: int = 0
    num_completed: int = 0
    num_failed: int = 0
    created_at: float
    expires_at: float
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelling_at: float | None = None
    cancelled_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class BatchRow:
    """A row of a batch. Each field is a column of the job store.

    Args:
        index: 0, 1, ...
        line: line of the manifest, counted from 1.
        start, stop: bytes of the line in the manifest.
        custom_id: the client's name of the row, else a hash of its contents; None if it has none.
        job_id: the row's video, once it is created.
        error_code, error_message: why the row failed.
        attempts: times that a worker began the video.
        video_s: length of the video, seconds.
        device_s: seconds that V-AID, ETHD and the decoder computed.
        sha256: hash of the finished file, hex.
    """

    batch_id: str
    index: int
    line: int
    start: int
    stop: int
    custom_id: str | None = None
    status: RowStatus = RowStatus.PENDING
    job_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    attempts: int = 0
    video_s: float | None = None
    device_s: float | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class BatchClaim:
    """The right to work on a batch until its lease ends or another worker takes over. `batch` is of that moment."""

    batch: Batch
    fence: int
    worker: str


@dataclass(frozen=True)
class Page:
    """A page of files or batches, and a flag that is True if more follow."""

    items: list[Any]
    has_more: bool
