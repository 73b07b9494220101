"""Detection of diverging losses: a run either stops and names the samples, or skips the step and counts it."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MEAN_DECAY = 0.98  # of the mean loss: about the last 50 steps
NUM_TO_LEARN = 20  # steps without spike detection, while the first losses still fall steeply


class DivergenceConfig(BaseModel):
    """The `divergence:` section of a training YAML.

    Args:
        action: "stop" ends the run with an error that names the seeds of the step's samples; "skip" leaves the weights
            unchanged, counts the step and continues.
        spike: multiple of the mean loss above which a loss counts as diverged (null: only losses that are not finite do).
        max_skips: number of skipped steps after which a run with "skip" stops as well.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Literal["stop", "skip"] = "stop"
    spike: float | None = Field(default=None, gt=1)
    max_skips: int = Field(default=20, ge=0)


class LossWatch:
    """Running mean of the loss and count of skipped steps; its state is part of a training checkpoint.

    Attributes:
        mean: exponential mean of the last losses.
        num_seen: number of losses in the mean.
        num_skipped: number of skipped steps.
    """

    def __init__(self, config: DivergenceConfig) -> None:
        self.config = config
        self.mean, self.num_seen, self.num_skipped = 0.0, 0, 0

    def problem(self, loss: float) -> str | None:
        """Describe what is wrong with a loss, completing "the loss ..."; None if it is normal."""
        if not math.isfinite(loss):
            return f"is {loss}"
        limit = self.config.spike
        if limit is not None and self.num_seen >= NUM_TO_LEARN and loss > limit * self.mean:
            return f"is {loss:.4g}, more than {limit:g} times the mean loss {self.mean:.4g}"
        return None

    def accept(self, loss: float) -> None:
        """Include a step's loss in the mean."""
        self.num_seen += 1
        self.mean += (loss - self.mean) * max(1 - MEAN_DECAY, 1 / self.num_seen)

    def skip(self) -> bool:
        """Count a diverged step and tell whether the run may continue."""
        self.num_skipped += 1
        return self.config.action == "skip" and self.num_skipped <= self.config.max_skips

    @property
    def state(self) -> dict[str, float]:
        """State for a training checkpoint."""
        return {"mean": self.mean, "num_seen": self.num_seen, "num_skipped": self.num_skipped}

    def load(self, state: dict[str, float]) -> None:
        """Restore a `state`."""
        self.mean = state["mean"]
        self.num_seen, self.num_skipped = int(state["num_seen"]), int(state["num_skipped"])
