"""Ray Train's driver: real stages have the losses of the plain loop, and bad input is refused."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from emotivetalk.actors.training.driver import Launch, train_on_ray
from emotivetalk.actors.training.estimate import Memory, Size, dry_run
from emotivetalk.cli import app
from emotivetalk.errors import InputError
from emotivetalk.training.run.config import load_config
from emotivetalk.training.run.loop import train as plain_train
from tests.actors.training.runs import MUON, TAME_ADAMW, assert_equal_runs, log_lines, toy_config, train_plain
from tests.actors.training.toys import ToyConfig, ToyStage
from tests.consoles import text_console
from tests.processes import free_port
from tests.training import debug

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_one_worker_with_muon_has_the_losses_of_the_plain_loop(cluster, tmp_path: Path) -> None:
    train_plain(toy_config(tmp_path / "plain", optimizer=MUON))
    console = text_console()
    result = train_on_ray(toy_config(tmp_path / "ray", optimizer=MUON), Launch(1), stage=ToyStage, console=console)
    assert result.is_finished
    assert result.metrics == log_lines(tmp_path / "ray", "validation.jsonl")[-1]["metrics"]
    assert_equal_runs(tmp_path / "ray", tmp_path / "plain")
    assert "toy: 20 steps done, networks in" in console.file.getvalue()
    assert (tmp_path / "ray" / "losses.png").exists()


@pytest.mark.slow
def test_ethd_with_zero_3_has_the_losses_of_the_plain_loop_and_its_networks_load(cluster, tmp_path: Path) -> None:
    from emotivetalk.models.ethd import ETHD

    debug.write_corpus(tmp_path / "corpus")
    debug.write_checkpoint(tmp_path / "checkpoint")
    overrides = [
        f"stage.corpus={tmp_path / 'corpus'}",
        f"stage.checkpoint={tmp_path / 'checkpoint'}",
        f"stage.cache={tmp_path / 'cache'}",
        *TAME_ADAMW,
        "steps=10",
        f"checkpoint={tmp_path / 'made'}",
    ]
    path = ROOT / "train_configs" / "ethd_debug.yaml"
    plain = load_config(path, [*overrides, f"output={tmp_path / 'plain'}"])
    changes = ["zero=3", "gradient_checkpointing=true"]
    sharded = load_config(path, [*overrides, f"output={tmp_path / 'ray'}", *changes])
    plain_train(plain, console=text_console())
    train_on_ray(sharded, Launch(2), console=text_console())
    for key, relative in {"loss": 1e-4, "gradient_norm": 1e-3}.items():
        ours, theirs = ([line[key] for line in log_lines(tmp_path / run)] for run in ("ray", "plain"))
        assert ours == pytest.approx(theirs, rel=relative)
    assert sum(p.numel() for p in ETHD.from_pretrained(tmp_path / "made" / "ethd").parameters()) > 10_000


def test_more_workers_than_cpus_are_refused_at_once(cluster, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(InputError, match=r"8 workers need 8 CPUs, and .* of 4 CPUs are free"):
        train_on_ray(toy_config(tmp_path / "run", batch_size=8), Launch(8), stage=ToyStage, console=text_console())
    with pytest.raises(InputError, match=r"1 workers need 5 CPUs, and .* of 4 CPUs are free"):
        train_on_ray(toy_config(tmp_path / "run", threads=5), Launch(1), stage=ToyStage, console=text_console())
    assert time.monotonic() - start < 10


def test_invalid_settings_are_refused_before_anything_starts(tmp_path: Path) -> None:
    def refusal(launch: Launch, **changes: object) -> str:
        with pytest.raises(InputError) as caught:
            train_on_ray(toy_config(tmp_path / "run", **changes), launch, stage=ToyStage, console=text_console())
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "Muon needs whole matrices. Set optimizer.name=adamw, or zero=0." in refusal(
        Launch(2), zero=1, optimizer=MUON
    )
    assert "batch_size 4 cannot be split evenly among 3 workers" in refusal(Launch(3))
    assert "Make batch_size a multiple of 6." in refusal(Launch(2), accumulate=3)
    assert "3 loaders cannot be divided evenly among 2 workers" in refusal(Launch(2, num_loaders=3))
    with pytest.raises(InputError, match="no training checkpoint"):
        train_on_ray(toy_config(tmp_path / "run"), Launch(1), resume=True, stage=ToyStage, console=text_console())
    with pytest.raises(InputError, match=r"zero: 2 partitions among workers.*Give --workers"):
        train_plain(toy_config(tmp_path / "run", zero=2))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:{free}", "ray://127.0.0.1:{free}", "nowhere"])
def test_an_unreachable_cluster_is_an_error_at_once(tmp_path: Path, address: str, monkeypatch) -> None:
    from emotivetalk.actors.training import driver

    monkeypatch.setattr(driver.ray, "is_initialized", lambda: False)
    start = time.monotonic()
    with pytest.raises(InputError, match="no Ray cluster answers at") as caught:
        train_on_ray(
            toy_config(tmp_path), Launch(1, address.format(free=free_port())), stage=ToyStage, console=text_console()
        )
    assert caught.value.code == "cluster_unreachable"
    assert time.monotonic() - start < 10


def test_the_command_names_a_misspelled_key(tmp_path: Path) -> None:
    path = str(ROOT / "train_configs" / "autoencoder_debug.yaml")
    result = CliRunner().invoke(app, ["train", path, "--workers", "2", "--set", "acumulate=2"])
    assert isinstance(result.exception, InputError)
    assert "acumulate is not a known key. Did you mean accumulate?" in str(result.exception)


def test_a_dry_run_prints_the_memory_needed_and_trains_nothing(tmp_path: Path) -> None:
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


def test_higher_zero_stages_need_less_memory_and_too_large_runs_are_refused(tmp_path: Path) -> None:
    stage, config = ToyStage(ToyConfig()), toy_config(tmp_path)
    size = Size.of(stage, config)
    assert size.num_trained == sum(p.numel() for p in stage.module.parameters() if p.requires_grad)
    assert size.num_frozen == 2
    totals = [Memory.of(size, config, zero, 8).total for zero in range(4)]
    assert totals == sorted(totals, reverse=True)
    assert Memory.of(size, config, 0, 1).total == 4 * (5 * size.num_trained + size.num_frozen)
    dry_run(stage, config, 2, text_console())
    huge = Size(num_trained=10**13, num_frozen=0, num_muon=0)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(InputError, match=r"cannot fit.*is .* GB"):
        patch.setattr(Size, "of", staticmethod(lambda stage, config: huge))
        dry_run(stage, config, 2, text_console())
