"""Ray Train's driver: the plain losses of real stages, survival, and what bad input gets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from actors.training.driver import Launch, WorkersFailedError, train_on_ray
from actors.training.estimate import Memory, Size, dry_run
from emotivetalk.cli import app
from media.errors import InputError
from tests.actors.training.runs import MUON, assert_equal_runs, lines, toy_config, train_plain
from tests.actors.training.toys import Mishap, ToyConfig, ToyStage
from tests.training import debug
from training.checkpoint import training_checkpoints
from training.config import load_config
from training.loop import TrainingDivergedError
from training.loop import train as plain_train

ROOT = Path(__file__).resolve().parents[3]


def quiet() -> Console:
    return Console(file=StringIO(), width=200)


@pytest.mark.slow
def test_one_worker_with_muon_has_the_plain_losses(cluster, tmp_path: Path) -> None:
    train_plain(toy_config(tmp_path / "plain", optimizer=MUON))
    console = quiet()
    result = train_on_ray(toy_config(tmp_path / "ray", optimizer=MUON), Launch(1), stage=ToyStage, console=console)
    assert result.is_finished
    assert result.metrics == lines(tmp_path / "ray", "validation.jsonl")[-1]["metrics"]
    assert_equal_runs(tmp_path / "ray", tmp_path / "plain")
    assert "toy: 20 steps done, networks in" in console.file.getvalue()
    assert (tmp_path / "ray" / "losses.png").exists()


@pytest.mark.slow
def test_ethd_under_zero_3_has_the_plain_losses_and_its_networks_load(cluster, tmp_path: Path) -> None:
    from models.ethd import ETHD

    debug.write_corpus(tmp_path / "corpus")
    debug.write_checkpoint(tmp_path / "checkpoint")
    overrides = [
        f"stage.corpus={tmp_path / 'corpus'}",
        f"stage.checkpoint={tmp_path / 'checkpoint'}",
        f"stage.cache={tmp_path / 'cache'}",
        "optimizer.name=adamw",
        f"checkpoint={tmp_path / 'made'}",
    ]
    path = ROOT / "train_configs" / "ethd_debug.yaml"
    plain = load_config(path, [*overrides, f"output={tmp_path / 'plain'}"])
    sharded = load_config(path, [*overrides, f"output={tmp_path / 'ray'}", "zero=3"])
    plain_train(plain, console=quiet())
    train_on_ray(sharded, Launch(2), console=quiet())
    for key, relative in {"loss": 1e-4, "gradient_norm": 1e-3}.items():
        ours, theirs = ([line[key] for line in lines(tmp_path / run)] for run in ("ray", "plain"))
        assert ours == pytest.approx(theirs, rel=relative)
    assert sum(p.numel() for p in ETHD.from_pretrained(tmp_path / "made" / "ethd").parameters()) > 10_000


@pytest.mark.slow
def test_workers_killed_mid_step_mid_save_and_before_the_commit_change_nothing(cluster, tmp_path: Path) -> None:
    train_plain(toy_config(tmp_path / "plain", checkpoint_every=5))
    mishaps = (
        Mishap(place="batch", step=7, rank=1, marker=tmp_path / "mid_step"),
        # Just after a checkpoint was reported: its batch is the first thing after the report.
        Mishap(place="batch", step=10, rank=0, marker=tmp_path / "after_report"),
        Mishap(place="save", step=14, rank=0, marker=tmp_path / "mid_save"),
    )
    config = toy_config(tmp_path / "ray", checkpoint_every=5, prefetch=False, zero=2, stage=ToyConfig(mishaps=mishaps))
    console = quiet()
    train_on_ray(config, Launch(2, max_failures=3), stage=ToyStage, console=console)
    assert all(mishap.marker.exists() for mishap in mishaps)
    assert_equal_runs(tmp_path / "ray", tmp_path / "plain")
    text = console.file.getvalue()
    assert text.count("toy: going on after step 5, from") == 1
    assert text.count("toy: going on after step 10, from") == 2
    assert not list((tmp_path / "ray" / "training").glob(".step*"))


@pytest.mark.slow
def test_workers_that_die_too_often_end_the_run_in_one_line(cluster, tmp_path: Path) -> None:
    mishap = Mishap(place="batch", step=3, marker=tmp_path / "marker")
    config = toy_config(tmp_path / "ray", checkpoint_every=2, prefetch=False, stage=ToyConfig(mishaps=(mishap,)))
    with pytest.raises(WorkersFailedError, match="workers failed more often than they are started again") as caught:
        train_on_ray(config, Launch(1, max_failures=0), stage=ToyStage, console=quiet())
    assert "\n" not in str(caught.value)
    assert [path.name for path in training_checkpoints(tmp_path / "ray" / "training")] == ["step_00000002"]


@pytest.mark.slow
def test_a_diverged_run_is_not_started_again(cluster, tmp_path: Path) -> None:
    config = toy_config(tmp_path / "ray", stage=ToyConfig(bad_step=3))
    with pytest.raises(TrainingDivergedError, match="step 3: the loss is nan"):
        train_on_ray(config, Launch(1), stage=ToyStage, console=quiet())
    assert len(lines(tmp_path / "ray")) == 3


@pytest.mark.slow
def test_a_driver_that_is_killed_or_stopped_goes_on_with_another_number_of_workers(tmp_path: Path) -> None:
    """The command in processes of its own: SIGKILL under two workers, SIGTERM under one, then the plain loop."""
    settings = {"optimizer.name": "adamw", "steps": 40, "checkpoint_every": 4, "validate_every": "null"}
    path = str(ROOT / "train_configs" / "autoencoder_debug.yaml")

    def command(output: Path, *more: str) -> list[str]:
        overrides = [f"--set={key}={value}" for key, value in settings.items()]
        return [sys.executable, "-m", "emotivetalk", "train", path, *overrides, f"--set=output={output}",
                f"--set=checkpoint={output}/checkpoint", *more]  # fmt: skip

    def wait_for(step: int, process: subprocess.Popen) -> None:
        end = time.monotonic() + 300
        while not (run / "steps.jsonl").exists() or len(lines(run)) < step:
            assert process.poll() is None, process.returncode
            assert time.monotonic() < end
            time.sleep(0.02)

    run, whole = tmp_path / "run", tmp_path / "whole"
    plain_train(
        load_config(Path(path), [*(f"{k}={v}" for k, v in settings.items()), f"output={whole}",
                                 f"checkpoint={whole}/checkpoint"]),
        console=quiet(),
    )  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    killed = subprocess.Popen(command(run, "--workers", "2", "--zero", "2"), cwd=ROOT, env=environment)
    wait_for(6, killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert training_checkpoints(run / "training")
    stopped = subprocess.Popen(command(run, "--workers", "1", "--resume"), cwd=ROOT, env=environment)
    wait_for(14, stopped)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(120) == 130
    subprocess.run(command(run, "--resume"), cwd=ROOT, env=environment, check=True, timeout=300)
    assert [line["loss"] for line in lines(run)] == pytest.approx([line["loss"] for line in lines(whole)], rel=1e-4)
    assert (run / "checkpoint" / "vae" / "config.json").exists()


def test_more_workers_than_there_are_cpus_is_said_at_once(cluster, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(InputError, match=r"4 workers need 4 CPUs, and .* of 2 CPUs are free"):
        train_on_ray(toy_config(tmp_path / "run"), Launch(4), stage=ToyStage, console=quiet())
    with pytest.raises(InputError, match=r"1 workers need 3 CPUs, and .* of 2 CPUs are free"):
        train_on_ray(toy_config(tmp_path / "run", threads=3), Launch(1), stage=ToyStage, console=quiet())
    assert time.monotonic() - start < 10


def test_what_cannot_work_is_refused_before_anything_starts(tmp_path: Path) -> None:
    def refusal(launch: Launch, **changes: object) -> str:
        with pytest.raises(InputError) as caught:
            train_on_ray(toy_config(tmp_path / "run", **changes), launch, stage=ToyStage, console=quiet())
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "Muon needs whole matrices. Set optimizer.name=adamw, or zero=0." in refusal(
        Launch(2), zero=1, optimizer=MUON
    )
    assert "batch_size 4 cannot be dealt evenly to 3 workers" in refusal(Launch(3))
    assert "Make batch_size a multiple of 6." in refusal(Launch(2), accumulate=3)
    with pytest.raises(InputError, match="no training checkpoint"):
        train_on_ray(toy_config(tmp_path / "run"), Launch(1), resume=True, stage=ToyStage, console=quiet())
    with pytest.raises(InputError, match=r"zero: 2 shares out among workers.*Give --workers"):
        train_plain(toy_config(tmp_path / "run", zero=2))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:{free}", "ray://127.0.0.1:{free}", "nowhere"])
def test_a_cluster_that_does_not_answer_is_said_at_once(tmp_path: Path, address: str, monkeypatch) -> None:
    from actors.training import driver

    monkeypatch.setattr(driver.ray, "is_initialized", lambda: False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(InputError, match="no Ray cluster answers at") as caught:
        train_on_ray(toy_config(tmp_path), Launch(1, address.format(free=free)), stage=ToyStage, console=quiet())
    assert caught.value.code == "cluster_unreachable"
    assert time.monotonic() - start < 10


def test_the_command_names_a_misspelled_key(tmp_path: Path) -> None:
    path = str(ROOT / "train_configs" / "autoencoder_debug.yaml")
    result = CliRunner().invoke(app, ["train", path, "--workers", "2", "--set", "acumulate=2"])
    assert isinstance(result.exception, InputError)
    assert "acumulate is not a known key. Did you mean accumulate?" in str(result.exception)


def test_a_dry_run_says_what_a_run_takes_and_trains_nothing(tmp_path: Path) -> None:
    path = str(ROOT / "train_configs" / "autoencoder_debug.yaml")
    output = f"output={tmp_path / 'run'}"
    arguments = ["train", path, "--workers", "2", "--zero", "2", "--dry-run", "--set", output]
    result = CliRunner().invoke(app, [*arguments, "--set", "optimizer.name=adamw"])
    assert result.exit_code == 0, result.output
    assert "parameters are trained" in result.output
    assert "2 (this run)" in result.output
    assert not (tmp_path / "run").exists()
    refused = CliRunner().invoke(app, arguments)
    assert "Muon needs whole matrices" in str(refused.exception)


def test_zero_needs_the_less_the_more_it_shares_and_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    stage, config = ToyStage(ToyConfig()), toy_config(tmp_path)
    size = Size.of(stage, config)
    assert size.num_trained == sum(p.numel() for p in stage.module.parameters() if p.requires_grad)
    assert size.num_frozen == 2
    totals = [Memory.of(size, config, zero, 8).total for zero in range(4)]
    assert totals == sorted(totals, reverse=True)
    assert Memory.of(size, config, 0, 1).total == 4 * (5 * size.num_trained + size.num_frozen)
    dry_run(stage, config, 2, quiet())
    huge = Size(num_trained=10**13, num_frozen=0, num_muon=0)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(InputError, match=r"cannot fit.*is .* GB"):
        patch.setattr(Size, "of", staticmethod(lambda stage, config: huge))
        dry_run(stage, config, 2, quiet())


@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_saves_and_says_how_to_go_on(cluster, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = toy_config(run, steps=400, checkpoint_every=None, validate_every=None, stage=ToyConfig(pause_s=0.05))

    def ask() -> None:
        while not (run / "steps.jsonl").exists() or len(lines(run)) < 3:
            time.sleep(0.05)
        (run / "training" / "stop").touch()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    console = quiet()
    result = train_on_ray(config, Launch(1), stage=ToyStage, console=console)
    assert not result.is_finished
    assert 3 <= result.num_done < 400
    assert "go on with the same command and --resume" in console.file.getvalue()
    state = json.loads((training_checkpoints(run / "training")[-1] / "state.json").read_text())
    assert state["num_done"] == result.num_done
