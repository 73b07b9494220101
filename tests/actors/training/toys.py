"""A stage for the tests: small, quick, equal for any number of workers, and able to be killed where a test wants."""

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


class Mishap(StageConfig):
    """The point at which one worker is killed, once.

    place: "batch", when it makes the batch of step `step`; "save", in the middle of the first checkpoint from then on.
    marker: a file that says that it has happened.
    """

    place: Literal["batch", "save"] = "batch"
    step: int
    rank: int = 0
    marker: Path


class ToyConfig(StageConfig):
    """bad_step: the target of this step's last sample is not a number, that of `spike_step`'s is huge.

    corrupt_step: of this one, the samples cannot be read.
    """

    width: int = 32
    pause_s: float = 0.0
    mishaps: tuple[Mishap, ...] = ()
    bad_step: int | None = None
    corrupt_step: int | None = None
    spike_step: int | None = None


class ToyModule(nn.Module):
    """A convolution for Muon, in channels_last, a weight that two layers share, the rest for AdamW, and a frozen layer."""

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
        # The trainer asks for the state once when it loads a checkpoint, and then whenever it saves one.
        self.module.register_state_dict_pre_hook(lambda *arguments: self._happen("save"))

    def batch(self, seeds: Sequence[int]) -> ToyBatch:
        self.step = STEPS.get(seeds[0], 0)
        self._happen("batch")
        if self.step == self.config.corrupt_step:
            raise InputError("corpus_shard_corrupt", "train-00000.parquet cannot be read", "Write the corpus again")
        self.num_batches += 1
        time.sleep(self.config.pause_s)
        images = torch.stack([torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        targets = images[:, 0].mean((-1, -2)) * 8.0
        if seeds[-1] == step_seeds(RUN_SEED, self.step, BATCH_SIZE)[-1]:
            targets[-1] *= {self.config.bad_step: torch.nan, self.config.spike_step: 1e3}.get(self.step, 1.0)
        return ToyBatch(images, targets)

    def _happen(self, place: str) -> None:
        rank, has_begun = int(os.environ.get("RANK", 0)), self.num_batches > 0
        for mishap in self.config.mishaps:
            is_here = (place, rank) == (mishap.place, mishap.rank) and not mishap.marker.exists()
            if is_here and has_begun and self.step >= mishap.step:
                mishap.marker.write_text("it happened", encoding="utf-8")
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
