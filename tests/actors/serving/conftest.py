"""Job stores for the tests. Every test that takes `store` runs on SQLite and on a real PostgreSQL server."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from emotivetalk.actors.serving.jobs.store import JobStore
from tests.actors.serving.jobs_for_tests import Clock

USER = "emotivetalk"


def find_program(name: str) -> str:
    """Find a program of the PostgreSQL server. Debian installs each version in its own folder, off the PATH."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    found = str(installed[-1]) if installed else shutil.which(name)
    if found is None:
        pytest.fail(f"PostgreSQL's {name} is missing: apt-get install postgresql (the Debian package)", pytrace=False)
    return found


def server_account() -> dict[str, object]:
    """Return Popen arguments that run the server under another account, since PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    accounts = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = accounts.get("postgres") or accounts["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Run a server on a Unix socket, without fsync, for the session. Returns the folder of its socket."""
    initdb, postgres = find_program("initdb"), find_program("postgres")
    account = server_account()
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path may have at most 107 characters
    if account:
        os.chown(folder, account["user"], account["group"])
    data = folder / "data"
    options = ["-D", str(data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    result = subprocess.run([initdb, *options], capture_output=True, text=True, check=False, cwd=folder, **account)
    if result.returncode != 0:
        pytest.fail(f"initdb: {result.stderr.strip()}", pytrace=False)
    log = folder / "log"
    settings = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=200"]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [postgres, "-D", str(data), "-k", str(folder), *settings],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            **account,
        )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(host=str(folder), user=USER, dbname="postgres").close()
                break
            except psycopg.OperationalError:
                if server.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"PostgreSQL did not start: {log.read_text()}", pytrace=False)
                time.sleep(0.05)
        yield str(folder)
    finally:
        server.send_signal(signal.SIGQUIT)  # immediate shutdown: the data is not needed any more
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgresql_url(postgresql: str) -> str:
    """Create an empty schema, which is faster than to create a database."""
    name = f"jobs_{time.monotonic_ns()}"
    with psycopg.connect(host=postgresql, user=USER, dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return f"postgresql://{USER}@/postgres?host={postgresql}&options=-csearch_path%3D{name}"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'jobs.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(url: str, clock: Clock) -> Iterator[JobStore]:
    """A store with leases of 15 s, on a clock that the test sets."""
    job_store = JobStore(url, lease_s=15, max_attempts=3, clock=clock)
    yield job_store
    job_store.close()
