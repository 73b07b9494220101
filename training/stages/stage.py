"""Interface of a training stage: its networks, batches, loss, trainable parameters and validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from emotivetalk.training.optim.muon import ParameterGroups, split_parameters

BatchT = TypeVar("BatchT")


class StageConfig(BaseModel):
    """The `stage:` section of a training YAML. Every stage has a subclass; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class StepLoss:
    """Loss of a batch, returned by a stage's module."""

    total: Float[Tensor, ""]
    """The scalar to differentiate, a mean over the samples of the batch."""
    terms: dict[str, Tensor]
    """Scalars to log by name, without their weights; the trainer detaches them."""


class Stage(ABC, Generic[BatchT]):
    """One training task as a plain class, independent of the loop and of Ray.

    One `module` holds everything with trainable weights, and its `forward(batch)` is the loss. The plain trainer
    (`training/run/trainer.py`) calls it directly. Workers of Ray Train wrap that module without the stage's knowledge:
    `engine, *_ = deepspeed.initialize(model=stage.module, ...)`, `loss = engine(batch)`, `engine.backward(loss.total)`.
    Rank r of R calls `batch` with its share of the step's seeds, `seeds[r::R]`. A sample depends on its own seed only, so
    the data of a step are the same for any R.

    A subclass declares its name and its config class, and its constructor builds `module` from an instance of that class:

        class ToyStage(Stage[ToyBatch]):
            name = "toy"
            config_class = ToyConfig

            def __init__(self, config: ToyConfig) -> None: ...

    torch is seeded before the stage is constructed, so the initial weights are a function of the run's seed.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[StageConfig]]
    module: nn.Module

    @abstractmethod
    def __init__(self, config: StageConfig) -> None:
        """Build the networks. Frozen networks that the loss needs are also in `module`, with requires_grad off."""

    @abstractmethod
    def batch(self, seeds: Sequence[int]) -> BatchT:
        """Make the samples of these seeds, stacked in order: a frozen dataclass of tensors on the CPU.

        The result is a pure function of the seeds. Sample i must not depend on the other seeds, on the step, or on a global
        random generator; the call may run in a background thread. All random values of a sample are drawn here, including
        the noise level and the noise of diffusion; only what `module.forward` draws (dropout) is seeded by step.

        Args:
            seeds: integers in 0 .. 2**63 - 1, valid for `numpy.random.default_rng` and `torch.Generator`.
        """

    def optimizer_groups(self) -> ParameterGroups:
        """Split the trainable parameters by optimiser: hidden weights for Muon, the rest for AdamW."""
        return split_parameters(self.module)

    @abstractmethod
    def validate(self, module: nn.Module) -> dict[str, float]:
        """Compute metrics on held-out samples, by name.

        Args:
            module: the module to measure: a copy of `self.module` with averaged float32 weights, or `self.module` itself. It
                is in evaluation mode; gradients and autocast are off.
        """

    @abstractmethod
    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write sample pictures or videos into `folder`, with `step` in their names.

        Args:
            module: as in `validate`.
            folder: existing folder for all previews of the run.
            step: number of steps done.
        """

    @abstractmethod
    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Write the trained networks into a checkpoint folder in diffusers' layout, without touching its other folders.

        Args:
            module: as in `validate`.
            checkpoint: existing folder, which may hold other stages' networks.
        """
