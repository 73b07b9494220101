"""The program that prepares files in an isolated process, started by `corpus/preparing/sandbox.py`.

It reads one line of JSON with its setup, then a line for each file. For each file it writes the part. Meanwhile it reports
`{"at": ...}` as signs of life, and at the end `{"done": true}` or an error's parts.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from emotivetalk.corpus.preparing.file_work import prepare_file
from emotivetalk.corpus.preparing.labels import Label
from emotivetalk.corpus.preparing.reasons import reason_of_error
from emotivetalk.corpus.preparing.results import FileRow, VideoSource, write_part
from emotivetalk.corpus.preparing.settings import PrepareSettings
from emotivetalk.corpus.preparing.sources import local_copy
from emotivetalk.errors import EmotiveTalkError, InputError
from emotivetalk.media.face_detection import use_one_thread
from emotivetalk.media.isolated_process import ProcessLimits, Reports, limit, open_reports

REPORT_EVERY_S = 1.0


class SignsOfLife:
    """Tells the parent that the process works, at most once in `REPORT_EVERY_S`."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports
        self._last = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._last > REPORT_EVERY_S:
            self._last = now
            self._reports.write(at=now)


def main() -> None:
    """Prepare files until standard input ends."""
    reports = open_reports()
    setup = json.loads(sys.stdin.readline())
    limit(ProcessLimits(setup["memory_bytes"]))
    settings = PrepareSettings(**setup["settings"])
    use_one_thread()
    meter = None
    if setup["sync_checkpoint"] is not None:
        import torch

        from emotivetalk.corpus.preparing.synchrony import SyncMeter

        torch.set_num_threads(1)
        meter = SyncMeter(Path(setup["sync_checkpoint"]))
    reports.write(ready=True)
    for line in sys.stdin:
        _work(json.loads(line), Path(setup["parts"]), settings, meter, reports)


def _work(task: dict[str, Any], parts: Path, settings: PrepareSettings, meter: Any, reports: Reports) -> None:
    source = VideoSource(task["uri"], task["name"], task["fingerprint"], Label(**task["label"]))
    try:
        try:
            with local_copy(source) as path:
                row, clips = prepare_file(path, source, settings, meter, SignsOfLife(reports))
        except InputError as error:  # the file cannot be fetched
            row, clips = FileRow(source.name, source.label, reason_of_error(error.code), error.message), []
        write_part(parts, source, settings.key, row, clips)
    except EmotiveTalkError as error:
        reports.write(error=[error.code, error.message, error.remedy])
    else:
        reports.write(done=True)


if __name__ == "__main__":
    main()
