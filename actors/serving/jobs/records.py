"""The records of the job store: jobs, segments, claims and webhook deliveries. All are frozen snapshots."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from emotivetalk.timebase import FRAME_RATE_HZ

OVERTAKE = 3.0
"""Seconds that a job lets younger ones pass for each second by which its video is longer."""


class JobStatus(StrEnum):
    """queued -> in_progress -> completed | failed | cancelled; `retry` returns the last two to queued."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """True if no worker will change the job any more."""
        return self not in (JobStatus.QUEUED, JobStatus.IN_PROGRESS)


@dataclass(frozen=True)
class JobError:
    """The reason why a job failed: a stable code, and a message for its owner."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """The part of a job that is fixed when it is created. Each field is a column of the job store.

    Args:
        job_id: "video_" and 32 hex digits; sorts by time of creation (`new_job_id`).
        owner: name of the caller's token; "" if authentication is off.
        request: JSON of the video's request (`VideoRequest.model_dump(mode="json")`).
        fingerprint: SHA-256, hex, of inputs, settings and checkpoint.
        num_frames: length of the whole video.
        width, height: pixels.
        model: public name of the checkpoint; None in rows of older programs.
        traceparent: trace of the request that created the job (W3C Trace Context), which rendering continues.
        batch_id: batch that the job is a row of; None for a single video.
        remixed_from: job whose portrait and speech this one has, with another emotion or other settings.
    """

    job_id: str
    owner: str
    request: dict[str, Any]
    fingerprint: str
    num_frames: int
    width: int
    height: int
    model: str | None = None
    traceparent: str | None = None
    batch_id: str | None = None
    remixed_from: str | None = None


@dataclass(frozen=True, kw_only=True)
class NewJob(JobSpec):
    """A job to create.

    Args:
        priority: jobs of higher priority are claimed first.
        webhook_url: receives a POST when the job ends, through `pending_deliveries`.
    """

    priority: int = 0
    webhook_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class Job(JobSpec):
    """A snapshot of a job's row. Times are seconds since the epoch, UTC.

    Args:
        attempt: number of times a worker began the job.
        fence: grows whenever the job changes hands; a worker with a smaller fence cannot publish.
        max_attempts: attempts in a row that may end without a published segment.
        next_segment: index of the first segment that is not published.
        num_segments: None until the job is planned.
        frames_done: frames in published segments.
        work_done: share of ETHD's steps that are computed, as of the last renewal; None before the first.
        result: artifact path of the finished video.
        device_s: seconds that networks and decoder computed for a finished video.
        error: reason of a failure.
        expires_at: time at which a finished job is removed with its files.
    """

    status: JobStatus
    attempt: int = 0
    fence: int = 0
    max_attempts: int
    next_segment: int = 0
    num_segments: int | None = None
    frames_done: int = 0
    work_done: float | None = None
    result: str | None = None
    device_s: float | None = None
    error: JobError | None = None
    created_at: float
    started_at: float | None = None
    completed_at: float | None = None
    expires_at: float | None = None

    @property
    def progress(self) -> int:
        """Percent of the work that is done, or of the frames that are published if that is more; 100 only when completed."""
        if self.status is JobStatus.COMPLETED:
            return 100
        return min(99, max(100 * self.frames_done // self.num_frames, int(100 * (self.work_done or 0.0))))

    @property
    def urgency(self) -> tuple[int, float]:
        """Order among the jobs that want a replica: smaller first. Rows of batches come after all single videos.

        The second number is a due time: that of creation, and `OVERTAKE` seconds for each second of video. A short video
        overtakes a long one that is not much older, and a long one is overtaken for a limited time only.
        """
        return int(self.batch_id is not None), self.created_at + OVERTAKE * self.num_frames / FRAME_RATE_HZ


@dataclass(frozen=True)
class Outlook:
    """When an unfinished job will probably end.

    Attributes:
        queue_position: queued jobs before it; None once it is in progress.
        expected_s: seconds to its end at the speed of the last minute; None if nothing was rendered in it.
    """

    queue_position: int | None
    expected_s: float | None


@dataclass(frozen=True)
class Segment:
    """A published part of a video. Each field is a column of the job store.

    Args:
        index: 0, 1, ...
        start_frame: index of its first frame in the video.
        path: artifact path of the fragment (moof and mdat).
        num_bytes: size of the fragment.
        sha256: hash of the fragment, hex.
        tail_path: artifact path of the latents to which the next segment is pinned; None for the last.
        timings: seconds by step.
        published_at: time of publication, set by the store.
    """

    job_id: str
    index: int
    start_frame: int
    num_frames: int
    path: str
    num_bytes: int
    sha256: str
    tail_path: str | None = None
    timings: dict[str, float] = field(default_factory=dict)
    published_at: float | None = None


@dataclass(frozen=True)
class Claim:
    """The right to work on a job until its lease ends or another worker takes over. `job` is a snapshot of that moment."""

    job: Job
    fence: int
    worker: str


@dataclass(frozen=True)
class JobPage:
    """A page of jobs, and a flag that is True if more follow."""

    jobs: list[Job]
    has_more: bool


@dataclass(frozen=True)
class Delivery:
    """A webhook to send when a job has ended.

    Args:
        delivery_id: "msg_" and 32 hex digits, the same at each attempt (the header `webhook-id`).
        event: "video.completed", "video.failed" or "video.cancelled".
        job: snapshot of the job at its end, so that each attempt sends the same body even if the job is deleted.
        attempt: counts from 1.
    """

    delivery_id: str
    url: str
    event: str
    job: Job
    attempt: int


def new_job_id(now: float | None = None) -> str:
    """Return a fresh id of a job; see `new_id`."""
    return new_id("video_", now)


def new_id(prefix: str, now: float | None = None) -> str:
    """Return a fresh id in the layout of UUID version 7: milliseconds, then random bits, so that ids sort by time.

    Args:
        now: seconds since the epoch; None is the current time.
    """
    milliseconds = int((time.time() if now is None else now) * 1000)
    version_and_random = 0x7000 | secrets.randbits(12)
    variant_and_random = (0b10 << 62) | secrets.randbits(62)
    return f"{prefix}{milliseconds:012x}{version_and_random:04x}{variant_and_random:016x}"
