"""Connections and transactions of the job store, on SQLite and PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from emotivetalk.actors.errors import JobStoreError
from emotivetalk.actors.serving.jobs.tables import SCHEMA_VERSION, metadata, migrate, store
from emotivetalk.errors import InputError

LOCK_TIMEOUT_S = 30
_CREATION_LOCK = 0x656D6F74  # an arbitrary number that other programs hardly use: "emot"
_REMEDY_URL = "Give a URL such as sqlite:////var/lib/emotivetalk/jobs.db or postgresql://user@host/emotivetalk."


class JobDatabase:
    """An engine with two kinds of transactions: `read`, and `write`, which takes SQLite's write lock at its start.

    Args:
        url: "sqlite:///<file>" or "postgresql://...".
        create: create missing tables; if False, they are an error.

    Raises:
        InputError: code "job_store_url": the URL is of another kind.
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
        # The mode is stored in the file. Switching does not wait for processes that open the file meanwhile, hence the loop.
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
            if not self.is_sqlite:  # CREATE TABLE IF NOT EXISTS fails if two processes do it at the same time
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATION_LOCK)))
            if sa.inspect(connection).has_table(store.name):
                version = connection.execute(sa.select(store.c.schema_version).with_for_update()).scalar_one()
                if 0 < version < SCHEMA_VERSION:
                    migrate(connection, version)
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


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InputError("job_store_url", "the job store's URL cannot be read", _REMEDY_URL) from error
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername != "sqlite":
        raise InputError("job_store_url", f"{parsed.drivername} cannot hold a job store", _REMEDY_URL)
    if parsed.database in (None, "", ":memory:"):
        raise InputError("job_store_url", "jobs in memory are lost with their process", _REMEDY_URL)
    return parsed


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # _begin_sqlite begins transactions, not the driver
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=FULL")  # acknowledged changes are on the disk in WAL mode too


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first could find the lock taken when it writes, and fail. So writers wait at the start.
    statement = connection.get_execution_options().get("begins_with", "BEGIN IMMEDIATE")
    if statement is not None:
        connection.exec_driver_sql(statement)


def _configure_postgresql(connection: Any, _record: object) -> None:
    connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'")
    # A node that vanishes during a transaction must not hold its locks until TCP times out.
    connection.execute("SET idle_in_transaction_session_timeout = '60s'")
    connection.commit()
