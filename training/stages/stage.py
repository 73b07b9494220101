"""A training stage: the networks, the loss on a batch, what is trainable, and what it validates."""

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
    """The `stage:` section of a training YAML. Each stage subclasses it; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class StepLoss:
    """What a stage's module returns for a batch.

    total: the scalar that is differentiated, a mean over the samples of the batch.
    terms: scalars to log, by name; the loop detaches them. Whether they are weighted, the stage says.
    """

    total: Float[Tensor, ""]
    terms: dict[str, Tensor]


class Stage(ABC, Generic[BatchT]):
    """One thing to train, as a plain class: it knows no loop, no files but what it is asked to save, and no Ray.

    All that has trainable weights is in one `module`, whose `forward(batch)` is the loss. So the loop of
    `training/run/loop.py` calls it directly, and Ray Train's worker wraps that one module without the stage knowing:
    `engine, *_ = deepspeed.initialize(model=stage.module, ...)`, `loss = engine(batch)`, `engine.backward(loss.total)`.
    Rank r of R asks `batch` for its share of the step's seeds, `seeds[r::R]`; the data of a step are then the same
    for any R, as a sample depends on its own seed only.

    A subclass names itself and its settings, and builds `module` in its constructor from an instance of these:

        class ToyStage(Stage[ToyBatch]):
            name = "toy"
            config_class = ToyConfig

            def __init__(self, config: ToyConfig) -> None: ...

    The loop seeds torch before it constructs the stage, so that initial weights follow from the run's seed.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[StageConfig]]
    module: nn.Module

    @abstractmethod
    def __init__(self, config: StageConfig) -> None:
        """Builds the networks. Frozen ones that the loss needs belong into `module` too, with requires_grad off."""

    @abstractmethod
    def batch(self, seeds: Sequence[int]) -> BatchT:
        """The samples of these seeds, stacked in their order: a frozen dataclass of tensors, on the CPU.

        A pure function of the seeds, one sample a seed: sample i may not depend on the other seeds, on the step, or on
        any global generator (it may run in a background thread). Everything random of a sample is drawn here, the
        diffusion's timestep and noise included; what `module.forward` draws itself (dropout) is seeded by step.

        Args:
            seeds: integers in 0 .. 2**63 - 1, each good for `numpy.random.default_rng` and `torch.Generator`.
        """

    def optimizer_groups(self) -> ParameterGroups:
        """The trainable parameters, by who updates them: Muon the hidden weights, AdamW the rest (by shape)."""
        return split_parameters(self.module)

    @abstractmethod
    def validate(self, module: nn.Module) -> dict[str, float]:
        """Metrics on held-out samples, by name.

        Args:
            module: to be measured instead of `self.module`: a copy of it with averaged float32 weights. It is in
                evaluation mode, gradients and autocast are off; its device is that of its parameters.
        """

    @abstractmethod
    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        """Writes sample pictures or videos into `folder` (which exists), `step` in their names.

        Args:
            module: as in `validate`.
            folder: one for the whole run.
            step: the number of steps done.
        """

    @abstractmethod
    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Writes the trained networks into a checkpoint folder of diffusers' layout, leaving its other folders alone.

        Args:
            module: as in `validate`.
            checkpoint: the folder; it exists and may hold other stages' networks.
        """
