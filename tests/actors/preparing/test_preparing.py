"""Preparation of raw videos on Ray Data: each is kept or dropped for the right reason, also after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from emotivetalk.actors.preparing.driver import Preparation, PreparationLaunch, prepare_corpus
from emotivetalk.corpus.preparing.reasons import Reason
from emotivetalk.corpus.preparing.results import read_row
from emotivetalk.corpus.preparing.sandbox import Bounds, Sandbox
from emotivetalk.corpus.preparing.settings import PrepareSettings, weights_hash
from emotivetalk.corpus.preparing.sources import find_sources
from emotivetalk.corpus.records import read_corpus
from emotivetalk.media.isolated_process import IsolatedProcess
from tests.corpus.preparing.raw_videos import RawVideoSpec

ROOT = Path(__file__).resolve().parents[3]
STARTER = ROOT / "checkpoints" / "starter"
SAME = ("report.json", "report.md", "contact_sheet.png", "prepare.json", "shards.json")
WAIT_S = 3600


@pytest.fixture(scope="session")
def undisturbed(cluster, raws, tmp_path_factory) -> tuple[Path, Preparation]:
    output = tmp_path_factory.mktemp("undisturbed") / "corpus"
    settings = PrepareSettings(sync=weights_hash(STARTER))
    progress: list[tuple[int, int]] = []
    preparation = prepare_corpus(
        find_sources([str(raws[0])], {}),
        output,
        settings,
        STARTER,
        PreparationLaunch(2),
        lambda *at: progress.append(at),
    )
    assert progress[0] == (0, len(raws[1])) and progress[-1] == (len(raws[1]), len(raws[1]))
    return output, preparation


def outcomes(preparation: Preparation) -> dict[str, list[str]]:
    """Map each file's name to its reason, or to the outcome of each of its clips."""
    return {
        Path(row.name).stem: [str(row.reason)] if row.reason else [str(clip.reason or "kept") for clip in row.clips]
        for row in preparation.rows
    }


@pytest.mark.slow
def test_each_video_is_kept_or_dropped_for_the_right_reason(undisturbed, raws) -> None:
    got = outcomes(undisturbed[1])
    expected = {raw.name: [raw.expected] * max(1, raw.num_clips) for raw in raws[1]}
    assert {name: got[name] for name in expected if got[name] != expected[name]} == {}


@pytest.mark.slow
def test_the_offset_is_measured_to_a_frame(undisturbed, raws) -> None:
    truth: dict[str, RawVideoSpec] = {raw.name: raw for raw in raws[1]}
    errors, unsure = {}, 0
    for row in undisturbed[1].rows:
        raw = truth[Path(row.name).stem]
        for clip in row.clips:
            if clip.scores.offset is not None:
                errors[raw.name] = clip.scores.offset - raw.late
            elif clip.reason is None:
                unsure += 1
    assert {name: error for name, error in errors.items() if abs(error) > 1} == {}
    assert unsure <= 0.25 * (unsure + len(errors))  # few kept clips have no measured offset


@pytest.mark.slow
def test_the_corpus_can_be_read_and_a_second_run_changes_nothing(undisturbed, raws, cluster) -> None:
    output, preparation = undisturbed
    kept = sum(raw.num_clips for raw in raws[1])
    clips = [clip for split in ("train", "held_out") for clip in read_corpus(output, split)]
    assert len(clips) == kept == len({clip.clip_id for clip in clips})
    assert all(len(clip.frames or ()) == clip.num_frames == 64 and not clip.has_truth for clip in clips)
    report = json.loads((output / "report.json").read_text())
    assert report["clips"]["kept"] == kept and report["files"]["total"] == len(raws[1])
    before = {path: path.stat().st_mtime_ns for path in output.glob("*.parquet")}
    again = prepare_corpus(
        find_sources([str(raws[0])], {}),
        output,
        PrepareSettings(sync=weights_hash(STARTER)),
        STARTER,
        PreparationLaunch(2),
    )
    assert again.num_new == 0 and again.rows == preparation.rows
    assert {path: path.stat().st_mtime_ns for path in output.glob("*.parquet")} == before


@pytest.mark.slow
def test_a_run_that_was_killed_and_restarted_gives_the_same_bytes(undisturbed, raws, tmp_path: Path) -> None:
    output, parts = tmp_path / "corpus", tmp_path / "corpus" / "parts"
    command = [sys.executable, "-m", "emotivetalk", "prepare", str(raws[0]), "-o", str(output), "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0"}
    environment.pop("RAY_ADDRESS", None)
    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        end = time.monotonic() + WAIT_S
        while len(list(parts.glob("*.parquet"))) < len(raws[1]) // 2 and time.monotonic() < end:
            assert first.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert not (output / "report.json").exists()
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=log, timeout=WAIT_S, check=False)
    assert done.returncode == 0, (tmp_path / "log").read_text()
    new = int(done.stdout.decode().split(" new)")[0].split("(")[-1])
    assert 0 < new <= len(raws[1]) - len(raws[1]) // 2
    names = [*SAME, *(path.name for path in undisturbed[0].glob("*.parquet"))]
    assert {path.name for path in output.glob("*.parquet")} == {path.name for path in undisturbed[0].glob("*.parquet")}
    assert [name for name in names if (output / name).read_bytes() != (undisturbed[0] / name).read_bytes()] == []


@pytest.mark.slow
def test_a_process_that_dies_or_hangs_drops_only_one_file(
    raws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find_sources([str(next(raws[0].glob("000_plain.*")))], {})[0]
    with Sandbox(tmp_path, PrepareSettings(), None) as sandbox:
        sandbox.prepare(source)
        assert read_row(tmp_path, source).num_kept == 1
        with monkeypatch.context() as patch:
            interrupt_tasks(
                patch, signal.SIGKILL, num_tasks=1
            )  # one kill could have any cause, so the file is tried again
            sandbox.prepare(source)
        assert read_row(tmp_path, source).num_kept == 1
        with monkeypatch.context() as patch:
            interrupt_tasks(patch, signal.SIGKILL, num_tasks=2)
            sandbox.prepare(source)
        assert read_row(tmp_path, source).reason is Reason.CRASHED
        sandbox.prepare(source)
        assert read_row(tmp_path, source).num_kept == 1
        assert sandbox._process is not None
        os.kill(sandbox._process.pid, signal.SIGKILL)  # while it is idle
        time.sleep(0.2)
        sandbox.prepare(source)
        assert read_row(tmp_path, source).num_kept == 1
        sandbox._bounds = Bounds(silence_s=3)
        with monkeypatch.context() as patch:
            interrupt_tasks(patch, signal.SIGSTOP, num_tasks=1)
            sandbox.prepare(source)
        assert read_row(tmp_path, source).reason is Reason.HUNG


def interrupt_tasks(patch: pytest.MonkeyPatch, number: signal.Signals, num_tasks: int) -> None:
    """Send a signal to the isolated process as soon as it has its task, for the next `num_tasks` tasks."""
    send, num_left = IsolatedProcess.send, num_tasks

    def send_and_interrupt(process: IsolatedProcess, message: dict[str, Any]) -> None:
        nonlocal num_left
        send(process, message)
        if "uri" in message and num_left:
            num_left -= 1
            os.kill(process.pid, number)

    patch.setattr(IsolatedProcess, "send", send_and_interrupt)
