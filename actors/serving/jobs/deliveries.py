"""The outbox of webhooks. A delivery is written in the transaction that ends the job, and sent later.

Delivery is at least once: if a sender dies, another sends the row again, under the same id.
"""

from __future__ import annotations

import uuid
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from emotivetalk.actors.serving.jobs.records import Delivery, Job, JobError, JobStatus
from emotivetalk.actors.serving.jobs.tables import deliveries

MAX_DELIVERY_ATTEMPTS = 10
DELIVERY_LEASE_S = 60.0  # longer than a delivery takes; afterwards another sender may take it
_FIRST_DELAY_S = 5.0
_LAST_DELAY_S = 6 * 3600.0


def delay_after(attempt: int) -> float:
    """Return the seconds to wait after attempt 1, 2, ... failed: 5, 20, 80, ... up to six hours, about twenty in all."""
    return min(_FIRST_DELAY_S * 4.0 ** (attempt - 1), _LAST_DELAY_S)


def enqueue(connection: Connection, job: Job, url: str, now: float) -> None:
    """Write the delivery of a job that ends in this transaction."""
    connection.execute(
        sa.insert(deliveries).values(
            delivery_id=f"msg_{uuid.uuid4().hex}",
            job_id=job.job_id,
            url=url,
            event=f"video.{job.status.value}",
            job=asdict(job),
            attempt=0,
            due_at=now,
            created_at=now,
        )
    )


def lease(connection: Connection, limit: int, now: float) -> list[Delivery]:
    """Take the deliveries that are due, oldest first. No other sender gets them for `DELIVERY_LEASE_S` seconds."""
    due = (
        sa.select(deliveries.c.delivery_id)
        .where(deliveries.c.due_at <= now)
        .order_by(deliveries.c.due_at, deliveries.c.delivery_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = connection.execute(due).scalars().all()
    if not ids:
        return []
    taken = connection.execute(
        sa.update(deliveries)
        .where(deliveries.c.delivery_id.in_(ids))
        .values(due_at=now + DELIVERY_LEASE_S, attempt=deliveries.c.attempt + 1)
        .returning(deliveries)
    )
    found = [Delivery(row.delivery_id, row.url, row.event, _job_from_json(row.job), row.attempt) for row in taken]
    return sorted(found, key=lambda delivery: ids.index(delivery.delivery_id))


def record(connection: Connection, delivery: Delivery, error: str | None, now: float) -> None:
    """Record the outcome. A failed delivery becomes due again, up to `MAX_DELIVERY_ATTEMPTS` attempts."""
    is_due_again = error is not None and delivery.attempt < MAX_DELIVERY_ATTEMPTS
    connection.execute(
        sa.update(deliveries)
        .where(
            deliveries.c.delivery_id == delivery.delivery_id,
            deliveries.c.due_at.is_not(None),
            # A sender slower than its lease must not postpone another sender's attempt, but its success counts.
            sa.true() if error is None else deliveries.c.attempt == delivery.attempt,
        )
        .values(due_at=now + delay_after(delivery.attempt) if is_due_again else None, last_error=error)
    )


def forget(connection: Connection, before: float) -> None:
    """Remove ended deliveries that were written before this time."""
    connection.execute(sa.delete(deliveries).where(deliveries.c.due_at.is_(None), deliveries.c.created_at < before))


def _job_from_json(fields: dict[str, Any]) -> Job:
    error = fields["error"]
    fields = {**fields, "status": JobStatus(fields["status"]), "error": None if error is None else JobError(**error)}
    return Job(**fields)
