"""Run a program in an isolated process with limits: decoders are written in C and read files from strangers.

The parent starts the program with `start` and exchanges lines of JSON with it. The program opens its end with
`open_reports` and bounds itself with `limit`, after its imports and before it reads any input. Whatever a file does to the
process, the parent keeps running.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

# Some installations find no Python, no libraries or no temporary folder without these.
REQUIRED_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
MAX_ERROR_OUTPUT = 2000  # bytes at the end of standard error that are kept for messages
READ_BYTES = MAX_LINE_BYTES = 1 << 16
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class ProcessLimits:
    """Resource limits of an isolated process. None sets no limit.

    Attributes:
        memory_bytes: address space, libraries included.
        file_bytes: size of each file that it writes.
        cpu_s: CPU time of all its threads together, seconds.
        wall_s: time until it ends by itself, seconds.
    """

    memory_bytes: int
    file_bytes: int | None = None
    cpu_s: float | None = None
    wall_s: float | None = None


class IsolatedProcess:
    """A running program, as its parent sees it. Close it, or use it in a `with`.

    Args:
        module: the module to run.
        environment: variables to pass on; None passes only what a process needs to start: no tokens, no credentials.
    """

    def __init__(self, module: str, environment: Mapping[str, str] | None = None) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 closed with the process
        self._process = subprocess.Popen(
            # -P: the current folder is no place to import from.
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            cwd="/",
            env=_environment(environment),
            start_new_session=True,  # so that it can be killed together with what it starts
        )
        self._buffer = b""

    @property
    def pid(self) -> int:
        """The process, whose id is also that of its group."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def error_output(self) -> str:
        """The end of what the process wrote to standard error."""
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - MAX_ERROR_OUTPUT))
        return self._stderr.read().decode(errors="replace")

    def send(self, value: object) -> None:
        """Send a value as a line of JSON. If the process has ended, nothing happens; `lines` ends and `wait` tells how."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(value).encode() + b"\n")

    def lines(self, timeout_s: float, *, since_output: bool = False) -> Iterator[dict[str, Any]]:
        """Yield the JSON objects that the process reports, until it closes its end.

        Lines that are not JSON objects are skipped: a process that was taken over may write anything.

        Args:
            timeout_s: maximum time until the process closes its end, seconds.
            since_output: the time counts from the last output instead of from this call.

        Raises:
            TimeoutError: the time is up.
        """
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            end = time.monotonic() + timeout_s
            while True:
                *complete, self._buffer = self._buffer.split(b"\n")
                yield from (value for line in complete if (value := _parse(line)) is not None)
                remaining_s = end - time.monotonic()
                if remaining_s <= 0 or not selector.select(remaining_s):
                    raise TimeoutError
                data = self._process.stdout.read(READ_BYTES)
                if not data:
                    return
                self._buffer = self._buffer[-MAX_LINE_BYTES:] + data
                if since_output:
                    end = time.monotonic() + timeout_s

    def wait(self, timeout_s: float) -> int:
        """Wait for the end and return the exit status; the negative number of the signal if one ended the process.

        Raises:
            TimeoutError: the process still runs.
        """
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error

    def close(self) -> None:
        """Kill the process and what it started, and free its pipes."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def __enter__(self) -> IsolatedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Reports:
    """Lines of JSON from an isolated process to its parent."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, **line: object) -> None:
        """Write a line and flush it, so that the parent knows where a crash happened."""
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()


def open_reports() -> Reports:
    """Take over standard output for reports. What libraries print goes to standard error from now on."""
    reports = Reports(os.fdopen(os.dup(sys.stdout.fileno()), "wb"))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return reports


def limit(limits: ProcessLimits) -> None:
    """Bound what this process may use, and end it when the parent's thread that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    if limits.file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_bytes, limits.file_bytes))
    if limits.cpu_s is not None:
        cpu_s = int(limits.cpu_s) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    if limits.wall_s is not None:
        # The default handler ends the process even while C code runs.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limits.wall_s)


def _parse(line: bytes) -> dict[str, Any] | None:
    with suppress(ValueError, RecursionError):
        value = json.loads(line)
        if isinstance(value, dict):
            return value
    return None


def _environment(variables: Mapping[str, str] | None) -> dict[str, str]:
    """The variables of an isolated process. It uses one thread: many of them run at a time."""
    if variables is None:
        variables = {name: os.environ[name] for name in REQUIRED_VARIABLES if name in os.environ}
    return {
        **variables,
        "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path),
        "PYTHONUTF8": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
