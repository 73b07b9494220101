"""Files and batches in the job store's database. Everything holds as for jobs: leases, fences, one transaction a change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from emotivetalk.actors.errors import BatchNotFoundError, FencedError, FileNotFoundInStoreError, TooManyBatchesError
from emotivetalk.actors.serving.jobs import rows as job_rows
from emotivetalk.actors.serving.jobs.batch_records import (
    Batch,
    BatchClaim,
    BatchRow,
    BatchStatus,
    Page,
    RowStatus,
    StoredFile,
)
from emotivetalk.actors.serving.jobs.records import Job, JobStatus
from emotivetalk.actors.serving.jobs.store import JobStore
from emotivetalk.actors.serving.jobs.tables import batch_rows, batches, files, jobs
from emotivetalk.errors import InputError

RecordT = TypeVar("RecordT", Batch, StoredFile, BatchRow)

_ROWS_AT_ONCE = 1000
_EXPIRE_AT_ONCE = 500
_TERMINAL = tuple(status for status in BatchStatus if status.is_terminal)
_ENDED_JOBS = tuple(status for status in JobStatus if status.is_terminal)
_TIMES = {
    BatchStatus.IN_PROGRESS: "in_progress_at",
    BatchStatus.FINALIZING: "finalizing_at",
    BatchStatus.COMPLETED: "completed_at",
    BatchStatus.FAILED: "failed_at",
    BatchStatus.EXPIRED: "expired_at",
    BatchStatus.CANCELLING: "cancelling_at",
    BatchStatus.CANCELLED: "cancelled_at",
}


class BatchStore:
    """Files and batches beside the jobs. Synchronous, and safe for any number of threads and processes.

    Every method raises `JobStoreError` (code "job_store_unavailable") if the database cannot be used.

    Args:
        jobs: the store whose database, clock, lease and retention are used.
    """

    def __init__(self, jobs: JobStore) -> None:
        self._database, self._clock = jobs.database, jobs.clock
        self._lease_s, self._retention_s = jobs.lease_s, jobs.retention_s

    # ------------------------------------------------------------------------------------------------------------ files

    def create_file(self, file: StoredFile) -> None:
        """Record a file whose content is stored."""
        with self._database.write() as connection:
            connection.execute(sa.insert(files).values(**vars(file)))
            job_rows.keep_files(connection, file.file_id)

    def file(self, file_id: str, owner: str | None = None) -> StoredFile:
        """Return a file.

        Raises:
            FileNotFoundInStoreError: it does not exist, has expired, or belongs to another owner (None: any).
        """
        with self._database.read() as connection:
            return _record(StoredFile, self._file_row(connection, file_id, owner))

    def stored_bytes(self, owner: str) -> int:
        """Return the size of all of the owner's files."""
        query = sa.select(sa.func.coalesce(sa.func.sum(files.c.num_bytes), 0)).where(files.c.owner == owner)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def list_files(
        self,
        owner: str,
        *,
        limit: int = 20,
        after: str | None = None,
        order: Literal["asc", "desc"] = "desc",
        purpose: str | None = None,
    ) -> Page:
        """Return a page of the owner's files by time of creation, after the file with the id `after`."""
        conditions = [files.c.owner == owner, files.c.expires_at > self._clock()]
        if purpose is not None:
            conditions.append(files.c.purpose == purpose)
        return self._page(StoredFile, files.c.file_id, conditions, limit, after, order)

    def delete_file(self, file_id: str, owner: str) -> None:
        """Remove a file's row, and leave its content to `JobStore.pending_removals`.

        Raises:
            FileNotFoundInStoreError: it does not exist, or belongs to another owner.
        """
        with self._database.write() as connection:
            self._remove_file(connection, self._file_row(connection, file_id, owner).file_id)

    def _file_row(self, connection: Connection, file_id: str, owner: str | None) -> Row[Any]:
        row = None
        if job_rows.ID.fullmatch(file_id):
            query = sa.select(files).where(files.c.file_id == file_id, files.c.expires_at > self._clock())
            row = connection.execute(query).one_or_none()
        if row is None or owner not in (None, row.owner):
            raise FileNotFoundInStoreError(file_id)
        return row

    def _remove_file(self, connection: Connection, file_id: str) -> None:
        connection.execute(sa.delete(files).where(files.c.file_id == file_id))
        job_rows.leave_files(connection, file_id, self._clock())

    # ---------------------------------------------------------------------------------------------------------- batches

    def create(self, batch: Batch, max_per_owner: int) -> Batch:
        """Write a batch whose manifest is to be read.

        Raises:
            FileNotFoundInStoreError: the manifest does not exist, or belongs to another owner.
            InputError: code "batch_file_purpose": the file was not uploaded as a manifest.
            TooManyBatchesError: the owner has `max_per_owner` unfinished batches.
        """
        with self._database.write() as connection:
            manifest = self._file_row(connection, batch.input_file_id, batch.owner)
            if manifest.purpose != "batch":
                raise InputError(
                    "batch_file_purpose",
                    f"the purpose of {manifest.file_id} is {manifest.purpose}, not batch",
                    "Upload the manifest with purpose=batch.",
                )
            unfinished = sa.select(sa.func.count()).where(
                batches.c.owner == batch.owner, batches.c.status.not_in(_TERMINAL)
            )
            if connection.execute(unfinished).scalar_one() >= max_per_owner:
                raise TooManyBatchesError(max_per_owner)
            connection.execute(sa.insert(batches).values(**vars(batch)))
        return batch

    def get(self, batch_id: str, owner: str | None = None) -> Batch:
        """Return a batch's current state.

        Raises:
            BatchNotFoundError: it does not exist, or belongs to another owner (None: any).
        """
        with self._database.read() as connection:
            return _record(Batch, self._batch_row(connection, batch_id, owner))

    def list(
        self, owner: str, *, limit: int = 20, after: str | None = None, order: Literal["asc", "desc"] = "desc"
    ) -> Page:
        """Return a page of the owner's batches by time of creation, after the batch with the id `after`."""
        return self._page(Batch, batches.c.batch_id, [batches.c.owner == owner], limit, after, order)

    def cancel(self, batch_id: str, owner: str) -> Batch:
        """Begin to cancel a batch; its worker cancels the rows. One that has ended does not change.

        Raises:
            BatchNotFoundError: it does not exist, or belongs to another owner.
        """
        with self._database.write() as connection:
            row = self._batch_row(connection, batch_id, owner, lock=True)
            if row.status in (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS):
                return self._change(connection, batch_id, status=BatchStatus.CANCELLING, cancelling_at=self._clock())
            return _record(Batch, row)

    def rows(self, batch_id: str) -> Iterator[BatchRow]:
        """Yield the rows in the manifest's order, read in pages."""
        next_index = 0
        while True:
            query = (
                sa.select(batch_rows)
                .where(batch_rows.c.batch_id == batch_id, batch_rows.c.index >= next_index)
                .order_by(batch_rows.c.index)
                .limit(_ROWS_AT_ONCE)
            )
            with self._database.read() as connection:
                found = [_record(BatchRow, row) for row in connection.execute(query)]
            yield from found
            if len(found) < _ROWS_AT_ONCE:
                return
            next_index = found[-1].index + 1

    def _batch_row(self, connection: Connection, batch_id: str, owner: str | None, *, lock: bool = False) -> Row[Any]:
        row = None
        if job_rows.ID.fullmatch(batch_id):
            query = sa.select(batches).where(batches.c.batch_id == batch_id)
            row = connection.execute(query.with_for_update() if lock else query).one_or_none()
        if row is None or owner not in (None, row.owner):
            raise BatchNotFoundError(batch_id)
        return row

    # ---------------------------------------------------------------------------------------------------------- workers

    def claim(self, worker: str) -> BatchClaim | None:
        """Claim the oldest unfinished batch that no worker holds; None if there is none."""
        now = self._clock()
        query = (
            sa.select(batches)
            .where(batches.c.status.not_in(_TERMINAL), batches.c.lease_until <= now)
            .order_by(batches.c.batch_id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with self._database.write() as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                return None
            fence = row.fence + 1
            batch = self._change(connection, row.batch_id, worker=worker, fence=fence, lease_until=now + self._lease_s)
        return BatchClaim(batch, fence, worker)

    def renew(self, claim: BatchClaim) -> Batch:
        """Renew the claim, and return the batch's current state.

        Raises:
            FencedError: another worker has the batch, or it ended; so for every method that takes a claim.
        """
        with self._database.write() as connection:
            self._held(connection, claim)
            return self._change(connection, claim.batch.batch_id, lease_until=self._clock() + self._lease_s)

    def release(self, claim: BatchClaim) -> None:
        """Give the batch up, so that another worker can take it at once."""
        with self._database.write() as connection:
            self._held(connection, claim)
            self._change(connection, claim.batch.batch_id, lease_until=0.0)

    def clear_rows(self, claim: BatchClaim) -> None:
        """Remove the rows of a validation that did not end."""
        with self._database.write() as connection:
            self._held(connection, claim)
            connection.execute(sa.delete(batch_rows).where(batch_rows.c.batch_id == claim.batch.batch_id))

    def add_rows(self, claim: BatchClaim, rows: Sequence[BatchRow]) -> None:
        """Add the next rows of the manifest."""
        if not rows:
            return
        with self._database.write() as connection:
            self._held(connection, claim)
            connection.execute(sa.insert(batch_rows), [dict(vars(row)) for row in rows])

    def begin(self, claim: BatchClaim) -> Batch:
        """Count the rows and set the batch in progress. One that is being cancelled stays so, with its rows counted."""
        batch_id = claim.batch.batch_id
        of_batch = batch_rows.c.batch_id == batch_id
        with self._database.write() as connection:
            row = self._held(connection, claim)
            counts = {
                status: connection.execute(
                    sa.select(sa.func.count()).where(of_batch, batch_rows.c.status == status)
                ).scalar_one()
                for status in RowStatus
            }
            values: dict[str, Any] = {"num_total": sum(counts.values()), "num_failed": counts[RowStatus.FAILED]}
            if row.status is BatchStatus.VALIDATING:
                values |= {"status": BatchStatus.IN_PROGRESS, "in_progress_at": self._clock()}
            return self._change(connection, batch_id, **values)

    def pending_rows(self, batch_id: str, limit: int) -> _Rows:
        """Return the next rows that have no video yet, in the manifest's order."""
        query = (
            sa.select(batch_rows)
            .where(batch_rows.c.batch_id == batch_id, batch_rows.c.status == RowStatus.PENDING)
            .order_by(batch_rows.c.index)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [_record(BatchRow, row) for row in connection.execute(query)]

    def count_rows(self, batch_id: str, status: RowStatus) -> int:
        """Count the rows of a status."""
        query = sa.select(sa.func.count()).where(batch_rows.c.batch_id == batch_id, batch_rows.c.status == status)
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def submit_row(self, claim: BatchClaim, row: BatchRow, job_id: str) -> None:
        """Record the video of a row."""
        with self._database.write() as connection:
            self._held(connection, claim)
            self._change_row(connection, row, status=RowStatus.SUBMITTED, job_id=job_id)

    def unfinished_jobs(self, batch_id: str) -> Iterable[str]:
        """Return the ids of the batch's unfinished videos, also of one that a dying worker did not record in its row."""
        query = sa.select(jobs.c.job_id).where(jobs.c.batch_id == batch_id, jobs.c.status.not_in(_ENDED_JOBS))
        with self._database.read() as connection:
            return connection.execute(query).scalars().all()

    def ended_rows(self, batch_id: str, limit: int) -> Iterable[tuple[BatchRow, Job | None]]:
        """Return rows whose video has ended, or was removed (None), and that are still recorded as submitted."""
        query = (
            sa.select(batch_rows.c.index, jobs.c.job_id)
            .select_from(batch_rows.outerjoin(jobs, batch_rows.c.job_id == jobs.c.job_id))
            .where(
                batch_rows.c.batch_id == batch_id,
                batch_rows.c.status == RowStatus.SUBMITTED,
                jobs.c.job_id.is_(None) | jobs.c.status.in_(_ENDED_JOBS),
            )
            .limit(limit)
        )
        with self._database.read() as connection:
            found = connection.execute(query).all()
            return [
                (
                    _record(
                        BatchRow,
                        connection.execute(
                            sa.select(batch_rows).where(
                                batch_rows.c.batch_id == batch_id, batch_rows.c.index == row.index
                            )
                        ).one(),
                    ),
                    None if row.job_id is None else job_rows.job_of(job_rows.find(connection, row.job_id, None)),
                )
                for row in found
            ]

    def complete_row(
        self, claim: BatchClaim, row: BatchRow, *, attempts: int, video_s: float, device_s: float, sha256: str
    ) -> None:
        """Record that a row's video is finished."""
        with self._database.write() as connection:
            self._held(connection, claim)
            self._change_row(
                connection,
                row,
                status=RowStatus.COMPLETED,
                attempts=attempts,
                video_s=video_s,
                device_s=device_s,
                sha256=sha256,
            )
            self._count(connection, row.batch_id, num_completed=1)

    def fail_row(self, claim: BatchClaim, row: BatchRow, code: str, message: str, attempts: int = 0) -> None:
        """Record why a row has no video."""
        with self._database.write() as connection:
            self._held(connection, claim)
            self._change_row(
                connection, row, status=RowStatus.FAILED, error_code=code, error_message=message, attempts=attempts
            )
            self._count(connection, row.batch_id, num_failed=1)

    def fail_pending_rows(self, claim: BatchClaim, code: str, message: str) -> None:
        """Record one reason for all rows that have no video yet."""
        of_batch = sa.and_(batch_rows.c.batch_id == claim.batch.batch_id, batch_rows.c.status == RowStatus.PENDING)
        with self._database.write() as connection:
            self._held(connection, claim)
            update = sa.update(batch_rows).where(of_batch)
            result = connection.execute(update.values(status=RowStatus.FAILED, error_code=code, error_message=message))
            self._count(connection, claim.batch.batch_id, num_failed=result.rowcount)

    def set_status(self, claim: BatchClaim, status: BatchStatus, **values: Any) -> Batch:
        """Set the batch's status with its time, and further columns."""
        with self._database.write() as connection:
            self._held(connection, claim)
            values = {"status": status, _TIMES[status]: self._clock(), **values}
            return self._change(connection, claim.batch.batch_id, **values)

    # ----------------------------------------------------------------------------------------------------- housekeeping

    def expire(self) -> int:
        """Remove expired files, and batches that ended longer ago than the retention; at most 500 of each."""
        now = self._clock()
        ended = sa.func.coalesce(
            batches.c.completed_at, batches.c.failed_at, batches.c.expired_at, batches.c.cancelled_at
        )
        old_batches = sa.select(batches.c.batch_id).where(
            batches.c.status.in_(_TERMINAL), ended <= now - self._retention_s
        )
        old_files = sa.select(files.c.file_id).where(files.c.expires_at <= now)
        with self._database.write() as connection:
            file_ids = connection.execute(old_files.limit(_EXPIRE_AT_ONCE)).scalars().all()
            for file_id in file_ids:
                self._remove_file(connection, file_id)
            batch_ids = connection.execute(old_batches.limit(_EXPIRE_AT_ONCE)).scalars().all()
            if batch_ids:
                connection.execute(sa.delete(batches).where(batches.c.batch_id.in_(batch_ids)))
        return len(file_ids) + len(batch_ids)

    # ---------------------------------------------------------------------------------------------------------- helpers

    def _held(self, connection: Connection, claim: BatchClaim) -> Row[Any]:
        batch_id = claim.batch.batch_id
        query = sa.select(batches).where(batches.c.batch_id == batch_id).with_for_update()
        row = connection.execute(query).one_or_none()
        if row is None or row.status.is_terminal:
            raise FencedError(batch_id, "it was deleted" if row is None else f"it is {row.status.value}")
        if row.fence != claim.fence:
            raise FencedError(batch_id, f"{row.worker} holds it with fence {row.fence}, newer than {claim.fence}")
        return row

    def _change(self, connection: Connection, batch_id: str, **values: Any) -> Batch:
        query = sa.update(batches).where(batches.c.batch_id == batch_id).values(**values).returning(batches)
        return _record(Batch, connection.execute(query).one())

    def _change_row(self, connection: Connection, row: BatchRow, **values: Any) -> None:
        query = sa.update(batch_rows).where(batch_rows.c.batch_id == row.batch_id, batch_rows.c.index == row.index)
        connection.execute(query.values(**values))

    def _count(self, connection: Connection, batch_id: str, **added: int) -> None:
        values = {name: batches.c[name] + number for name, number in added.items()}
        connection.execute(sa.update(batches).where(batches.c.batch_id == batch_id).values(**values))

    def _page(
        self,
        record: type[RecordT],
        key: sa.Column[str],
        conditions: Sequence[sa.ColumnElement[bool]],
        limit: int,
        after: str | None,
        order: Literal["asc", "desc"],
    ) -> Page:
        if after is not None and not job_rows.ID.fullmatch(after):
            raise InputError("after_invalid", "`after` is not an id", "Give the last id of the page before.")
        query = sa.select(key.table).where(*conditions).order_by(key.asc() if order == "asc" else key.desc())
        if after is not None:
            query = query.where(key > after if order == "asc" else key < after)
        with self._database.read() as connection:
            rows = connection.execute(query.limit(limit + 1)).all()
        return Page([_record(record, row) for row in rows[:limit]], len(rows) > limit)


_Rows = list[BatchRow]  # defined here because `list` names a method of the class


def _record(record: type[RecordT], row: Row[Any]) -> RecordT:
    return record(**{field.name: getattr(row, field.name) for field in fields(record)})
