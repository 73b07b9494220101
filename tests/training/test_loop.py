import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn

from emotivetalk.errors import InputError
from emotivetalk.training.checkpoints.training_state import training_checkpoints
from emotivetalk.training.optim.muon import OptimizerConfig
from emotivetalk.training.run.config import TrainConfig
from emotivetalk.training.run.loop import Trainer, TrainingDivergedError, train_stage
from emotivetalk.training.stages.stage import Stage, StageConfig, StepLoss
from tests.consoles import text_console


@dataclass(frozen=True)
class ToyBatch:
    images: Tensor
    targets: Tensor


class ToyConfig(StageConfig):
    width: int = 32


class ToyModule(nn.Module):
    """A convolution in channels_last for Muon, parameters for AdamW, and dropout, which uses torch's generator."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.into = nn.Conv2d(3, width, 3, padding=1)
        self.hidden = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)  # buffers, an integer one among them
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(width, 1)
        self.frozen = nn.Linear(1, 1).requires_grad_(False)
        self.to(memory_format=torch.channels_last)

    def forward(self, batch: ToyBatch) -> StepLoss:
        hidden = self.norm(self.hidden(self.into(batch.images).relu())).relu()
        error = self.head(self.dropout(hidden.mean((-1, -2)))).squeeze(-1).float() - batch.targets
        loss = error.square().mean()
        return StepLoss(total=loss, terms={"squared": loss})


class ToyStage(Stage[ToyBatch]):
    name: ClassVar[str] = "toy"
    config_class: ClassVar[type[StageConfig]] = ToyConfig

    def __init__(self, config: ToyConfig) -> None:
        self.module = ToyModule(config.width)
        self.before_batch: Callable[[Sequence[int]], None] = lambda seeds: None
        self.target_scale = 8.0
        self.num_validations = 0

    def batch(self, seeds: Sequence[int]) -> ToyBatch:
        self.before_batch(seeds)
        images = torch.stack([torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        return ToyBatch(images, targets=images[:, 0].mean((-1, -2)) * self.target_scale)

    def validate(self, module: nn.Module) -> dict[str, float]:
        assert not module.training
        assert not torch.is_grad_enabled()
        self.num_validations += 1
        return {"squared": float(module(self.batch(range(8))).total)}

    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        (folder / f"{step:06d}.txt").write_text("a picture", encoding="utf-8")

    def save(self, module: nn.Module, checkpoint: Path) -> None:
        torch.manual_seed(0)  # must not affect the next step
        (checkpoint / "toy.json").write_text(json.dumps(float(module.head.weight.sum())), encoding="utf-8")


def toy_stage() -> ToyStage:
    torch.manual_seed(0)
    return ToyStage(ToyConfig())


def toy_config(output: Path, **changes: object) -> TrainConfig:
    values: dict[str, object] = {
        "name": "toy",
        "steps": 10,
        "batch_size": 4,
        "optimizer": OptimizerConfig(learning_rate=0.01, warmup_steps=2, decay_start=0.5),
        "precision": "fp32",
        "validate_every": 4,
        "preview_every": 5,
        "output": output,
        "stage": ToyConfig(),
    }
    return TrainConfig.model_validate(values | changes)


def logged(folder: Path, name: str = "steps.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def losses(folder: Path) -> list[tuple[int, float, float]]:
    return [(line["step"], line["loss"], line["gradient_norm"]) for line in logged(folder)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_stopped_by_sigterm_and_resumed_equals_an_undisturbed_one(tmp_path: Path, precision: str) -> None:
    whole = toy_config(tmp_path / "whole", checkpoint_every=6, precision=precision)
    assert train_stage(toy_stage(), whole, console=text_console()).is_finished

    parts = toy_config(tmp_path / "parts", precision=precision, prefetch=False)
    stage, console, num_batches = toy_stage(), text_console(), 0

    def terminate_in_seventh_step(seeds: Sequence[int]) -> None:
        nonlocal num_batches
        num_batches += len(seeds) == 4
        if num_batches == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    stage.before_batch = terminate_in_seventh_step
    stopped = train_stage(stage, parts, console=console)
    assert (stopped.num_done, stopped.is_finished) == (7, False)
    assert "stopped after step 7 of 10, and saved" in console.file.getvalue()
    assert not parts.checkpoint_folder.exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    finished = train_stage(toy_stage(), parts, resume=True, console=text_console())
    assert finished.is_finished
    assert losses(parts.output) == losses(whole.output)
    assert logged(parts.output, "validation.jsonl") == logged(whole.output, "validation.jsonl")
    last = [load_file(training_checkpoints(c.output / "training")[-1] / "tensors.safetensors") for c in (whole, parts)]
    assert last[0].keys() == last[1].keys()
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])


def test_a_crashed_run_resumes_from_its_last_checkpoint_and_logs_each_step_once(tmp_path: Path) -> None:
    whole, crashed = toy_config(tmp_path / "whole"), toy_config(tmp_path / "crashed", checkpoint_every=3)
    train_stage(toy_stage(), whole, console=text_console())
    stage, num_batches = toy_stage(), 0

    def fail_at_ninth_batch(seeds: Sequence[int]) -> None:
        nonlocal num_batches
        num_batches += len(seeds) == 4
        if num_batches == 9:
            raise OSError("the disk is gone")

    stage.before_batch = fail_at_ninth_batch
    with pytest.raises(OSError, match="the disk is gone"):
        train_stage(stage, crashed, console=text_console())
    assert len(logged(crashed.output)) > 6
    train_stage(toy_stage(), crashed, resume=True, console=text_console())
    assert losses(crashed.output) == losses(whole.output)


def test_a_run_lowers_the_loss_and_writes_its_files(tmp_path: Path) -> None:
    config = toy_config(tmp_path / "run", steps=40, checkpoint_every=15, keep=2)
    stage = toy_stage()
    result = train_stage(stage, config, console=text_console())
    lines = logged(config.output)
    assert sum(line["loss"] for line in lines[-5:]) < 0.5 * sum(line["loss"] for line in lines[:5])
    assert {"terms", "learning_rate", "seconds", "cpu_seconds", "samples_per_second"} <= lines[0].keys()
    assert (config.output / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((config.output / "config.json").read_text(encoding="utf-8"))["stage"] == {"width": 32}
    assert [folder.name for folder in training_checkpoints(config.output / "training")] == [
        "step_00000030",
        "step_00000040",
    ]
    assert not list((config.output / "training").glob(".*"))
    assert len(list((config.output / "preview").iterdir())) == 8
    assert stage.num_validations == 10
    assert result.metrics == logged(config.output, "validation.jsonl")[-1]["metrics"]
    assert (result.checkpoint / "toy.json").exists()
    provenance = json.loads((result.checkpoint / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["stages"]["toy"]["metrics"] == result.metrics
    assert str(tmp_path) not in json.dumps(provenance)


def test_prefetching_does_not_change_the_losses(tmp_path: Path) -> None:
    trainers = [Trainer(toy_stage(), toy_config(tmp_path, prefetch=prefetch)) for prefetch in (False, True)]
    first, second = ([trainer.step(step).loss for step in range(4)] for trainer in trainers)
    trainers[1].feed.close()
    assert first == second


@pytest.mark.parametrize("what", ["loss", "gradient norm"])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_seeds(tmp_path: Path, what: str) -> None:
    stage = toy_stage()
    trainer = Trainer(stage, toy_config(tmp_path, prefetch=False))
    trainer.step(0)
    before = {name: tensor.clone() for name, tensor in trainer.module.named_parameters()}
    if what == "loss":
        stage.target_scale = torch.nan
    else:
        stage.module.head.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(TrainingDivergedError) as caught:
        trainer.step(1)
    assert f"step 1: the {what} is" in str(caught.value)
    assert all(str(seed) in str(caught.value) for seed in trainer.feed.seeds(1))
    assert all(torch.equal(before[name], tensor) for name, tensor in trainer.module.named_parameters())


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    config = toy_config(tmp_path / "run", steps=2)
    train_stage(toy_stage(), config, console=text_console())
    with pytest.raises(InputError, match="already has a run"):
        train_stage(toy_stage(), config, console=text_console())


def test_runs_that_cannot_be_resumed_are_refused(tmp_path: Path) -> None:
    config = toy_config(tmp_path / "run", steps=4)
    with pytest.raises(InputError, match="no training checkpoint"):
        train_stage(toy_stage(), config, resume=True, console=text_console())
    train_stage(toy_stage(), config, console=text_console())
    with pytest.raises(InputError, match="another batch_size, seed"):
        train_stage(
            toy_stage(), toy_config(tmp_path / "run", seed=1, batch_size=5), resume=True, console=text_console()
        )
    with pytest.raises(InputError, match="4 steps, more than steps: 3"):
        train_stage(toy_stage(), toy_config(tmp_path / "run", steps=3), resume=True, console=text_console())
    longer = train_stage(toy_stage(), toy_config(tmp_path / "run", steps=6), resume=True, console=text_console())
    assert longer.num_done == 6


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    config = toy_config(tmp_path / "run", steps=2)
    train_stage(toy_stage(), config, console=text_console())
    stage = toy_stage()
    stage.module.extra = nn.Linear(2, 2)
    with pytest.raises(InputError, match=r"lacks the tensor 'module/extra\.weight'"):
        train_stage(stage, config, resume=True, console=text_console())


def test_without_averaging_the_trained_weights_are_validated_and_training_goes_on(tmp_path: Path) -> None:
    stage = toy_stage()
    train_stage(stage, toy_config(tmp_path / "run", ema_decay=None), console=text_console())
    assert stage.module.training
    assert stage.num_validations == 3


def test_progress_is_shown_on_a_terminal(tmp_path: Path) -> None:
    console = Console(file=StringIO(), force_terminal=True, width=160)
    train_stage(toy_stage(), toy_config(tmp_path / "run"), console=console)
    text = console.file.getvalue()
    assert "10/10" in text
    assert "validation: squared" in text
