"""Configurations of toy runs, and comparison of the files of runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from emotivetalk.training.checkpoints.training_state import tensor_files, training_checkpoints
from emotivetalk.training.optim.muon import OptimizerConfig
from emotivetalk.training.run.config import TrainConfig
from emotivetalk.training.run.loop import TrainResult, train_stage
from tests.actors.training.toys import BATCH_SIZE, RUN_SEED, ToyConfig, ToyStage
from tests.consoles import text_console

ADAMW = OptimizerConfig(
    name="adamw", learning_rate=0.01, warmup_steps=2, decay_start=0.5, weight_decay=0.01, clip_norm=0.5
)
MUON = ADAMW.model_copy(update={"name": "muon"})
EQUAL = 1e-4  # relative difference of losses in float32
TAME_ADAMW = ("optimizer.name=adamw", "optimizer.learning_rate=2.0e-4")
"""Settings for real networks on several workers. AdamW divides a gradient by its own size, so a gradient that is only rounding error makes a
step of full size. At the debug recipes' learning rate of 2e-3, such differences grow tenfold in ten steps."""


def toy_config(output: Path, **changes: object) -> TrainConfig:
    values: dict[str, object] = {
        "name": "toy",
        "seed": RUN_SEED,
        "steps": 20,
        "batch_size": BATCH_SIZE,
        "optimizer": ADAMW,
        "ema_decay": 0.9,
        "precision": "fp32",
        "threads": 1,
        "checkpoint_every": 10,
        "validate_every": 10,
        "output": output,
        "stage": ToyConfig(),
    }
    return TrainConfig.model_validate(values | changes)


def train_plain(config: TrainConfig, resume: bool = False) -> TrainResult:
    """Train in this process, as `emotivetalk train` does without --workers."""
    torch.manual_seed(config.seed)
    stage = ToyStage(config.stage)
    return train_stage(stage, config, resume=resume, console=text_console())


def copy_until(run: Path, folder: Path, num_done: int) -> Path:
    """Copy a run without the training checkpoints after step `num_done`, as if it had been killed there."""
    shutil.copytree(run, folder)
    for checkpoint in training_checkpoints(folder / "training"):
        if int(checkpoint.name.removeprefix("step_")) > num_done:
            shutil.rmtree(checkpoint)
    return folder


def log_lines(run: Path, name: str = "steps.jsonl") -> list[dict]:
    return [json.loads(line) for line in (run / name).read_text(encoding="utf-8").splitlines()]


def assert_equal_runs(run: Path, reference: Path, relative: float = EQUAL) -> None:
    """Assert equal losses, gradient norms, learning rates, validation and networks."""
    ours, theirs = log_lines(run), log_lines(reference)
    assert [line["step"] for line in ours] == list(range(len(theirs)))
    for key in ("loss", "gradient_norm", "learning_rate"):
        assert [line[key] for line in ours] == pytest.approx(
            [line[key] for line in theirs], rel=relative, nan_ok=True
        ), key
    assert ours[-1]["terms"] == pytest.approx(theirs[-1]["terms"], rel=relative)
    for ours_, theirs_ in zip(
        log_lines(run, "validation.jsonl"), log_lines(reference, "validation.jsonl"), strict=True
    ):
        assert ours_["metrics"] == pytest.approx(theirs_["metrics"], rel=relative)
    networks = [json.loads((folder / "checkpoint" / "toy.json").read_text()) for folder in (run, reference)]
    assert networks[0] == pytest.approx(networks[1], rel=10 * relative, abs=10 * relative)
    assert (run / "checkpoint" / "provenance.json").exists()


def tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in tensor_files(checkpoint) for name, tensor in load_file(file).items()}
