"""The tables of the job store, and transactions on SQLite and PostgreSQL alike."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from emotivetalk.actors.errors import JobStoreError
from emotivetalk.actors.serving.jobs.records import Job, JobStatus, Segment
from emotivetalk.errors import InputError

SCHEMA_VERSION = 2
LOCK_TIMEOUT_S = 30
_CREATION_LOCK = 0x656D6F74  # any number that programs on one PostgreSQL server hardly share: "emot"
_REMEDY_URL = "Give a URL such as sqlite:////var/lib/emotivetalk/jobs.db or postgresql://user@host/emotivetalk."

metadata = sa.MetaData()

# Ids are compared byte by byte: a locale's order would page differently on each server.
_id = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")

_status = sa.Enum(JobStatus, native_enum=False, length=16, values_callable=lambda kind: [one.value for one in kind])


class _Message(sa.TypeDecorator[str]):
    """Text from an exception, which may hold what no database takes: zero characters and lone surrogates."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else value.encode("utf-8", "replace").decode().replace("\0", "?")


# One row. Who counts and then inserts locks it first, so that two at once cannot both fit under a limit.
store = sa.Table("job_store", metadata, sa.Column("schema_version", sa.Integer, nullable=False))

_TYPES: dict[type, Any] = {str: sa.Text, int: sa.BigInteger, float: sa.Double, dict: sa.JSON, JobStatus: _status}


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
    *_columns(Job, {"job_id": _id, "error_message": _Message}),
    sa.Column("priority", sa.Integer, nullable=False, default=0),
    sa.Column("webhook_url", sa.Text),
    sa.Column("attempts_without_progress", sa.Integer, nullable=False, default=0),
    sa.Column("worker", sa.Text),
    sa.Column("lease_until", sa.Double, nullable=False, default=0.0),  # 0 while queued: due at once
    sa.PrimaryKeyConstraint("job_id"),
    sa.Index("ix_jobs_expires_at", "expires_at"),
    sa.Index("jobs_by_status", "status", "lease_until"),
    sa.Index("jobs_by_owner", "owner", "job_id"),
)

segments = sa.Table(
    "segments",
    metadata,
    *_columns(Segment, {"job_id": _id}),
    sa.PrimaryKeyConstraint("job_id", "index"),
    sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], ondelete="CASCADE"),
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

# No foreign key: what is to be told or removed outlives the job's row.
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("delivery_id", _id, primary_key=True),
    sa.Column("job_id", _id, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("event", sa.String(32), nullable=False),
    sa.Column("job", sa.JSON, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("due_at", sa.Double, index=True),  # null once it is delivered or given up
    sa.Column("last_error", _Message),
    sa.Column("created_at", sa.Double, nullable=False),
)

removals = sa.Table(
    "removals",
    metadata,
    sa.Column("job_id", _id, primary_key=True),
    sa.Column("due_at", sa.Double, nullable=False, index=True),
)


class JobDatabase:
    """An engine with two kinds of transactions: `read`, and `write`, which takes SQLite's one write lock at once.

    Args:
        url: "sqlite:///<file>" or "postgresql://...".
        create: make the tables where they are missing; otherwise that is an error.

    Raises:
        InputError: code "job_store_url": another kind of URL.
        JobStoreError: codes "job_store_unavailable", "job_store_missing", "job_store_version".
    """

    def __init__(self, url: str, *, create: bool) -> None:
        parsed = _parse(url)
        self.name = parsed.render_as_string(hide_password=True)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite:
            self._prepare_file(Path(parsed.database or ""), create)
            self._writing = sa.create_engine(parsed, connect_args={"timeout": LOCK_TIMEOUT_S})
            event.listen(self._writing, "connect", _configure_sqlite)
            event.listen(self._writing, "begin", _begin_sqlite)
            self._reading = self._writing.execution_options(begins_with="BEGIN")
            self._use_write_ahead_log()
        else:
            # A connection that a restarted server has closed is found out before it is used.
            self._writing = sa.create_engine(parsed, pool_pre_ping=True, connect_args={"connect_timeout": 10})
            event.listen(self._writing, "connect", _configure_postgresql)
            self._reading = self._writing.execution_options(isolation_level="AUTOCOMMIT")
        self._check_schema(create)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection to look something up.

        Raises:
            JobStoreError: code "job_store_unavailable".
        """
        with self._transaction(self._reading) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: all of it, or, where the body raises or the process dies, nothing.

        Raises:
            JobStoreError: code "job_store_unavailable".
        """
        with self._transaction(self._writing) as connection:
            yield connection

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._writing.dispose()

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        try:
            with engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise  # the statement's author knows what it means
        except (DBAPIError, PoolTimeoutError) as error:
            reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise JobStoreError(
                "job_store_unavailable",
                f"the job store {self.name} cannot be used: {reason}",
                "Check that its server runs, that its folder can be written and that the disk has space.",
            ) from error

    def _prepare_file(self, file: Path, create: bool) -> None:
        if not create and not file.exists():
            raise self._missing()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JobStoreError(
                "job_store_unavailable", f"the folder {file.parent} cannot be made: {error.strerror}", _REMEDY_URL
            ) from error

    def _use_write_ahead_log(self) -> None:
        # The mode stays in the file. Switching does not wait for others who open the file at the same time, so try again.
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                with self._transaction(self._writing.execution_options(begins_with=None)) as connection:
                    connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                    return
            except JobStoreError as error:
                locked = isinstance(error.__cause__, OperationalError) and "locked" in error.message
                if not locked or time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    def _check_schema(self, create: bool) -> None:
        with self.write() as connection:
            if not self.is_sqlite:  # CREATE TABLE IF NOT EXISTS fails where two do it at the same time
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATION_LOCK)))
            if sa.inspect(connection).has_table(store.name):
                version = connection.execute(sa.select(store.c.schema_version).with_for_update()).scalar_one()
                if version == 1:
                    _to_version_2(connection)
                elif version != SCHEMA_VERSION:
                    raise JobStoreError(
                        "job_store_version",
                        f"the job store {self.name} has version {version}; this program reads {SCHEMA_VERSION}",
                        "Use the program that made it, or another database.",
                    )
            elif create:
                metadata.create_all(connection)
                connection.execute(sa.insert(store).values(schema_version=SCHEMA_VERSION))
            else:
                raise self._missing()

    def _missing(self) -> JobStoreError:
        return JobStoreError(
            "job_store_missing", f"there is no job store at {self.name}", "Check the URL; the service makes the store."
        )


def _to_version_2(connection: Connection) -> None:
    """Jobs got a model and a traceparent. Programs that know version 1 and still run go on: they leave them empty."""
    for column in (jobs.c.model, jobs.c.traceparent):
        kind = column.type.compile(connection.dialect)
        connection.execute(sa.DDL(f"ALTER TABLE jobs ADD COLUMN {column.name} {kind}"))
    connection.execute(sa.update(store).values(schema_version=2))


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InputError("job_store_url", "the job store's URL cannot be read", _REMEDY_URL) from error
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername != "sqlite":
        raise InputError("job_store_url", f"no job store is kept in {parsed.drivername}", _REMEDY_URL)
    if parsed.database in (None, "", ":memory:"):
        raise InputError("job_store_url", "jobs in memory would be lost with their process", _REMEDY_URL)
    return parsed


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin in _begin_sqlite, not when the driver thinks so
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=FULL")  # what was acknowledged is on the disk, in WAL mode too


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads and then writes could find the lock taken half-way and fail; so writers wait at the start.
    statement = connection.get_execution_options().get("begins_with", "BEGIN IMMEDIATE")
    if statement is not None:
        connection.exec_driver_sql(statement)


def _configure_postgresql(connection: Any, _record: object) -> None:
    connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'")
    # A node that vanishes in the middle of a transaction must not hold its locks until TCP gives up.
    connection.execute("SET idle_in_transaction_session_timeout = '60s'")
    connection.commit()
