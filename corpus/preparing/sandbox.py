"""Prepare files in an isolated process, since a broken file may hang or crash a decoder.

The process serves one file after another, since it takes seconds to start. It is killed when it is silent for too long. A
file at which it dies twice is to blame; the next file gets a new process.
"""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emotivetalk.corpus.preparing.reasons import Reason
from emotivetalk.corpus.preparing.results import FileRow, VideoSource, write_part
from emotivetalk.corpus.preparing.settings import PrepareSettings
from emotivetalk.errors import OutputError
from emotivetalk.limits import say_duration
from emotivetalk.media.isolated_process import IsolatedProcess

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bounds:
    """Limits of the process.

    Attributes:
        silence_s: time without a sign of life until the process is killed. Fetching a URL gives none.
        memory_bytes: address space, libraries included.
    """

    silence_s: float = 300.0
    memory_bytes: int = 12 << 30


class Sandbox:
    """Prepares one file at a time in an isolated process. Close it, or use it in a `with`.

    Args:
        parts: folder for the parts.
        settings: how to prepare.
        sync_checkpoint: checkpoint whose networks measure synchrony; None skips the measurement.
        bounds: limits of the process.
    """

    def __init__(
        self, parts: Path, settings: PrepareSettings, sync_checkpoint: Path | None, bounds: Bounds | None = None
    ) -> None:
        self._parts, self._settings, self._bounds = parts, settings, bounds or Bounds()
        self._setup = {
            "parts": str(parts.absolute()),
            "settings": asdict(settings),
            "sync_checkpoint": None if sync_checkpoint is None else str(sync_checkpoint.absolute()),
            "memory_bytes": self._bounds.memory_bytes,
        }
        self._process: IsolatedProcess | None = None

    def prepare(self, source: VideoSource) -> None:
        """Write the part of a source: its clips, or the reason why there are none.

        Raises:
            OutputError: the part could not be written.
        """
        try:
            answer = self._ask_twice(source)
        except _DiedError as error:
            reason = Reason.HUNG if error.was_silent else Reason.CRASHED
            log.warning("%s: the process %s: %s", source.name, reason, error)
            message = f"nothing for {say_duration(self._bounds.silence_s)}" if error.was_silent else reason.meaning
            row = FileRow(source.name, source.label, reason, message)
            write_part(self._parts, source, self._settings.key, row, [])
            return
        if "error" in answer:
            raise OutputError(*answer["error"])

    def close(self) -> None:
        """Kill the process."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask_twice(self, source: VideoSource) -> dict[str, Any]:
        """Ask again in a new process if the first one died: it may have been killed from outside.

        Ray ends what a worker started before the worker itself. Meanwhile the file must not be blamed for it.
        """
        try:
            return self._ask(source)
        except _DiedError as error:
            if error.was_silent:
                raise
            return self._ask(source)

    def _ask(self, source: VideoSource) -> dict[str, Any]:
        process = self._running_process()
        process.send(asdict(source))
        return self._answer(process)

    def _running_process(self) -> IsolatedProcess:
        if self._process is not None and not self._process.is_running:
            self.close()  # it died while idle, so the next file is not to blame
        if self._process is None:
            # With the whole environment: fetching URLs needs proxies and credentials.
            self._process = IsolatedProcess("emotivetalk.corpus.preparing.worker", os.environ)
            self._process.send(self._setup)
            try:
                self._answer(self._process)
            except _DiedError as error:
                raise OutputError(
                    "prepare_process", f"the process that reads videos does not start ({error})", "Report this."
                ) from error
        return self._process

    def _answer(self, process: IsolatedProcess) -> dict[str, Any]:
        """Return the line that ends a task, and skip the signs of life before it. A process without answer is killed."""
        was_silent = False
        try:
            for line in process.lines(self._bounds.silence_s, since_output=True):
                if "at" not in line:
                    return line
        except TimeoutError:
            was_silent = True
        output = process.error_output.strip().splitlines()
        self.close()
        raise _DiedError(output[-1] if output else "no error output", was_silent)


class _DiedError(Exception):
    """The process died, or was silent for too long and killed."""

    def __init__(self, message: str, was_silent: bool) -> None:
        super().__init__(message)
        self.was_silent = was_silent
