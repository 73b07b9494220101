"""The files by which driver and workers speak; all live in the run's `training/`, which every node must see."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from emotivetalk.errors import EmotiveTalkError
from emotivetalk.training.run.loop import TrainResult


@dataclass(frozen=True)
class Outcome:
    """How the workers ended: as a `TrainResult`, or with an error that all agreed on."""

    num_done: int = 0
    is_finished: bool = False
    metrics: dict[str, float] | None = None
    error: tuple[str, str, str, str] | None = None  # its class's name, code, message, remedy

    @staticmethod
    def of(result: TrainResult) -> Outcome:
        """What a run gave."""
        return Outcome(result.num_done, result.is_finished, result.metrics)

    @staticmethod
    def failure(error: EmotiveTalkError) -> Outcome:
        """What a run raised."""
        return Outcome(error=(type(error).__name__, error.code, error.message, error.remedy))


@dataclass(frozen=True)
class RunFiles:
    """Where they are, from a run's folder.

    Attributes:
        folder: the run's training checkpoints; Ray Train keeps its own notes there too.
        stop: the driver asks for an end by making it.
        outcome: the leader writes it last.
        log: lines for the one who watches; the driver prints what is added.
    """

    output: Path

    @property
    def folder(self) -> Path:
        return self.output / "training"

    @property
    def stop(self) -> Path:
        return self.folder / "stop"

    @property
    def outcome(self) -> Path:
        return self.folder / "outcome.json"

    @property
    def log(self) -> Path:
        return self.output / "train.log"

    def write_outcome(self, outcome: Outcome) -> None:
        """Written whole or not at all."""
        temporary = self.outcome.with_name(".outcome.unfinished")
        temporary.write_text(json.dumps(asdict(outcome)) + "\n", encoding="utf-8")
        temporary.replace(self.outcome)

    def read_outcome(self) -> Outcome | None:
        """What the leader wrote; nothing if it never came to that."""
        if not self.outcome.exists():
            return None
        return Outcome(**json.loads(self.outcome.read_text(encoding="utf-8")))
