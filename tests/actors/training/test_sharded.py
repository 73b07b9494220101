"""Two workers with DeepSpeed train as one process does, in every ZeRO stage, and resume each other's checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing

from emotivetalk.training.data.batches import split_seeds, step_seeds
from emotivetalk.training.run.config import TrainConfig
from emotivetalk.training.run.divergence import DivergenceConfig
from tests.actors.training import group
from tests.actors.training.runs import (
    EQUAL,
    MUON,
    assert_equal_runs,
    copy_until,
    log_lines,
    tensors,
    toy_config,
    train_plain,
)
from tests.actors.training.toys import ToyConfig

SKIP = {"divergence": DivergenceConfig(action="skip", spike=50.0)}
BAD, SPIKE = {"stage": ToyConfig(bad_step=5)}, {"stage": ToyConfig(spike_step=25), "steps": 30}
# Muon orthogonalises in bfloat16, so the last bit of a gradient changes the third digit of an update.
MUON_EQUAL = 3e-3
VARIANTS: dict[str, dict[str, object]] = {
    **{f"zero_{zero}": {"zero": zero} for zero in range(4)},
    "muon": {"optimizer": MUON},
    "no_average": {"ema_decay": None, "zero": 3},
    "accumulated": {"accumulate": 2, "zero": 2},
    "accumulated_zero_0": {"accumulate": 2},
    "bf16": {"precision": "bf16", "zero": 3},
    **{f"bad_zero_{zero}": {"zero": zero, **BAD, **SKIP} for zero in (0, 1, 3)},
    "bad_accumulated": {"zero": 2, "accumulate": 2, "stage": ToyConfig(bad_step=5), **SKIP},
    "spike": {"zero": 2, **SPIKE, **SKIP},
}
REFERENCES: dict[str, dict[str, object]] = {
    "plain": {},
    "muon": {"optimizer": MUON},
    "no_average": {"ema_decay": None},
    "bf16": {"precision": "bf16"},
    "bad": {**BAD, **SKIP},
    "spike": {**SPIKE, **SKIP},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, monkeypatch_module) -> Path:
    """The folder of all runs. `reference/` has those of the plain loop."""
    folder = tmp_path_factory.mktemp("group")
    for name, changes in REFERENCES.items():
        train_plain(toy_config(folder / "reference" / name, **changes))
    configs = {name: toy_config(folder / name, **changes) for name, changes in VARIANTS.items()}
    monkeypatch_module.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch_module.setenv("OMP_NUM_THREADS", "1")
    monkeypatch_module.setenv("TORCH_EXTENSIONS_DIR", str(folder / "extensions"))
    plain = folder / "reference" / "plain"
    try:
        multiprocessing.spawn(group.main, (folder, configs, plain), nprocs=group.NUM_WORKERS)
    except multiprocessing.ProcessRaisedException:
        pytest.fail("\n".join(file.read_text() for file in folder.glob("error_*.txt")))
    return folder


def test_deepspeed_compiles_no_extensions(folder: Path) -> None:
    assert (folder / "zero_0").is_dir() and not (folder / "extensions").exists()


def test_seeds_are_split_evenly_among_workers() -> None:
    seeds = step_seeds(1, 5, 12)
    parts = [part for rank in range(3) for part in split_seeds(seeds, rank, 3, 2)]
    assert sorted(seed for part in parts for seed in part) == sorted(seeds)
    assert [len(part) for part in parts] == [2] * 6
    assert split_seeds(seeds, 1, 3, 1) == [seeds[1::3]]
    assert split_seeds(seeds, 0, 1, 1) == [seeds]
    with pytest.raises(ValueError, match="12 seeds cannot be split into 5 x 1 equal parts"):
        split_seeds(seeds, 0, 5, 1)


@pytest.mark.parametrize("zero", range(4))
def test_every_zero_stage_has_the_losses_of_the_plain_loop(folder: Path, zero: int) -> None:
    assert_equal_runs(folder / f"zero_{zero}", folder / "reference" / "plain")


@pytest.mark.parametrize("name", ["accumulated", "accumulated_zero_0"])
def test_accumulated_gradients_equal_those_of_the_whole_batch(folder: Path, name: str) -> None:
    assert_equal_runs(folder / name, folder / "reference" / "plain")


def test_runs_without_averaged_weights(folder: Path) -> None:
    assert_equal_runs(folder / "no_average", folder / "reference" / "no_average")


def test_muon_without_zero(folder: Path) -> None:
    assert_like_muon(folder / "muon", folder / "reference" / "muon")


def test_the_plain_loop_resumes_a_muon_run_of_two_workers(folder: Path, tmp_path: Path) -> None:
    resumed = copy_until(folder / "muon", tmp_path / "muon", 10)
    train_plain(toy_config(resumed, optimizer=MUON), resume=True)
    assert_like_muon(resumed, folder / "reference" / "muon")


def assert_like_muon(run: Path, reference: Path) -> None:
    """Assert equal losses and gradient norms up to MUON_EQUAL and ten times that."""
    ours, theirs = log_lines(run), log_lines(reference)
    assert [line["loss"] for line in ours] == pytest.approx([line["loss"] for line in theirs], rel=MUON_EQUAL)
    norms = [[line["gradient_norm"] for line in all_of] for all_of in (ours, theirs)]
    assert norms[0] == pytest.approx(norms[1], rel=10 * MUON_EQUAL)


def test_bf16_losses_are_close_to_the_plain_loops_with_autocast(folder: Path) -> None:
    ours, theirs = log_lines(folder / "bf16"), log_lines(folder / "reference" / "bf16")
    assert [line["loss"] for line in ours[:5]] == pytest.approx([line["loss"] for line in theirs[:5]], rel=0.02)
    kinds = {tensor.dtype for name, tensor in tensors(folder / "bf16/training/step_00000020").items()}
    assert kinds == {torch.float32}


@pytest.mark.parametrize("zero", range(4))
def test_checkpoints_can_be_resumed_in_another_zero_stage(folder: Path, zero: int) -> None:
    assert_equal_runs(folder / f"plain_to_zero_{zero}", folder / "reference" / "plain")
    assert_equal_runs(folder / f"zero_{3 - zero}_to_zero_{zero}", folder / "reference" / "plain")


@pytest.mark.parametrize("name", ["zero_0", "zero_1", "zero_3"])
def test_the_plain_loop_resumes_checkpoints_of_workers(folder: Path, tmp_path: Path, name: str) -> None:
    resumed = copy_until(folder / name, tmp_path / name, 10)
    train_plain(toy_config(resumed), resume=True)
    assert_equal_runs(resumed, folder / "reference" / "plain", EQUAL)


def test_the_shards_of_a_checkpoint_have_the_plain_loops_tensors(folder: Path) -> None:
    plain = tensors(folder / "reference/plain/training/step_00000020")
    for zero in range(4):
        checkpoint = folder / f"zero_{zero}/training/step_00000020"
        assert sorted(path.name for path in checkpoint.iterdir()) == [
            "state.json",
            "tensors-00000.safetensors",
            "tensors-00001.safetensors",
        ]
        ours = tensors(checkpoint)
        assert ours.keys() == plain.keys()
        for name, tensor in plain.items():
            torch.testing.assert_close(
                ours[name], tensor, rtol=1e-2, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
            )
    assert json.loads((folder / "zero_3/training/step_00000020/state.json").read_text())["num_workers"] == 2


def test_the_memory_format_of_a_one_by_one_convolution_is_detected() -> None:
    from emotivetalk.actors.training.zero import has_plain_order

    weight = torch.empty_strided((8, 4, 1, 1), (4, 1, 4, 4)).normal_()  # as channels_last makes it
    assert weight.is_contiguous()
    assert not has_plain_order(weight)
    plain = weight.clone(memory_format=torch.contiguous_format)
    assert has_plain_order(plain)
    plain.view(torch.uint8)  # DeepSpeed does this to send it
    assert has_plain_order(torch.ones(()))


@pytest.mark.parametrize("zero", [0, 1, 3])
def test_a_step_with_a_nan_loss_is_skipped_and_counted(folder: Path, zero: int) -> None:
    run = folder / f"bad_zero_{zero}"
    assert_equal_runs(run, folder / "reference" / "bad")
    assert [line["step"] for line in log_lines(run) if line["skipped"]] == [5]
    state = json.loads((run / "training/step_00000020/state.json").read_text())
    assert state["watch"]["num_skipped"] == 1


def test_a_nan_loss_in_one_micro_batch_skips_only_its_step(folder: Path) -> None:
    skipped = [line["skipped"] for line in log_lines(folder / "bad_accumulated")]
    assert skipped == [step == 5 for step in range(20)]
    assert log_lines(folder / "bad_accumulated")[-1]["loss"] < 10


def test_a_step_with_a_loss_spike_is_skipped(folder: Path) -> None:
    assert_equal_runs(folder / "spike", folder / "reference" / "spike")
    assert [line["step"] for line in log_lines(folder / "spike") if line["skipped"]] == [25]


def test_repeated_nan_losses_stop_all_workers_and_name_the_seeds(folder: Path) -> None:
    for rank in range(2):
        text = (folder / "bad_note" / f"{rank}.txt").read_text()
        assert text.startswith("TrainingDivergedError: step 13: the loss is nan")
        assert all(str(seed) in text for seed in step_seeds(3, 13, 4))
    assert len(log_lines(folder / "bad")) == 13


def test_a_full_disk_stops_all_workers_and_the_run_can_be_resumed(folder: Path) -> None:
    for rank in range(2):
        text = (folder / "full_note" / f"{rank}.txt").read_text()
        assert text.startswith("OutputError: worker 1: the training checkpoint")
        assert "Free disk space" in text
    run = folder / "full"
    assert sorted(path.name for path in (run / "training").iterdir()) == ["step_00000002", "step_00000004"]
    train_plain(toy_config(run, checkpoint_every=2), resume=True)
    assert [line["loss"] for line in log_lines(run)] == pytest.approx(
        [line["loss"] for line in log_lines(folder / "reference/plain")], rel=1e-4
    )


def test_tensorboard_and_the_log_have_figures_of_each_worker(folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "zero_2" / "tensorboard"))
    events.Reload()
    names = set(events.Tags()["scalars"])
    assert {
        "train/loss",
        "train/gradient_norm",
        "speed/seconds_per_step",
        "speed/data_wait_s",
        "memory_gb/worker_0",
        "memory_gb/worker_1",
        "validation/squared",
    } <= names
    logged = [event.value for event in events.Scalars("train/loss")]
    assert logged == pytest.approx([line["loss"] for line in log_lines(folder / "zero_2")], rel=1e-5)
    assert all(
        len(line["memory_bytes"]) == 2 and min(line["memory_bytes"]) > 1e7 for line in log_lines(folder / "zero_2")
    )


def test_the_best_and_the_last_checkpoint_are_kept(tmp_path: Path) -> None:
    config: TrainConfig = toy_config(tmp_path, keep=1, keep_best=True, checkpoint_every=2, steps=12)
    train_plain(config)
    losses = [line["loss"] for line in log_lines(tmp_path)]
    means = {step: sum(losses[step - 2 : step]) / 2 for step in range(2, 13, 2)}
    best = min(means, key=means.__getitem__)
    kept = sorted(path.name for path in (tmp_path / "training").iterdir())
    assert kept == sorted({f"step_{best:08d}", "step_00000012"})
