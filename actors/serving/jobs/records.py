"""What the job store gives out: jobs, their segments, claims on them, and deliveries to webhooks. Snapshots, all frozen."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class JobStatus(StrEnum):
    """queued -> in_progress -> completed | failed | cancelled; `retry` takes the last two back to queued."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether nobody works on the job any more."""
        return self not in (JobStatus.QUEUED, JobStatus.IN_PROGRESS)


@dataclass(frozen=True)
class JobError:
    """Why a job failed: a stable code and what to tell its owner."""

    code: str
    message: str


@dataclass(frozen=True)
class Job:
    """One video to render, as its row was when it was read. Times are seconds since the epoch, UTC.

    Args:
        job_id: "video_" and 32 hex digits; sorts by time of creation.
        owner: name of the token that asked; "" where authentication is off.
        request: what to render, JSON (`VideoRequest.model_dump(mode="json")`).
        fingerprint: sha256, hex, of inputs, settings and checkpoint.
        num_frames: of the whole video.
        attempt: how often a worker began it.
        fence: grows whenever the job changes hands; work done under a smaller one cannot be published.
        max_attempts: how many attempts in a row may end without a published segment.
        next_segment: the first that is not published.
        num_segments: None until it is planned.
        frames_done: in published segments.
        result: artifact path of the finished video.
        expires_at: when a finished job will be removed with its files.
        model: the public name of the checkpoint that renders it; None in rows of programs that did not write it.
        traceparent: of the request that made it, so that who renders it goes on with its trace (W3C Trace Context).
    """

    job_id: str
    owner: str
    status: JobStatus
    request: dict[str, Any]
    fingerprint: str
    num_frames: int
    width: int
    height: int
    attempt: int
    fence: int
    max_attempts: int
    next_segment: int
    num_segments: int | None
    frames_done: int
    result: str | None
    error: JobError | None
    created_at: float
    started_at: float | None
    completed_at: float | None
    expires_at: float | None
    model: str | None = None
    traceparent: str | None = None

    @property
    def progress(self) -> int:
        """Percent, 0 to 100; 100 only when completed."""
        if self.status is JobStatus.COMPLETED:
            return 100
        return min(99, 100 * self.frames_done // self.num_frames)


@dataclass(frozen=True)
class Segment:
    """A published part of a video.

    Args:
        index: 0, 1, ...
        start_frame: its first frame in the video.
        path: artifact path of the fragment (moof and mdat).
        num_bytes: of the fragment.
        sha256: of the fragment, hex.
        tail_path: artifact path of the latents to which the next segment is pinned; None for the last.
        timings: seconds by stage.
        published_at: set by the store.
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
    """The right to work on a job, until its lease ends or somebody takes it away. `job` is as it was when claimed."""

    job: Job
    fence: int
    worker: str


@dataclass(frozen=True)
class JobPage:
    """Jobs in order, and whether there are more behind the last."""

    jobs: list[Job]
    has_more: bool


@dataclass(frozen=True)
class Delivery:
    """A webhook to send: that a job ended.

    Args:
        delivery_id: "msg_" and 32 hex digits, the same at each attempt (the header `webhook-id`).
        event: "video.completed", "video.failed" or "video.cancelled".
        job: as it was when it ended, so that each attempt sends the same body, even if the job is deleted meanwhile.
        attempt: 1 at the first.
    """

    delivery_id: str
    url: str
    event: str
    job: Job
    attempt: int


def new_job_id(now: float | None = None) -> str:
    """A fresh id, by the layout of UUID version 7: milliseconds, then randomness, so ids sort by time.

    Args:
        now: seconds since the epoch; None is the present.
    """
    milliseconds = int((time.time() if now is None else now) * 1000)
    version_and_random = 0x7000 | secrets.randbits(12)
    variant_and_random = (0b10 << 62) | secrets.randbits(62)
    return f"video_{milliseconds:012x}{version_and_random:04x}{variant_and_random:016x}"
