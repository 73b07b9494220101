"""Operations on one job's row within a transaction. `JobStore` opens the transactions."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from emotivetalk.actors.errors import FencedError, IdempotencyConflictError, JobNotFoundError
from emotivetalk.actors.serving.jobs import deliveries
from emotivetalk.actors.serving.jobs.records import Claim, Job, JobError, JobStatus, Segment
from emotivetalk.actors.serving.jobs.tables import idempotency_keys, jobs, removals, segments
from emotivetalk.errors import InputError

STATE = (jobs.c.status, jobs.c.attempt, jobs.c.fence, jobs.c.next_segment, jobs.c.frames_done, jobs.c.work_done)
"""The columns that change while a job is made."""
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # valid as a folder's name and as a key in every database
REMOVAL_LEASE_S = 60.0
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def job_of(row: Row[Any]) -> Job:
    """Return the row as a record."""
    columns = {field.name: getattr(row, field.name) for field in fields(Job) if field.name != "error"}
    error = None if row.error_code is None else JobError(row.error_code, row.error_message)
    return Job(**columns, error=error)


def state_of(job: Job) -> tuple[Any, ...]:
    """Return the values of the columns `STATE`."""
    return tuple(getattr(job, column.name) for column in STATE)


def find(connection: Connection, job_id: str, owner: str | None, *, lock: bool = False) -> Row[Any]:
    """Return the row. With `lock`, no other transaction can change it until this one ends.

    Raises:
        JobNotFoundError: it does not exist, or belongs to another owner than `owner` (None: any).
    """
    if not ID.fullmatch(job_id):  # PostgreSQL refuses some characters that a client can send
        raise JobNotFoundError(job_id)
    query = sa.select(jobs).where(jobs.c.job_id == job_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None or owner not in (None, row.owner):
        raise JobNotFoundError(job_id)
    return row


def held(connection: Connection, claim: Claim) -> Row[Any]:
    """Return the locked row of a claimed job.

    Raises:
        FencedError: another worker has the job, or it has ended or was deleted.
    """
    query = sa.select(jobs).where(jobs.c.job_id == claim.job.job_id).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        raise FencedError(claim.job.job_id, "it was deleted")
    if row.status is not JobStatus.IN_PROGRESS:
        raise FencedError(row.job_id, f"it is {row.status.value}")
    if row.fence != claim.fence:
        raise FencedError(row.job_id, f"{row.worker} holds it with fence {row.fence}, newer than {claim.fence}")
    return row


def change(connection: Connection, job_id: str, **values: Any) -> Job:
    """Set columns of a row that this transaction has locked, and return the job."""
    query = sa.update(jobs).where(jobs.c.job_id == job_id).values(**values).returning(jobs)
    return job_of(connection.execute(query).one())


def end(
    connection: Connection,
    row: Row[Any],
    status: JobStatus,
    *,
    now: float,
    expires_at: float,
    result: str | None = None,
    error: JobError | None = None,
) -> Job:
    """Set a terminal status of a locked row, and put its webhook into the outbox."""
    job = change(
        connection,
        row.job_id,
        status=status,
        lease_until=0.0,
        completed_at=now,
        expires_at=expires_at,
        result=result,
        error_code=None if error is None else error.code,
        error_message=None if error is None else error.message,
    )
    if row.webhook_url is not None:
        deliveries.enqueue(connection, job, row.webhook_url, now)
    return job


def remove(connection: Connection, job_id: str, files_due_at: float) -> None:
    """Delete the row with its segments and idempotency key, and schedule the removal of its files."""
    connection.execute(sa.delete(jobs).where(jobs.c.job_id == job_id))
    leave_files(connection, job_id, files_due_at)


def leave_files(connection: Connection, job_id: str, due_at: float) -> None:
    """Schedule the removal of a job's files, unless the job gets a row before `due_at`."""
    keep_files(connection, job_id)
    connection.execute(sa.insert(removals).values(job_id=job_id, due_at=due_at))


def keep_files(connection: Connection, job_id: str) -> None:
    """Withdraw the removal of a job's files, because its row is written."""
    connection.execute(sa.delete(removals).where(removals.c.job_id == job_id))


def lease_removals(connection: Connection, limit: int, now: float) -> list[str]:
    """Take the jobs whose files are due for removal. No other process gets them for `REMOVAL_LEASE_S` seconds."""
    due = (
        sa.select(removals.c.job_id)
        .where(removals.c.due_at <= now)
        .order_by(removals.c.due_at, removals.c.job_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = [row.job_id for row in connection.execute(due)]
    if ids:
        taken = sa.update(removals).where(removals.c.job_id.in_(ids))
        connection.execute(taken.values(due_at=now + REMOVAL_LEASE_S))
    return ids


def count(connection: Connection, *conditions: sa.ColumnElement[bool]) -> int:
    """Count the jobs that meet the conditions."""
    return connection.execute(sa.select(sa.func.count()).select_from(jobs).where(*conditions)).scalar_one()


def first_of_key(connection: Connection, owner: str, key: str, fingerprint: str, now: float) -> Job | None:
    """Return the job that this idempotency key created, if the key is still valid. An expired key is removed.

    Raises:
        IdempotencyConflictError: the key was used for another request.
        InputError: code "idempotency_key_invalid".
    """
    if not _KEY.fullmatch(key):
        raise InputError(
            "idempotency_key_invalid",
            "the Idempotency-Key is not 1 to 255 printable ASCII characters without spaces",
            "Send a UUID, for example.",
        )
    matches = sa.and_(idempotency_keys.c.owner == owner, idempotency_keys.c.key == key)
    known = connection.execute(sa.select(idempotency_keys).where(matches)).one_or_none()
    if known is None:
        return None
    if known.expires_at <= now:
        connection.execute(sa.delete(idempotency_keys).where(matches))
        return None
    if known.fingerprint != fingerprint:
        raise IdempotencyConflictError(key, known.job_id)
    row = connection.execute(sa.select(jobs).where(jobs.c.job_id == known.job_id)).one_or_none()
    return None if row is None else job_of(row)


def keep_key(connection: Connection, row: Row[Any], key: str, expires_at: float) -> None:
    """Record that the owner's idempotency key stands for the job until `expires_at`."""
    values = {"owner": row.owner, "key": key, "fingerprint": row.fingerprint, "job_id": row.job_id}
    connection.execute(sa.insert(idempotency_keys).values(**values, expires_at=expires_at))


def add_segment(connection: Connection, row: Row[Any], segment: Segment, now: float) -> bool:
    """Insert the next segment of a locked row.

    Returns:
        False if the same segment (path and hash) is published already.

    Raises:
        FencedError: another segment with this index is published.
        ValueError: the segment does not follow the last one, or the job is not planned.
    """
    if 0 <= segment.index < row.next_segment:
        matches = sa.and_(segments.c.job_id == row.job_id, segments.c.index == segment.index)
        published = connection.execute(sa.select(segments.c.path, segments.c.sha256).where(matches)).one()
        if (published.path, published.sha256) != (segment.path, segment.sha256):
            raise FencedError(row.job_id, f"segment {segment.index} is published already")
        return False
    if row.num_segments is None:
        raise ValueError(f"{row.job_id} has no plan yet")
    stop_frame = segment.start_frame + segment.num_frames
    follows = segment.index == row.next_segment < row.num_segments and segment.start_frame == row.frames_done
    if segment.job_id != row.job_id or not follows or not segment.start_frame < stop_frame <= row.num_frames:
        raise ValueError(
            f"segment {segment.index} of {segment.job_id} (frames {segment.start_frame} to {stop_frame}) does not follow "
            f"{row.next_segment} of {row.num_segments} segments and {row.frames_done} of {row.num_frames} frames of {row.job_id}"
        )
    connection.execute(sa.insert(segments).values({**vars(segment), "published_at": now}))
    return True
