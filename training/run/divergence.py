"""What a run does about a loss that is no number or that shoots up: stop and name the samples, or skip and count."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MEAN_DECAY = 0.98  # of the usual loss: about the last 50 steps
NUM_TO_LEARN = 20  # steps before a spike can be told from the fall of the first losses


class DivergenceConfig(BaseModel):
    """The `divergence:` section of a training YAML.

    action: "stop" ends the run with the seeds of the step's samples; "skip" leaves the weights as they are, counts, and
        goes on with the next step.
    spike: a loss above so many times the usual one is no good either (null: only what is not finite).
    max_skips: a run that skips more steps than this is stopped all the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Literal["stop", "skip"] = "stop"
    spike: float | None = Field(default=None, gt=1)
    max_skips: int = Field(default=20, ge=0)


class LossWatch:
    """Remembers what losses are usual. Its three numbers are part of a training checkpoint.

    Attributes:
        mean: of the last losses, exponentially.
        num_seen: losses that went into it.
        num_skipped: steps that were skipped.
    """

    def __init__(self, config: DivergenceConfig) -> None:
        self.config = config
        self.mean, self.num_seen, self.num_skipped = 0.0, 0, 0

    def problem(self, loss: float) -> str | None:
        """What is wrong with a loss, as the rest of a sentence that begins with "the loss"; None if nothing is."""
        if not math.isfinite(loss):
            return f"is {loss}"
        limit = self.config.spike
        if limit is not None and self.num_seen >= NUM_TO_LEARN and loss > limit * self.mean:
            return f"is {loss:.4g}, more than {limit:g} times the usual {self.mean:.4g}"
        return None

    def accept(self, loss: float) -> None:
        """Takes a step's loss into the mean."""
        self.num_seen += 1
        self.mean += (loss - self.mean) * max(1 - MEAN_DECAY, 1 / self.num_seen)

    def skip(self) -> bool:
        """Counts a step that is no good; whether the run may go on after it."""
        self.num_skipped += 1
        return self.config.action == "skip" and self.num_skipped <= self.config.max_skips

    @property
    def state(self) -> dict[str, float]:
        """What a training checkpoint keeps of it."""
        return {"mean": self.mean, "num_seen": self.num_seen, "num_skipped": self.num_skipped}

    def load(self, state: dict[str, float]) -> None:
        """Takes up what `state` gave."""
        self.mean = state["mean"]
        self.num_seen, self.num_skipped = int(state["num_seen"]), int(state["num_skipped"])
