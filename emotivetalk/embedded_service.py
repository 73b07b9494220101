"""The service that a command starts for itself: `emotivetalk serve` as a child process, started again when it dies.

Ray cannot be started twice in one process, and a command must survive the death of its cluster. So the service has a
process of its own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from emotivetalk.errors import EmotiveTalkError
from emotivetalk.media.checkpoints import find_checkpoint
from emotivetalk.output import say
from emotivetalk.resources import find_config, shipped_folder

MAX_RESTARTS = 5  # in a row, without getting ready in between
START_ATTEMPTS = 3
START_S = 600.0
STOP_S = 60.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before a fork, where little is safe


@dataclass(frozen=True)
class EmbeddedService:
    """A service on loopback and a free port.

    Attributes:
        folder: where its configuration, log, jobs and videos go.
        checkpoint: checkpoint folder; None is the configuration's, or the starter.
        address: address of a running Ray cluster; None starts one on this machine.
        max_jobs: unfinished videos at the same time.
        config: YAML of Ray Serve's schema. Stores that it names (`data`, `jobs`, `artifacts`) are used. None is `serve_configs/local.yaml`.
    """

    folder: Path
    checkpoint: Path | None
    address: str | None
    max_jobs: int
    config: Path | None = None

    def checkpoint_folder(self) -> Path:
        """Return the folder of the checkpoint that renders.

        Raises:
            InputError: it is no checkpoint, or the configuration cannot be read.
        """
        named = self.checkpoint or self._configured()["applications"][0]["args"].get("checkpoint")
        return find_checkpoint(named if named is None else Path(named))

    @property
    def log(self) -> Path:
        return self.folder / "serve.log"

    @contextmanager
    def running(self, on_lost: Callable[[EmotiveTalkError], None]) -> Iterator[str]:
        """Start the service, yield its URL once it is ready, and keep it running until the context ends.

        Args:
            on_lost: called from another thread when the service died too often and is given up.

        Raises:
            EmotiveTalkError: code "serve_failed": it does not start.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        supervisor = _Supervisor(self._command(port), f"http://127.0.0.1:{port}", self.log, on_lost)
        say("starting: Ray, gateway, director, V-AID, ETHD, decoder", err=True)
        supervisor.start()
        try:
            yield supervisor.url
        finally:
            supervisor.stop()

    def _command(self, port: int) -> list[str]:
        config = self.folder / "serve.yaml"
        config.write_text(yaml.safe_dump(self._document(port), sort_keys=False))
        address = [] if self.address is None else ["--address", self.address]
        return [sys.executable, "-m", "emotivetalk", "serve", str(config), *address]

    def _document(self, port: int) -> dict[str, Any]:
        document = self._configured()
        document["http_options"] = {"host": "127.0.0.1", "port": port}
        arguments = document["applications"][0]["args"]
        arguments.setdefault("data", str((self.folder / "service").resolve()))
        arguments["grpc"] = {"port": None}
        if self.checkpoint is not None:
            arguments["checkpoint"] = str(self.checkpoint.resolve())
        arguments["gateway"] = {
            **arguments.get("gateway", {}),
            "tokens_file": None,
            "allow_anonymous": True,  # on loopback
            "limits": {"requests_per_minute": 1_000_000, "max_concurrent_jobs": self.max_jobs, "max_upload_mb": 10_000},
        }
        return document

    def _configured(self) -> dict[str, Any]:
        if self.config is None:
            path = shipped_folder("serve_configs") / "local.yaml"
        else:
            from emotivetalk.actors.serving.launch import read_plan

            path = find_config(self.config, "serve_configs")
            read_plan(path)
        return yaml.safe_load(path.read_text(encoding="utf-8"))


class _Supervisor:
    """Runs the command, and runs it again when it ends by itself."""

    def __init__(self, command: list[str], url: str, log: Path, on_lost: Callable[[EmotiveTalkError], None]) -> None:
        self.url, self._command, self._log, self._on_lost = url, command, log, on_lost
        self._stopping = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="embedded-service", daemon=True)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the service and wait until it is ready. A start that fails is tried again, twice."""
        for attempt in range(1, START_ATTEMPTS + 1):
            self._process = self._spawn()
            try:
                self._wait_until_ready(self._process)
                break
            except BaseException as error:
                self._end(self._process)
                if attempt == START_ATTEMPTS or not isinstance(error, EmotiveTalkError):
                    raise
                say(f"{error.message}; starting it again", err=True)
        self._watching.start()

    def stop(self) -> None:
        """End the service: gently, so that it releases its videos, then by force."""
        self._stopping.set()
        if self._process is not None:
            self._end(self._process)
        if self._watching.is_alive():
            self._watching.join()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            # Its own session: Ctrl-C in the terminal is for the command, which ends the service in its turn.
            return subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def _watch(self) -> None:
        assert self._process is not None
        failures = 0
        while not self._stopping.is_set():
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.5)
            if self._process.poll() is None or self._stopping.is_set():
                continue
            failures += 1
            if failures > MAX_RESTARTS:
                self._on_lost(self._failure("the service died again and again"))
                return
            say(f"the service ended with status {self._process.returncode}; starting it again", err=True)
            _kill_session(self._process.pid)
            self._process = self._spawn()
            with suppress(EmotiveTalkError):  # it is counted by the next look
                self._wait_until_ready(self._process)
                failures = 0

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_S
        while not self._stopping.wait(0.3):
            if process.poll() is not None:
                raise self._failure("the service does not start")
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                if answer.status == 200:
                    return
            if time.monotonic() > end:
                raise self._failure(f"the service is not ready after {START_S:.0f} s")

    def _failure(self, what: str) -> EmotiveTalkError:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        reason = f" ({lines[-1].strip()})" if lines else ""
        return EmotiveTalkError("serve_failed", f"{what}{reason}", f"See {self._log}.")

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _kill_session(process.pid)


def _die_with_parent() -> None:
    """Ask Linux to end this process when the command is killed, so that no service is left behind."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _kill_session(leader: int) -> None:
    """Kill what a dead service left behind in its process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
