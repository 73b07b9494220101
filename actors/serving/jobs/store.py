"""Durable jobs: the state machine behind HTTP, gRPC, the director and `emotivetalk jobs`, in one database.

An acknowledged job survives the loss of any process. A worker holds a job by a lease and a fence. When the lease ends,
another worker may take over; the fence prevents the former worker from publishing. Every change is one transaction, so
a process that dies during a change leaves none of it.

Leases are compared with the clock of each machine. If clocks differ by more than a lease, workers take jobs from each
other, which wastes work but publishes nothing twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from emotivetalk.actors.errors import JobStateError, QueueFullError, TooManyJobsError
from emotivetalk.actors.serving.jobs import deliveries
from emotivetalk.actors.serving.jobs import rows as job_rows
from emotivetalk.actors.serving.jobs.database import JobDatabase
from emotivetalk.actors.serving.jobs.records import (
    OVERTAKE,
    Claim,
    Delivery,
    Job,
    JobError,
    JobPage,
    JobStatus,
    NewJob,
    Segment,
    new_job_id,
)
from emotivetalk.actors.serving.jobs.tables import idempotency_keys, jobs, removals, segments, store
from emotivetalk.errors import InputError
from emotivetalk.timebase import FRAME_RATE_HZ

__all__ = [
    "Claim",
    "Delivery",
    "Job",
    "JobError",
    "JobPage",
    "JobStatus",
    "JobStore",
    "NewJob",
    "Segment",
    "new_job_id",
]

RETRY_AFTER_S = 10.0  # answer of a full queue: about the time of a short video
JOBS_AT_ONCE = 500  # jobs that one query names
EXPIRE_AT_ONCE = 500  # jobs per transaction, which bounds the wait of other transactions
_DUE = jobs.c.created_at + jobs.c.num_frames * (OVERTAKE / FRAME_RATE_HZ)  # the second number of `Job.urgency`
_UNFINISHED = (JobStatus.QUEUED, JobStatus.IN_PROGRESS)

_Segments = list[Segment]  # defined here because `list` names a method of the class
_Deliveries = list[Delivery]
_Ids = list[str]


class JobStore:
    """Jobs on SQLite or PostgreSQL. Synchronous, and safe for any number of threads and processes.

    Every method raises `JobStoreError` (code "job_store_unavailable") if the database cannot be used. After such an error
    it is unknown whether a change was made.

    Args:
        url: "sqlite:///<file>" (local disks only: SQLite's locks do not work over networks) or "postgresql://...".
        lease_s: time that a claim holds without `renew`, seconds.
        max_attempts: attempts in a row that a new job may spend without publishing a segment.
        retention_s: time that a finished job is kept, seconds.
        clock: returns seconds since the epoch.
        create: create missing tables; if False, they are an error.

    Raises:
        InputError: code "job_store_url": the URL is of another kind.
        JobStoreError: codes "job_store_unavailable", "job_store_missing", "job_store_version".
    """

    def __init__(
        self,
        url: str,
        *,
        lease_s: float = 15.0,
        max_attempts: int = 5,
        retention_s: float = 7 * 86400.0,
        clock: Callable[[], float] = time.time,
        create: bool = True,
    ) -> None:
        if lease_s <= 0 or max_attempts < 1 or retention_s <= 0:
            raise ValueError("lease_s, max_attempts and retention_s must be positive")
        self.lease_s = lease_s
        self.max_attempts = max_attempts
        self.retention_s = retention_s
        self.clock = self._clock = clock
        self.database = self._database = JobDatabase(url, create=create)

    def check(self) -> None:
        """Raise JobStoreError unless the database answers and accepts writes."""
        with self._database.write() as connection:
            connection.execute(sa.update(store).values(schema_version=store.c.schema_version))

    def close(self) -> None:
        """Close idle connections."""
        self._database.close()

    # ------------------------------------------------------------------------------------------- callers of the service

    def reserve(self, job_id: str, *, hold_s: float = 3600.0) -> None:
        """Announce a job whose files are stored before its row.

        Unless `create` follows within `hold_s` seconds, the files are removed like those of a deleted job, so a gateway
        that is killed during an upload leaves nothing.
        """
        with self._database.write() as connection:
            job_rows.leave_files(connection, job_id, self._clock() + hold_s)

    def create(
        self,
        job: NewJob,
        *,
        idempotency_key: str | None = None,
        idempotency_s: float = 86400.0,
        max_queued: int | None = None,
        max_per_owner: int | None = None,
    ) -> tuple[Job, bool]:
        """Write a queued job, in one transaction.

        Args:
            idempotency_key: 1 to 255 printable characters. For `idempotency_s` the same key of the same owner gives the
                first job, unless it was deleted, whatever the limits are. The job's fingerprint is what it stands for.
            max_queued: limit on the queued jobs of all owners together. Rows of batches do not count; they have limits of
                their own, so that a batch cannot close the door to single videos.
            max_per_owner: limit on the unfinished jobs of the owner, likewise.

        Returns:
            The job, and True if it was created now (False: it is the first one of this key).

        Raises:
            IdempotencyConflictError: the key was used with another fingerprint.
            InputError: code "idempotency_key_invalid".
            QueueFullError, TooManyJobsError: a limit is reached.
            ValueError: a job of this id exists, or the record is invalid.
        """
        if not job_rows.ID.fullmatch(job.job_id) or min(job.num_frames, job.width, job.height) < 1:
            raise ValueError(f"invalid job: id {job.job_id!r}, {job.num_frames} frames of {job.width} x {job.height}")
        now = self._clock()
        with self._database.write() as connection:
            connection.execute(sa.select(store.c.schema_version).with_for_update())
            if idempotency_key is not None:
                first = job_rows.first_of_key(connection, job.owner, idempotency_key, job.fingerprint, now)
                if first is not None:
                    return first, False
            if job.batch_id is None:
                _check_limits(connection, job.owner, max_queued, max_per_owner)
            insertion = sa.insert(jobs).values(
                **vars(job), status=JobStatus.QUEUED, max_attempts=self.max_attempts, created_at=now
            )
            try:
                row = connection.execute(insertion.returning(jobs)).one()
            except IntegrityError as error:
                raise ValueError(f"there is a job {job.job_id} already") from error
            if idempotency_key is not None:
                expires_at = now + idempotency_s
                job_rows.keep_key(connection, row, idempotency_key, expires_at)
            job_rows.keep_files(connection, job.job_id)
        return job_rows.job_of(row), True

    def get(self, job_id: str, owner: str | None = None) -> Job:
        """Return the job's current state.

        Raises:
            JobNotFoundError: it does not exist, or belongs to another owner than `owner` (None: any).
        """
        with self._database.read() as connection:
            return job_rows.job_of(job_rows.find(connection, job_id, owner))

    def changes(self, known: Mapping[str, Job | None]) -> dict[str, Job | None]:
        """Return those of the jobs whose state differs from the known one; None is a job that does not exist.

        One look at a few columns of all of them; only rows that have changed are read as a whole.

        Args:
            known: jobs by id, as they were last read; None for one that was not read or did not exist.
        """
        found: dict[str, Job | None] = {}
        all_ids = sorted(known)
        with self._database.read() as connection:
            for first in range(0, len(all_ids), JOBS_AT_ONCE):
                ids = all_ids[first : first + JOBS_AT_ONCE]
                query = sa.select(jobs.c.job_id, *job_rows.STATE).where(jobs.c.job_id.in_(ids))
                states = {row.job_id: tuple(row)[1:] for row in connection.execute(query)}
                found |= {job_id: None for job_id in ids if job_id not in states}
                changed = [
                    job_id
                    for job_id, state in states.items()
                    if (job := known[job_id]) is None or job_rows.state_of(job) != state
                ]
                if changed:
                    rows = connection.execute(sa.select(jobs).where(jobs.c.job_id.in_(changed))).all()
                    found |= {row.job_id: job_rows.job_of(row) for row in rows}
        return found

    def segments(self, job_id: str, first: int = 0) -> _Segments:
        """Return the published segments from index `first` on, in order; none if the job does not exist."""
        if not job_rows.ID.fullmatch(job_id):
            return []
        query = (
            sa.select(segments).where(segments.c.job_id == job_id, segments.c.index >= first).order_by(segments.c.index)
        )
        with self._database.read() as connection:
            return [Segment(**row) for row in connection.execute(query).mappings()]

    def counts(self, owner: str | None = None, *, single: bool = False) -> dict[JobStatus, int]:
        """Count the jobs of each status, zeros included. With `single`, rows of batches are left out."""
        query = sa.select(jobs.c.status, sa.func.count().label("num_jobs")).group_by(jobs.c.status)
        if owner is not None:
            query = query.where(jobs.c.owner == owner)
        if single:
            query = query.where(jobs.c.batch_id.is_(None))
        with self._database.read() as connection:
            found = {row.status: row.num_jobs for row in connection.execute(query)}
        return {status: found.get(status, 0) for status in JobStatus}

    def waiting_seconds(self) -> float:
        """Sum the video that unfinished jobs have not published, in seconds."""
        num_frames = sa.func.coalesce(sa.func.sum(jobs.c.num_frames - jobs.c.frames_done), 0)
        with self._database.read() as connection:
            total = connection.execute(sa.select(num_frames).where(jobs.c.status.in_(_UNFINISHED))).scalar_one()
        return float(total) / FRAME_RATE_HZ

    def position(self, job: Job) -> tuple[int, int]:
        """Return how many queued jobs come before this one, and the frames that these and the running jobs still need."""
        due, is_row = job.urgency[1], jobs.c.batch_id.is_not(None)
        mine = sa.literal(job.batch_id is not None)
        comes_before = sa.and_(
            jobs.c.status == JobStatus.QUEUED,
            jobs.c.job_id != job.job_id,
            sa.or_(sa.and_(~is_row, mine), sa.and_(is_row == mine, due > _DUE)),
        )
        running = jobs.c.status == JobStatus.IN_PROGRESS
        frames = sa.func.coalesce(sa.func.sum(jobs.c.num_frames - jobs.c.frames_done), 0)
        with self._database.read() as connection:
            num_before = job_rows.count(connection, comes_before)
            query = sa.select(frames).where(sa.or_(comes_before, running))
            return num_before, int(connection.execute(query).scalar_one())

    def frames_per_second(self, window_s: float = 60.0) -> float:
        """Return the frames a second that were published during the last `window_s` seconds."""
        frames = sa.func.coalesce(sa.func.sum(segments.c.num_frames), 0)
        query = sa.select(frames).where(segments.c.published_at > self._clock() - window_s)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one()) / window_s

    def cancel(self, job_id: str, owner: str | None = None) -> Job:
        """Cancel a job, which voids its worker's claim. A job that has ended does not change.

        Raises:
            JobNotFoundError: it does not exist, or belongs to another owner.
        """
        with self._database.write() as connection:
            row = job_rows.find(connection, job_id, owner, lock=True)
            return job_rows.job_of(row) if row.status.is_terminal else self._end(connection, row, JobStatus.CANCELLED)

    def retry(self, job_id: str, owner: str | None = None) -> Job:
        """Queue a failed or cancelled job again, with all its attempts. Published segments are kept.

        Raises:
            JobNotFoundError: it does not exist, or belongs to another owner.
            JobStateError: it is neither failed nor cancelled.
        """
        with self._database.write() as connection:
            row = job_rows.find(connection, job_id, owner, lock=True)
            if row.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
                raise JobStateError(
                    job_id,
                    row.status.value,
                    f"video {job_id} is {row.status.value}; only failed and cancelled ones can be retried",
                    "Send a new request for another video.",
                )
            return job_rows.change(
                connection,
                job_id,
                status=JobStatus.QUEUED,
                attempts_without_progress=0,
                error_code=None,
                error_message=None,
                started_at=None,
                completed_at=None,
                expires_at=None,
            )

    def delete(self, job_id: str, owner: str | None = None) -> Job:
        """Cancel a job if it is unfinished, and remove it. Its files are left to `pending_removals`.

        Returns:
            The job in its final state.

        Raises:
            JobNotFoundError: it does not exist, or belongs to another owner.
        """
        with self._database.write() as connection:
            return self._remove(connection, job_rows.find(connection, job_id, owner, lock=True))

    # --------------------------------------------------------------------------------------------------------- workers

    def claim(self, worker: str, *, batches: bool = True, not_of: str | None = None) -> Claim | None:
        """Claim the next job: a queued one, or one whose worker's lease ended.

        Single videos come before rows of batches, then higher priorities before lower ones, then jobs of the caller with
        fewer jobs in progress, then the smaller `Job.urgency`. A job whose last `max_attempts` attempts published nothing
        fails with the code "attempts_exhausted" instead.

        Args:
            worker: name of the worker, for people.
            batches: claim rows of batches too.
            not_of: an owner whose single videos are not claimed.

        Returns:
            The claim; None if there is nothing to do.
        """
        is_row = jobs.c.batch_id.is_not(None)
        busy = (
            sa.select(jobs.c.owner, sa.func.count().label("num_jobs"))
            .where(jobs.c.status == JobStatus.IN_PROGRESS, jobs.c.batch_id.is_(None))
            .group_by(jobs.c.owner)
            .subquery()
        )
        query = (
            sa.select(jobs)
            .select_from(jobs.outerjoin(busy, busy.c.owner == jobs.c.owner))
            .where(jobs.c.status.in_(_UNFINISHED), jobs.c.lease_until <= self._clock())
            .order_by(
                is_row,
                jobs.c.priority.desc(),
                sa.func.coalesce(busy.c.num_jobs, 0),
                _DUE,
                jobs.c.job_id,
            )
            .limit(1)
            .with_for_update(skip_locked=True, of=jobs)
        )
        if not batches:
            query = query.where(~is_row)
        if not_of is not None:
            query = query.where(is_row | (jobs.c.owner != not_of))
        with self._database.write() as connection:
            while True:
                row = connection.execute(query).one_or_none()
                if row is None:
                    return None
                if row.attempts_without_progress < row.max_attempts:
                    break
                message = f"{row.attempts_without_progress} attempts in a row ended without a result"
                self._end(connection, row, JobStatus.FAILED, error=JobError("attempts_exhausted", message))
            now = self._clock()
            job = job_rows.change(
                connection,
                row.job_id,
                status=JobStatus.IN_PROGRESS,
                worker=worker,
                fence=row.fence + 1,
                attempt=row.attempt + 1,
                attempts_without_progress=row.attempts_without_progress + 1,
                lease_until=now + self.lease_s,
                started_at=now if row.started_at is None else row.started_at,
            )
        return Claim(job, job.fence, worker)

    def renew(self, claim: Claim, work_done: float | None = None) -> Job:
        """Renew the claim for another `lease_s`. A lease that ended can be renewed until another worker takes the job.

        Args:
            work_done: share of the work that is done, 0 to 1; None leaves it.

        Raises:
            FencedError: another worker has the job, or it has ended; so for every method that takes a claim.
        """
        with self._database.write() as connection:
            job_rows.held(connection, claim)
            values = {} if work_done is None else {"work_done": work_done}
            return job_rows.change(connection, claim.job.job_id, lease_until=self._clock() + self.lease_s, **values)

    def plan(self, claim: Claim, num_segments: int) -> Job:
        """Set the number of the video's segments before the first is published. A resuming worker must set the same.

        Raises:
            FencedError: the claim is void.
            ValueError: segments were published with another number.
        """
        with self._database.write() as connection:
            row = job_rows.held(connection, claim)
            if num_segments < 1 or (row.next_segment > 0 and num_segments != row.num_segments):
                raise ValueError(f"{row.job_id} has {row.num_segments} segments, not {num_segments}")
            return job_rows.change(connection, row.job_id, num_segments=num_segments)

    def publish_segment(self, claim: Claim, segment: Segment) -> Job:
        """Add a segment to the video, exactly once and in order. Renews the lease.

        Publishing the same segment (path and hash) again changes nothing, so that a worker that did not get the answer
        can repeat the call.

        Raises:
            FencedError: the claim is void, or another segment with this index is published.
            ValueError: the segment does not follow the last one, or the job is not planned.
        """
        with self._database.write() as connection:
            row = job_rows.held(connection, claim)
            now = self._clock()
            if not job_rows.add_segment(connection, row, segment, now):
                return job_rows.job_of(row)
            return job_rows.change(
                connection,
                row.job_id,
                next_segment=segment.index + 1,
                frames_done=row.frames_done + segment.num_frames,
                attempts_without_progress=0,
                lease_until=now + self.lease_s,
            )

    def complete(self, claim: Claim, result: str) -> Job:
        """Record that the video is finished, at the artifact path `result`.

        Raises:
            FencedError: the claim is void.
            ValueError: segments or frames are missing.
        """
        with self._database.write() as connection:
            row = job_rows.held(connection, claim)
            if row.num_segments != row.next_segment or row.frames_done != row.num_frames:
                raise ValueError(f"{row.job_id} has {row.frames_done} of {row.num_frames} frames")
            timings = connection.execute(sa.select(segments.c.timings).where(segments.c.job_id == row.job_id)).scalars()
            device_s = sum(sum(seconds.values()) for seconds in timings)
            job_rows.change(connection, row.job_id, device_s=device_s)
            return self._end(connection, row, JobStatus.COMPLETED, result=result)

    def fail(self, claim: Claim, error: JobError) -> Job:
        """Record that the job failed and that a retry would not help.

        Raises:
            FencedError: the claim is void.
        """
        with self._database.write() as connection:
            row = job_rows.held(connection, claim)
            return self._end(connection, row, JobStatus.FAILED, error=error)

    def release(self, claim: Claim) -> Job:
        """Return the job to the queue without counting the attempt, because this worker shuts down.

        Raises:
            FencedError: the claim is void.
        """
        with self._database.write() as connection:
            row = job_rows.held(connection, claim)
            return job_rows.change(
                connection,
                row.job_id,
                status=JobStatus.QUEUED,
                worker=None,
                lease_until=0.0,
                attempt=row.attempt - 1,
                attempts_without_progress=max(0, row.attempts_without_progress - 1),
            )

    # --------------------------------------------------- housekeeping, which any number of processes may do at the same time

    def expire(self, now: float | None = None) -> _Ids:
        """Delete expired jobs, idempotency keys and deliveries.

        Returns:
            The ids of the jobs, at most `EXPIRE_AT_ONCE`.
        """
        now = self._clock() if now is None else now
        with self._database.write() as connection:
            # A transaction of its own: with jobs locked as well, two processes could deadlock.
            connection.execute(sa.delete(idempotency_keys).where(idempotency_keys.c.expires_at <= now))
            deliveries.forget(connection, now - self.retention_s)
        query = sa.select(jobs).where(jobs.c.expires_at <= now).limit(EXPIRE_AT_ONCE).with_for_update(skip_locked=True)
        with self._database.write() as connection:
            rows = connection.execute(query).all()
            for row in rows:
                self._remove(connection, row)
        return [row.job_id for row in rows]

    def pending_removals(self, limit: int = 100) -> _Ids:
        """Take deleted jobs whose files are to be removed. No other process gets them for a minute."""
        with self._database.write() as connection:
            return job_rows.lease_removals(connection, limit, self._clock())

    def record_removal(self, job_id: str) -> None:
        """Record that the files of a deleted job are removed."""
        with self._database.write() as connection:
            connection.execute(sa.delete(removals).where(removals.c.job_id == job_id))

    def pending_deliveries(self, limit: int = 20) -> _Deliveries:
        """Take webhooks that are due. No other process gets them for a minute."""
        with self._database.write() as connection:
            return deliveries.lease(connection, limit, self._clock())

    def record_delivery(self, delivery: Delivery, *, error: str | None = None) -> None:
        """Record the outcome of a delivery. After an error it becomes due again later, a limited number of times."""
        with self._database.write() as connection:
            deliveries.record(connection, delivery, error, self._clock())

    def list(
        self,
        owner: str | None = None,
        *,
        limit: int = 20,
        after: str | None = None,
        order: Literal["asc", "desc"] = "desc",
        status: JobStatus | None = None,
    ) -> JobPage:
        """Return a page of jobs by id, which is by age. New and deleted jobs do not shift the following pages.

        Args:
            owner: owner of the jobs; None is any.
            limit: maximum number of jobs.
            after: last id of the previous page; the job itself may be deleted.
            order: "desc" has the newest first.
            status: return only jobs with this status.

        Raises:
            InputError: code "after_invalid".
        """
        if limit < 1:
            raise ValueError(f"limit is {limit}; it must be at least 1")
        if after is not None and not job_rows.ID.fullmatch(after):
            raise InputError(
                "after_invalid", "`after` is not the id of a video", "Give the last id of the page before."
            )
        query = sa.select(jobs).order_by(jobs.c.job_id.asc() if order == "asc" else jobs.c.job_id.desc())
        if owner is not None:
            query = query.where(jobs.c.owner == owner)
        if status is not None:
            query = query.where(jobs.c.status == status)
        if after is not None:
            query = query.where(jobs.c.job_id > after if order == "asc" else jobs.c.job_id < after)
        with self._database.read() as connection:
            rows = connection.execute(query.limit(limit + 1)).all()
        return JobPage([job_rows.job_of(row) for row in rows[:limit]], len(rows) > limit)

    def _end(
        self,
        connection: Connection,
        row: Row[Any],
        status: JobStatus,
        *,
        result: str | None = None,
        error: JobError | None = None,
    ) -> Job:
        now = self._clock()
        return job_rows.end(
            connection, row, status, now=now, expires_at=now + self.retention_s, result=result, error=error
        )

    def _remove(self, connection: Connection, row: Row[Any]) -> Job:
        job = job_rows.job_of(row)
        files_due_at = self._clock()
        if row.status is JobStatus.IN_PROGRESS:
            files_due_at += self.lease_s  # its worker may write one more file before it notices
        if not row.status.is_terminal:
            job = self._end(connection, row, JobStatus.CANCELLED)
        job_rows.remove(connection, row.job_id, files_due_at)
        return job


def _check_limits(connection: Connection, owner: str, max_queued: int | None, max_per_owner: int | None) -> None:
    """Raise QueueFullError or TooManyJobsError if one more single video would exceed a limit."""
    single = jobs.c.batch_id.is_(None)
    if max_queued is not None:
        num_queued = job_rows.count(connection, jobs.c.status == JobStatus.QUEUED, single)
        if num_queued >= max_queued:
            raise QueueFullError(max_queued, RETRY_AFTER_S)
    if max_per_owner is not None:
        num_unfinished = job_rows.count(connection, jobs.c.owner == owner, jobs.c.status.in_(_UNFINISHED), single)
        if num_unfinished >= max_per_owner:
            raise TooManyJobsError(max_per_owner, RETRY_AFTER_S)
