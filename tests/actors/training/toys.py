"""A small stage for tests. Its losses do not depend on the number of workers, and its workers can be killed at given points."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from emotivetalk.errors import InputError
from emotivetalk.training.data.batches import step_seeds
from emotivetalk.training.stages.stage import Stage, StageConfig, StepLoss

RUN_SEED, BATCH_SIZE, MAX_STEPS = 3, 4, 60
STEPS = {seed: step for step in range(MAX_STEPS) for seed in step_seeds(RUN_SEED, step, BATCH_SIZE)}


@dataclass(frozen=True)
class ToyBatch:
    images: Tensor
    targets: Tensor


class PlannedKill(StageConfig):
    """The point at which one worker kills itself, once.

    place: "batch" for the batch of step `step`, "save" for the middle of the first checkpoint after it.
    marker: a file that is written before the kill.
    """

    place: Literal["batch", "save"] = "batch"
    step: int
    rank: int = 0
    marker: Path


class ToyConfig(StageConfig):
    """Settings of the toy stage.

    bad_step: step whose last target is NaN. spike_step: step whose last target is huge.
    corrupt_step: step whose samples cannot be read.
    """

    width: int = 32
    pause_s: float = 0.0
    kills: tuple[PlannedKill, ...] = ()
    bad_step: int | None = None
    corrupt_step: int | None = None
    spike_step: int | None = None


class ToyModule(nn.Module):
    """A convolution in channels_last for Muon, a weight shared by two layers, parameters for AdamW, and a frozen layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.into = nn.Conv2d(3, width, 3, padding=1)
        self.hidden = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(4, width)
        self.mix = nn.Linear(width, width)
        self.again = nn.Linear(width, width)
        self.again.weight = self.mix.weight
        self.head = nn.Linear(width, 1)
        self.frozen = nn.Linear(1, 1).requires_grad_(False)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("hint", torch.ones(3), persistent=False)
        self.to(memory_format=torch.channels_last)

    def forward(self, batch: ToyBatch) -> StepLoss:
        hidden = self.norm(self.hidden(self.into(batch.images).relu())).relu().mean((-1, -2))
        hidden = self.again(self.mix(hidden).tanh()) * self.scale
        error = self.frozen(self.head(hidden)).squeeze(-1).float() - batch.targets
        loss = error.square().mean()
        return StepLoss(total=loss, terms={"squared": loss, "absolute": error.abs().mean()})


class ToyStage(Stage[ToyBatch]):
    name: ClassVar[str] = "toy"
    config_class: ClassVar[type[StageConfig]] = ToyConfig

    def __init__(self, config: ToyConfig) -> None:
        self.config = config
        self.module = ToyModule(config.width)
        self.step, self.num_batches = 0, 0
        # The trainer reads the state dict when it loads a checkpoint, and when it saves one.
        self.module.register_state_dict_pre_hook(lambda *arguments: self._kill_if_planned("save"))

    def batch(self, seeds: Sequence[int]) -> ToyBatch:
        self.step = STEPS.get(seeds[0], 0)
        self._kill_if_planned("batch")
        if self.step == self.config.corrupt_step:
            raise InputError("corpus_shard_corrupt", "train-00000.parquet cannot be read", "Write the corpus again")
        self.num_batches += 1
        time.sleep(self.config.pause_s)
        images = torch.stack([torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        targets = images[:, 0].mean((-1, -2)) * 8.0
        if seeds[-1] == step_seeds(RUN_SEED, self.step, BATCH_SIZE)[-1]:
            targets[-1] *= {self.config.bad_step: torch.nan, self.config.spike_step: 1e3}.get(self.step, 1.0)
        return ToyBatch(images, targets)

    def _kill_if_planned(self, place: str) -> None:
        rank, has_begun = int(os.environ.get("RANK", 0)), self.num_batches > 0
        for kill in self.config.kills:
            is_here = (place, rank) == (kill.place, kill.rank) and not kill.marker.exists()
            if is_here and has_begun and self.step >= kill.step:
                kill.marker.write_text("killed", encoding="utf-8")
                os.kill(os.getpid(), signal.SIGKILL)

    def validate(self, module: nn.Module) -> dict[str, float]:
        assert not module.training
        assert not torch.is_grad_enabled()
        assert module.again.weight is module.mix.weight
        images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        return {"squared": float(module(ToyBatch(images, images[:, 0].mean((-1, -2)))).total)}

    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        (folder / f"{step:06d}.txt").write_text("a picture", encoding="utf-8")

    def save(self, module: nn.Module, checkpoint: Path) -> None:
        weights = {name: value.double().sum().item() for name, value in module.state_dict().items()}
        (checkpoint / "toy.json").write_text(json.dumps(weights), encoding="utf-8")
