"""A process to prepare files in: decoders are written in C, and one broken file may hang or crash them.

The process serves file after file, since starting it costs seconds. When it is silent for too long it is killed, when
it dies twice at the same file that file is to blame; the next one gets a new process.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from emotivetalk.corpus.preparing.reasons import Reason
from emotivetalk.corpus.preparing.results import FileRow, Source, write_part
from emotivetalk.corpus.preparing.settings import Settings
from emotivetalk.errors import OutputError
from emotivetalk.limits import say_duration

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bounds:
    """What the process may use.

    Attributes:
        silence_s: without a sign of life, until it is killed; fetching from a URL gives none.
        memory_bytes: of address space, libraries included.
    """

    silence_s: float = 300.0
    memory_bytes: int = 12 << 30


class Sandbox:
    """Prepares one file at a time in a process of its own. Close it, or use it in a `with`.

    Args:
        parts: the folder for the parts.
        settings: how to prepare.
        sync_checkpoint: whose networks measure synchrony; None leaves that out.
        bounds: of the process.
    """

    def __init__(
        self, parts: Path, settings: Settings, sync_checkpoint: Path | None, bounds: Bounds | None = None
    ) -> None:
        self._parts, self._settings, self._bounds = parts, settings, bounds or Bounds()
        self._order = {
            "parts": str(parts.absolute()),
            "settings": asdict(settings),
            "sync_checkpoint": None if sync_checkpoint is None else str(sync_checkpoint.absolute()),
            "memory_bytes": self._bounds.memory_bytes,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 it lives as long as this does

    def prepare(self, source: Source) -> None:
        """Write the part of a source: with its clips, or with the reason why there are none.

        Raises:
            OutputError: the part could not be written.
        """
        try:
            answer = self._ask_twice(source)
        except _DiedError as error:
            self.close()
            reason = Reason.HUNG if error.was_silent else Reason.CRASHED
            log.warning("%s: the process %s: %s", source.name, reason, self._complaint())
            message = f"nothing for {say_duration(self._bounds.silence_s)}" if error.was_silent else reason.meaning
            row = FileRow(source.name, source.label, reason, message)
            write_part(self._parts, source, self._settings.key, row, [])
            return
        if "error" in answer:
            raise OutputError(*answer["error"])

    def close(self) -> None:
        """End the process."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._process = None

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask_twice(self, source: Source) -> dict:
        """The answer to a source; a process that died gets a successor, for it may have been killed from outside.

        Ray ends what a worker started before the worker itself, which must not put that down to the file meanwhile.
        """
        try:
            return self._ask(source)
        except _DiedError as error:
            if error.was_silent:
                raise
            self.close()
            return self._ask(source)

    def _ask(self, source: Source) -> dict:
        process = self._ready()
        self._say(process, asdict(source))
        return self._answer(process)

    def _ready(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self.close()  # it ended while it had nothing to do: the next file is not to blame
        if self._process is None:
            self._complaints.truncate(0)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "emotivetalk.corpus.preparing.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                bufsize=0,
                env=_environment(),
                start_new_session=True,  # with whatever it starts it can be killed as one
            )
            self._buffer = b""
            self._say(self._process, self._order)
            try:
                self._answer(self._process)
            except _DiedError as error:
                complaint = self._complaint()
                self.close()
                raise OutputError(
                    "prepare_process", f"the process that reads videos does not start ({complaint})", "Report this."
                ) from error
        return self._process

    def _say(self, process: subprocess.Popen[bytes], line: object) -> None:
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it died; there will be no answer either
            process.stdin.write(json.dumps(line).encode() + b"\n")

    def _answer(self, process: subprocess.Popen[bytes]) -> dict:
        """The line that ends a task; signs of life before it are counted as such."""
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            end = time.monotonic() + self._bounds.silence_s
            while True:
                while b"\n" in self._buffer:
                    line, self._buffer = self._buffer.split(b"\n", 1)
                    said = json.loads(line)
                    if "at" not in said:
                        return said
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise _DiedError(was_silent=True)
                data = process.stdout.read(1 << 16)
                if not data:
                    raise _DiedError(was_silent=False)
                self._buffer += data
                end = time.monotonic() + self._bounds.silence_s

    def _complaint(self) -> str:
        self._complaints.seek(max(0, self._complaints.seek(0, os.SEEK_END) - 2000))
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


class _DiedError(Exception):
    """The process is gone, or as good as."""

    def __init__(self, was_silent: bool) -> None:
        super().__init__()
        self.was_silent = was_silent


def _environment() -> dict[str, str]:
    """Proxies, credentials for URLs and all; and one thread, since there is a process for each CPU."""
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONUTF8": "1",
    }
