"""Runs on workers whose processes are killed: the losses equal those of an undisturbed run.

These tests take minutes, since workers are started anew after each kill.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from emotivetalk.actors.training.driver import Launch, WorkersFailedError, train_on_ray
from emotivetalk.training.checkpoints.training_state import training_checkpoints
from emotivetalk.training.run.config import load_config
from emotivetalk.training.run.folder_lock import claimed
from emotivetalk.training.run.loop import TrainingDivergedError
from emotivetalk.training.run.loop import train as plain_train
from tests.actors.training.runs import EQUAL, TAME_ADAMW, assert_equal_runs, log_lines, toy_config, train_plain
from tests.actors.training.toys import PlannedKill, ToyConfig, ToyStage
from tests.consoles import text_console

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_workers_killed_mid_step_mid_save_and_before_the_commit_change_nothing(cluster, tmp_path: Path) -> None:
    train_plain(toy_config(tmp_path / "plain", checkpoint_every=5))
    kills = (
        PlannedKill(place="batch", step=7, rank=1, marker=tmp_path / "mid_step"),
        # After the report of a checkpoint, the next thing that happens is a batch.
        PlannedKill(place="batch", step=10, rank=0, marker=tmp_path / "after_report"),
        PlannedKill(place="save", step=14, rank=0, marker=tmp_path / "mid_save"),
    )
    config = toy_config(tmp_path / "ray", checkpoint_every=5, prefetch=False, zero=2, stage=ToyConfig(kills=kills))
    console = text_console()
    train_on_ray(config, Launch(2, max_failures=3), stage=ToyStage, console=console)
    assert all(kill.marker.exists() for kill in kills)
    assert_equal_runs(tmp_path / "ray", tmp_path / "plain")
    text = console.file.getvalue()
    assert text.count("toy: resuming after step 5, from") == 1
    assert text.count("toy: resuming after step 10, from") == 2
    assert not list((tmp_path / "ray" / "training").glob(".step*"))


@pytest.mark.slow
def test_too_many_worker_failures_end_the_run_with_one_line(cluster, tmp_path: Path) -> None:
    kill = PlannedKill(place="batch", step=3, marker=tmp_path / "marker")
    config = toy_config(tmp_path / "ray", checkpoint_every=2, prefetch=False, stage=ToyConfig(kills=(kill,)))
    with pytest.raises(WorkersFailedError, match="workers failed more often than they are restarted") as caught:
        train_on_ray(config, Launch(1, max_failures=0), stage=ToyStage, console=text_console())
    assert "\n" not in str(caught.value)
    assert [path.name for path in training_checkpoints(tmp_path / "ray" / "training")] == ["step_00000002"]


@pytest.mark.slow
def test_a_diverged_run_is_not_restarted(cluster, tmp_path: Path) -> None:
    config = toy_config(tmp_path / "ray", stage=ToyConfig(bad_step=3))
    with pytest.raises(TrainingDivergedError, match="step 3: the loss is nan"):
        train_on_ray(config, Launch(1), stage=ToyStage, console=text_console())
    assert len(log_lines(tmp_path / "ray")) == 3


@pytest.mark.slow
def test_a_run_whose_driver_is_killed_or_stopped_resumes_with_another_number_of_workers(tmp_path: Path) -> None:
    """SIGKILL the command with two workers, SIGTERM it with one, then finish without workers."""
    settings = [*TAME_ADAMW, "steps=40", "checkpoint_every=4", "validate_every=null"]
    path = str(ROOT / "train_configs" / "autoencoder_debug.yaml")

    def command(output: Path, *more: str) -> list[str]:
        overrides = [f"--set={setting}" for setting in settings]
        return [sys.executable, "-m", "emotivetalk", "train", path, *overrides, f"--set=output={output}",
                f"--set=checkpoint={output}/checkpoint", *more]  # fmt: skip

    def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
        end = time.monotonic() + 300
        while not condition():
            assert process.poll() is None, process.returncode
            assert time.monotonic() < end
            time.sleep(0.02)

    run, whole = tmp_path / "run", tmp_path / "whole"
    plain_train(
        load_config(Path(path), [*settings, f"output={whole}", f"checkpoint={whole}/checkpoint"]),
        console=text_console(),
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    killed = subprocess.Popen(command(run, "--workers", "2", "--zero", "2"), cwd=ROOT, env=environment)
    wait_for(lambda: (run / "steps.jsonl").exists() and len(log_lines(run)) >= 6, killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert training_checkpoints(run / "training")
    # Not steps.jsonl, since workers of a killed driver continue for a second or two.
    errors = tmp_path / "errors.txt"
    with errors.open("w") as stderr:
        resuming = command(run, "--workers", "1", "--resume")
        stopped = subprocess.Popen(resuming, cwd=ROOT, env=environment, stderr=stderr)
    wait_for(lambda: "resuming after step" in errors.read_text(), stopped)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(120) == 130
    subprocess.run(command(run, "--resume"), cwd=ROOT, env=environment, check=True, timeout=300)
    ours, theirs = ([line["loss"] for line in log_lines(folder)] for folder in (run, whole))
    assert ours == pytest.approx(theirs, rel=EQUAL)
    assert (run / "checkpoint" / "vae" / "config.json").exists()


@pytest.mark.slow
def test_workers_wait_until_those_of_a_killed_driver_have_ended(cluster, tmp_path: Path) -> None:
    run = tmp_path / "run"
    is_held, begun = threading.Event(), []

    def orphan() -> None:
        with claimed(run / "training"):
            is_held.set()
            time.sleep(25)
            begun.append(any(path.name.startswith("step_") for path in (run / "training").iterdir()))

    thread = threading.Thread(target=orphan, daemon=True)
    thread.start()
    assert is_held.wait(10)
    result = train_on_ray(
        toy_config(run, steps=4, checkpoint_every=2), Launch(1), stage=ToyStage, console=text_console()
    )
    assert result.is_finished
    assert begun == [False]


@pytest.mark.slow
def test_a_run_saves_a_checkpoint_when_asked_to_stop(cluster, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = toy_config(run, steps=400, checkpoint_every=None, validate_every=None, stage=ToyConfig(pause_s=0.05))

    def ask() -> None:
        while not (run / "steps.jsonl").exists() or len(log_lines(run)) < 3:
            time.sleep(0.05)
        (run / "training" / "stop").touch()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    console = text_console()
    result = train_on_ray(config, Launch(1), stage=ToyStage, console=console)
    assert not result.is_finished
    assert 3 <= result.num_done < 400
    assert f"stopped after step {result.num_done} of 400, and saved" in console.file.getvalue()
    state = json.loads((training_checkpoints(run / "training")[-1] / "state.json").read_text())
    assert state["num_done"] == result.num_done
