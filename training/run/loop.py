"""Training loop of all stages in plain PyTorch; Ray Train's workers run the same loop with another `Trainer`.

A run is a function of its configuration: the seeds of step s are hashes of (seed, s, index), and the learning rate depends on
s alone. On the same machine and number of threads, a run that was stopped and resumed has bit-identical losses.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console

from emotivetalk.errors import InputError
from emotivetalk.training.checkpoints.provenance import record_training
from emotivetalk.training.checkpoints.training_state import Retention, RunProgress, read_progress, training_checkpoints
from emotivetalk.training.run.config import TrainConfig
from emotivetalk.training.run.folder_lock import claimed
from emotivetalk.training.run.log import RunLog, ValidationRecord, metrics_at
from emotivetalk.training.run.progress import StepProgress
from emotivetalk.training.run.trainer import Trainer, TrainingDivergedError
from emotivetalk.training.stages.registry import stage_class
from emotivetalk.training.stages.stage import Stage

__all__ = [
    "TrainResult",
    "Trainer",
    "TrainingDivergedError",
    "claimed_run",
    "find_checkpoint",
    "run",
    "train",
    "train_stage",
]

# Settings that may change when a run is resumed. More `steps` prolong the run and move the end of the learning rate's decay.
FREE_SETTINGS = {"steps", "threads", "prefetch", "output", "checkpoint", "keep", "keep_best"} | {
    f"{what}_every" for what in ("validate", "preview", "checkpoint")
}
# These change no sample and, except for rounding, no loss, so a run may resume with another number of workers.
FREE_SETTINGS |= {"accumulate", "gradient_checkpointing", "zero", "divergence"}


@dataclass(frozen=True)
class TrainResult:
    """Result of a run."""

    num_done: int
    """Number of steps done."""
    is_finished: bool
    """True if the networks are in `checkpoint`; False if the run was stopped and can be resumed."""
    checkpoint: Path
    metrics: dict[str, float]
    """Metrics of the last validation."""


def train(config: TrainConfig, *, resume: bool = False, console: Console | None = None) -> TrainResult:
    """Train a stage, from the start or from its last training checkpoint.

    On SIGTERM or the first Ctrl-C the current step finishes, a training checkpoint is written, and the function returns.

    Args:
        config: configuration of the run.
        resume: continue from the last training checkpoint in `config.output`.
        console: console for progress (default: standard error).

    Raises:
        InputError: there is nothing to resume, the output folder already has a run, the settings differ from those of the
            run to resume, or another process is training there.
        TrainingDivergedError: see `Trainer.step`.
    """
    _check_one_process(config)
    with claimed_run(config, resume) as last:
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        return _train(stage_class(config.name)(config.stage), config, last, console)


def train_stage(
    stage: Stage, config: TrainConfig, *, resume: bool = False, console: Console | None = None
) -> TrainResult:
    """Train a stage that has been constructed already and need not be in the registry; see `train`."""
    _check_one_process(config)
    with claimed_run(config, resume) as last:
        return _train(stage, config, last, console)


def _train(stage: Stage, config: TrainConfig, last: Path | None, console: Console | None) -> TrainResult:
    return run(Trainer(stage, config), last, console if console is not None else Console(stderr=True))


def _check_one_process(config: TrainConfig) -> None:
    if config.zero:
        raise InputError(
            code="zero_needs_workers",
            message=f"zero: {config.zero} partitions among workers, but this run is a single process",
            remedy="Give --workers, or set zero=0.",
        )


@contextmanager
def claimed_run(config: TrainConfig, resume: bool) -> Iterator[Path | None]:
    """Lock the run's folder and yield the training checkpoint to resume from, as `find_checkpoint` returns it.

    Raises:
        InputError: see `train`.
    """
    find_checkpoint(config, resume)  # checked before the lock too, so that an error creates no folder
    with claimed(config.output):
        yield find_checkpoint(config, resume)


def find_checkpoint(config: TrainConfig, resume: bool) -> Path | None:
    """Return the training checkpoint to resume from; None for a new run.

    Raises:
        InputError: see `train`.
    """
    folder = config.output / "training"
    checkpoints = training_checkpoints(folder)
    if not resume:
        if checkpoints:
            raise InputError(
                code="output_exists",
                message=f"{config.output} already has a run, {checkpoints[-1].name}",
                remedy="Resume it with --resume, or set another output.",
            )
        return None
    if not checkpoints:
        raise InputError(
            code="nothing_to_resume",
            message=f"{folder} has no training checkpoint",
            remedy="Start without --resume, or set output to the run's folder.",
        )
    last = checkpoints[-1]
    progress = read_progress(last)
    before, now = progress.config, config.model_dump(mode="json")
    changed = sorted(key for key in (before.keys() | now.keys()) - FREE_SETTINGS if before.get(key) != now.get(key))
    if changed:
        raise InputError(
            code="resume_differs",
            message=f"{last} was trained with another {', '.join(changed)}",
            remedy="Resume with the run's own config.json, or start a new run in another output.",
        )
    if progress.num_done > config.steps:
        raise InputError(
            code="resume_differs",
            message=f"{last} has done {progress.num_done} steps, more than steps: {config.steps}",
            remedy="Raise steps.",
        )
    return last


def run(
    trainer: Trainer,
    last: Path | None,
    console: Console,
    open_log: Callable[[Path, int], RunLog] = RunLog,
) -> TrainResult:
    """Run a trainer to the end or until it is asked to stop. Every worker calls it; only the leader writes files.

    Args:
        trainer: a new trainer.
        last: the training checkpoint to resume from, if any.
        console: console for the leader's progress.
        open_log: opens the leader's log, given the run's folder and the number of steps done.
    """
    config, is_leader = trainer.config, trainer.is_leader
    num_done, num_saved = 0, None
    if last is not None:
        before = read_progress(last)
        num_done = num_saved = before.num_done
        trainer.load(last)
        if before.watch is not None:
            trainer.watch.load(before.watch)
    settings = config.model_dump(mode="json")
    log = None
    if is_leader:
        config.output.mkdir(parents=True, exist_ok=True)
        (config.output / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        log = open_log(config.output, num_done)
    losses: list[float] = []  # of the steps since the last checkpoint

    def save() -> None:
        score = sum(losses) / len(losses) if losses else None
        state = RunProgress(num_done, settings, trainer.watch.state, score, trainer.num_workers)
        trainer.save(config.output / "training", state, Retention(config.keep, config.keep_best))
        losses.clear()
        if log is not None:
            log.plot()

    def validate() -> dict[str, float]:
        with trainer.evaluated() as module:
            if log is None:
                return {}
            metrics = trainer.stage.validate(module)
        log.validation(ValidationRecord(num_done, metrics))
        progress.validation(num_done, metrics)
        return metrics

    metrics: dict[str, float] = {}
    with StopRequest() as stop, StepProgress(console, config.name, config.steps, num_done) as progress:
        if last is not None:
            progress.line(f"{config.name}: resuming after step {num_done}, from {last}")
            if _is_due(config.validate_every, num_done, num_done == config.steps):
                # A run that was killed right after saving has not validated yet. All workers read the same file.
                metrics = metrics_at(config.output, num_done) or validate()
        try:
            while num_done < config.steps and not (stop.is_requested or trainer.stop_requested):
                record = trainer.step(num_done)
                num_done += 1
                if log is not None:
                    log.step(record)
                if record.skipped:
                    progress.line(f"{config.name}: step {record.step} skipped, its loss is {record.loss:.4g}")
                else:
                    losses.append(record.loss)
                progress.step(record)
                is_last = num_done == config.steps
                if is_last or _is_due(config.checkpoint_every, num_done, is_last):
                    save()  # before validation, so that its failure does not lose the steps
                    num_saved = num_done
                if _is_due(config.validate_every, num_done, is_last):
                    metrics = validate()
                if _is_due(config.preview_every, num_done, is_last):
                    folder = config.output / "preview"
                    with trainer.evaluated() as module:
                        if is_leader:
                            folder.mkdir(exist_ok=True)
                            trainer.stage.preview(module, folder, num_done)
                    if log is not None:
                        log.preview(folder, num_done)
        finally:
            trainer.close()
        if num_done < config.steps:
            if num_saved != num_done:
                save()
            progress.line(f"stopped after step {num_done} of {config.steps}, and saved")
            return TrainResult(num_done, is_finished=False, checkpoint=config.checkpoint_folder, metrics=metrics)
        with trainer.evaluated() as module:
            if is_leader:
                config.checkpoint_folder.mkdir(parents=True, exist_ok=True)
                trainer.stage.save(module, config.checkpoint_folder)
        if log is not None:
            recorded = {key: value for key, value in settings.items() if key == "steps" or key not in FREE_SETTINGS}
            record_training(config.checkpoint_folder, config.name, recorded, metrics)
            log.plot()
        progress.line(f"{config.name}: {num_done} steps done, networks in {config.checkpoint_folder}")
    return TrainResult(num_done, is_finished=True, checkpoint=config.checkpoint_folder, metrics=metrics)


def _is_due(every: int | None, num_done: int, is_last: bool) -> bool:
    return every is not None and (is_last or num_done % every == 0)


class StopRequest:
    """Context manager that sets `is_requested` on SIGTERM and on the first Ctrl-C; a second Ctrl-C interrupts.

    It does nothing outside the main thread, because only that thread may handle signals.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self._previous: dict[int, Any] = {}  # handlers, as the signal module types them

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._request)
        return self

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.is_requested = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
