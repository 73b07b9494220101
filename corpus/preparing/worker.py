"""The program that prepares files: a process that may be killed, started by `corpus/preparing/sandbox.py`.

It reads one line of JSON that says how to work, then a line for each file. For each it writes the part, with lines of
JSON to what was its standard output meanwhile: `{"at": ...}` as often as something was done, `{"done": true}` at the end.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

from emotivetalk.corpus.preparing.file_work import prepare_file
from emotivetalk.corpus.preparing.labels import Label
from emotivetalk.corpus.preparing.reasons import reason_of_error
from emotivetalk.corpus.preparing.results import FileRow, Source, write_part
from emotivetalk.corpus.preparing.settings import Settings
from emotivetalk.corpus.preparing.sources import local_copy
from emotivetalk.errors import EmotiveTalkError, InputError
from emotivetalk.media.face_detection import use_one_thread

PR_SET_PDEATHSIG = 1
SAY_EVERY_S = 1.0


class Lines:
    """What is said to whoever started the process."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._last = 0.0

    def write(self, **line: object) -> None:
        """A line, at once."""
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()

    def at_work(self) -> None:
        """A sign of life, now and then."""
        now = time.monotonic()
        if now - self._last > SAY_EVERY_S:
            self._last = now
            self.write(at=now)


def main() -> None:
    """Work until standard input ends."""
    lines = Lines(os.fdopen(os.dup(sys.stdout.fileno()), "wb"))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a decoder prints is no line of ours
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # who started it may be killed
    order = json.loads(sys.stdin.readline())
    resource.setrlimit(resource.RLIMIT_AS, (order["memory_bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    settings = Settings(**order["settings"])
    use_one_thread()
    meter = None
    if order["sync_checkpoint"] is not None:
        import torch

        from emotivetalk.corpus.preparing.synchrony import SyncMeter

        torch.set_num_threads(1)
        meter = SyncMeter(Path(order["sync_checkpoint"]))
    lines.write(ready=True)
    for line in sys.stdin:
        _work(json.loads(line), Path(order["parts"]), settings, meter, lines)


def _work(task: dict[str, Any], parts: Path, settings: Settings, meter: Any, lines: Lines) -> None:
    source = Source(task["uri"], task["name"], task["fingerprint"], Label(**task["label"]))
    try:
        try:
            with local_copy(source) as path:
                row, clips = prepare_file(path, source, settings, meter, lines.at_work)
        except InputError as error:  # of fetching it
            row, clips = FileRow(source.name, source.label, reason_of_error(error.code), error.message), []
        write_part(parts, source, settings.key, row, clips)
    except EmotiveTalkError as error:
        lines.write(error=[error.code, error.message, error.remedy])
    else:
        lines.write(done=True)


if __name__ == "__main__":
    main()
