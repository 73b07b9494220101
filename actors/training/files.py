"""The files through which driver and workers communicate, in the run's folder, which all nodes share."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from emotivetalk.errors import EmotiveTalkError
from emotivetalk.training.run.loop import TrainResult


@dataclass(frozen=True)
class Outcome:
    """Result of the workers: a `TrainResult`, or an error that all agreed on."""

    num_done: int = 0
    is_finished: bool = False
    metrics: dict[str, float] | None = None
    error: tuple[str, str, str, str] | None = None  # its class's name, code, message, remedy

    @staticmethod
    def of(result: TrainResult) -> Outcome:
        """Make the outcome of a run that returned."""
        return Outcome(result.num_done, result.is_finished, result.metrics)

    @staticmethod
    def failure(error: EmotiveTalkError) -> Outcome:
        """Make the outcome of a run that failed."""
        return Outcome(error=(type(error).__name__, error.code, error.message, error.remedy))


@dataclass(frozen=True)
class RunFiles:
    """Paths in a run's folder.

    Attributes:
        folder: the run's training checkpoints. Ray Train keeps its state there too.
        stop: the driver creates it to request the end of the run.
        outcome: the leader writes it last.
        log: lines for the console. The driver prints what is appended.
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
        """Write the outcome atomically."""
        temporary = self.outcome.with_name(".outcome.unfinished")
        temporary.write_text(json.dumps(asdict(outcome)) + "\n", encoding="utf-8")
        temporary.replace(self.outcome)

    def read_outcome(self) -> Outcome | None:
        """Read the outcome; None if the leader did not write one."""
        if not self.outcome.exists():
            return None
        return Outcome(**json.loads(self.outcome.read_text(encoding="utf-8")))
