"""The tables of the job store, and the migrations between their versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from emotivetalk.actors.serving.jobs.batch_records import Batch, BatchRow, BatchStatus, RowStatus, StoredFile
from emotivetalk.actors.serving.jobs.records import Job, JobStatus, Segment

SCHEMA_VERSION = 3

metadata = sa.MetaData()

# Ids are compared byte by byte, because the order of a locale would page differently on each server.
_id = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")


def _enum(kind: type[StrEnum]) -> sa.Enum:
    return sa.Enum(kind, native_enum=False, length=16, values_callable=lambda kind: [one.value for one in kind])


class _Message(sa.TypeDecorator[str]):
    """Text of an exception, without the characters that databases refuse: NUL and lone surrogates."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else value.encode("utf-8", "replace").decode().replace("\0", "?")


# One row. A transaction that counts and then inserts locks it, so that two at once cannot both pass a limit.
store = sa.Table("job_store", metadata, sa.Column("schema_version", sa.Integer, nullable=False))

_TYPES: dict[type, Any] = {str: sa.Text, int: sa.BigInteger, float: sa.Double, dict: sa.JSON, list: sa.JSON}
_TYPES |= {kind: _enum(kind) for kind in (JobStatus, BatchStatus, RowStatus)}


def _columns(record: type, types: Mapping[str, Any] | None = None, prefix: str = "") -> Iterator[sa.Column[Any]]:
    """Make a column for each field of a record, with type, nullability and default of the field.

    Args:
        types: SQL types that the annotation does not tell, by field.
        prefix: for the columns of a nested record, all of which may be null.
    """
    for name, hint in get_type_hints(record).items():
        kinds = [kind for kind in get_args(hint) if get_origin(hint) is UnionType] or [hint]
        nullable = NoneType in kinds or bool(prefix)
        kind = get_origin(kinds[0]) or kinds[0]
        if isinstance(kind, type) and is_dataclass(kind):
            yield from _columns(kind, types, f"{name}_")
            continue
        default = getattr(record, name, None)
        sql_type = (types or {}).get(prefix + name, _TYPES[kind])
        yield sa.Column(prefix + name, sql_type, nullable=nullable, default=None if nullable else default)


jobs = sa.Table(
    "jobs",
    metadata,
    *_columns(Job, {"job_id": _id, "batch_id": _id, "remixed_from": _id, "error_message": _Message}),
    sa.Column("priority", sa.Integer, nullable=False, default=0),
    sa.Column("webhook_url", sa.Text),
    sa.Column("attempts_without_progress", sa.Integer, nullable=False, default=0),
    sa.Column("worker", sa.Text),
    sa.Column("lease_until", sa.Double, nullable=False, default=0.0),  # 0 while queued: due at once
    sa.PrimaryKeyConstraint("job_id"),
    sa.Index("ix_jobs_expires_at", "expires_at"),
    sa.Index("jobs_by_status", "status", "lease_until"),
    sa.Index("jobs_by_owner", "owner", "job_id"),
    sa.Index("jobs_by_batch", "batch_id"),
)

segments = sa.Table(
    "segments",
    metadata,
    *_columns(Segment, {"job_id": _id}),
    sa.PrimaryKeyConstraint("job_id", "index"),
    sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], ondelete="CASCADE"),
    sa.Index("segments_by_time", "published_at"),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("owner", sa.String(255), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("job_id", _id, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("expires_at", sa.Double, nullable=False),
)

# No foreign key: deliveries and removals outlive the job's row.
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("delivery_id", _id, primary_key=True),
    sa.Column("job_id", _id, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("event", sa.String(32), nullable=False),
    sa.Column("job", sa.JSON, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("due_at", sa.Double, index=True),  # null once it is delivered or abandoned
    sa.Column("last_error", _Message),
    sa.Column("created_at", sa.Double, nullable=False),
)

removals = sa.Table(
    "removals",
    metadata,
    sa.Column("job_id", _id, primary_key=True),
    sa.Column("due_at", sa.Double, nullable=False, index=True),
)

files = sa.Table(
    "files",
    metadata,
    *_columns(StoredFile, {"file_id": _id}),
    sa.PrimaryKeyConstraint("file_id"),
    sa.Index("files_by_owner", "owner", "file_id"),
    sa.Index("files_by_expiry", "expires_at"),
)

batches = sa.Table(
    "batches",
    metadata,
    *_columns(Batch, {"batch_id": _id, "input_file_id": _id, "output_file_id": _id, "error_file_id": _id}),
    sa.Column("worker", sa.Text),
    sa.Column("fence", sa.BigInteger, nullable=False, default=0),
    sa.Column("lease_until", sa.Double, nullable=False, default=0.0),
    sa.PrimaryKeyConstraint("batch_id"),
    sa.Index("batches_by_owner", "owner", "batch_id"),
    sa.Index("batches_by_status", "status", "lease_until"),
)

batch_rows = sa.Table(
    "batch_rows",
    metadata,
    *_columns(BatchRow, {"batch_id": _id, "job_id": _id, "error_message": _Message}),
    sa.PrimaryKeyConstraint("batch_id", "index"),
    sa.ForeignKeyConstraint(["batch_id"], ["batches.batch_id"], ondelete="CASCADE"),
    sa.Index("batch_rows_by_status", "batch_id", "status"),
)


def migrate(connection: Connection, version: int) -> None:
    """Bring the tables from an older version to the current one. Programs of older versions that still run go on."""
    added = [jobs.c.model, jobs.c.traceparent] if version == 1 else []  # version 2
    for column in (*added, jobs.c.batch_id, jobs.c.remixed_from, jobs.c.device_s, jobs.c.work_done):
        kind = column.type.compile(connection.dialect)
        connection.execute(sa.DDL(f"ALTER TABLE jobs ADD COLUMN {column.name} {kind}"))
    metadata.create_all(connection)  # version 3: files and batches
    for index in (*jobs.indexes, *segments.indexes):
        index.create(connection, checkfirst=True)
    connection.execute(sa.update(store).values(schema_version=SCHEMA_VERSION))
