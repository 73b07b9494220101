"""A table of rows while processes are killed: every row once, byte for byte what an undisturbed run gives.

`EMOTIVETALK_ROWS` sets the number of rows, `EMOTIVETALK_KILL_S` the seconds between two kills.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil

from tests.actors.cluster.conftest import PORTRAIT, ROOT, SPEECH
from tests.models import debug

ROWS = int(os.environ.get("EMOTIVETALK_ROWS", "24"))
KILL_S = float(os.environ.get("EMOTIVETALK_KILL_S", "20"))
EMOTIONS = ("happy", "sad:0.5", "angry", "neutral")
TARGETS = ("command", "director", "ETHD", "decoder", "gateway", "raylet")
LIMIT_S = 1500.0


class Command:
    """`emotivetalk render` on a table, and the processes that belong to it."""

    def __init__(self, table: Path, output: Path, checkpoint: Path, *options: str) -> None:
        self._output, self._log = output, output.with_suffix(".log")
        self._arguments = [str(table), "-o", str(output), "--checkpoint", str(checkpoint), *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "emotivetalk", "render", *self._arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    @property
    def status(self) -> int | None:
        assert self._process is not None
        return self._process.poll()

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]

    def finish(self, timeout_s: float = LIMIT_S) -> int:
        assert self._process is not None
        return self._process.wait(timeout_s)

    def kill(self, target: str) -> bool:
        """SIGKILL a process of the command; False if there is none at this moment."""
        assert self._process is not None
        if target == "command":
            self._process.kill()
            self._process.wait()
            return True
        found = [process for process in self._children() if _is(process, target)]
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        return bool(found)

    def _children(self) -> list[psutil.Process]:
        assert self._process is not None
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self._process.pid).children(recursive=True)
        return []


def _is(process: psutil.Process, target: str) -> bool:
    with suppress(psutil.Error):
        line = process.cmdline() or [""]
        if target == "raylet":
            return line[0].endswith("/raylet")
        return line[0].startswith(f"ray::ServeReplica:emotivetalk:{target}")
    return False


def videos(output: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in output.glob("*.mp4")}


def test_a_table_survives_random_kills(tmp_path: Path) -> None:
    checkpoint, table = tmp_path / "checkpoint", tmp_path / "rows.csv"
    debug.pipeline().save_pretrained(checkpoint)
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["custom_id", "portrait", "audio", "emotion", "seed"])
        writer.writerows(
            [f"row-{i}", PORTRAIT, SPEECH, EMOTIONS[i % len(EMOTIONS)], i // len(EMOTIONS)] for i in range(ROWS)
        )
        writer.writerow(["broken", SPEECH, SPEECH, "happy", 0])

    undisturbed = Command(table, tmp_path / "undisturbed", checkpoint)
    undisturbed.start()
    assert undisturbed.finish() == 1, undisturbed.log()  # one row is broken
    expected = videos(tmp_path / "undisturbed")
    assert len(expected) == ROWS and len(set(expected.values())) == ROWS

    order, killed, end = random.Random(7), Counter[str](), time.monotonic() + LIMIT_S
    disturbed = Command(table, tmp_path / "disturbed", checkpoint)
    disturbed.start()
    next_kill = time.monotonic() + KILL_S
    while disturbed.status is None:
        assert time.monotonic() < end, disturbed.log()
        time.sleep(0.2)
        if time.monotonic() < next_kill:
            continue
        target = order.choice(TARGETS)
        if disturbed.kill(target):
            killed[target] += 1
            next_kill = time.monotonic() + KILL_S
            if target == "command":
                disturbed.start()
    assert disturbed.status == 1, disturbed.log()
    print(f"\nkilled {dict(killed)}; {ROWS} rows")

    assert videos(tmp_path / "disturbed") == expected
    lines = [json.loads(line) for line in (tmp_path / "disturbed" / "results.jsonl").read_text().splitlines()]
    ids = Counter(line["id"] for line in lines)
    assert len(lines) == ROWS + 1 and ids.most_common(1)[0][1] == 1
    assert [line["error_code"] for line in lines if line["status"] == "failed"] == ["image_unreadable"]
