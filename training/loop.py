"""The training loop: one for all stages, plain PyTorch, in one process. Ray Train's worker does the same around a wrap.

A run is a function of its configuration: step s trains on samples whose seeds are a hash of (seed, s, index), and the
learning rate depends on s alone. A run that was stopped and resumed has the same losses, bit for bit, as one that
was not (same machine, same number of threads).
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console
from torch import nn

from media.errors import EmotiveTalkError, InputError
from training import checkpoint
from training.batches import BatchFeed, module_seed, to_device
from training.checkpoint import TrainState
from training.config import TrainConfig
from training.ema import WeightAverage
from training.muon import build_optimizers, learning_rate_at
from training.progress import StepProgress
from training.provenance import record_training
from training.run_log import RunLog, StepRecord, ValidationRecord
from training.stage import Stage, StepLoss
from training.stages import stage_class

# What may differ between a run and its continuation. `steps` may, to go on longer: the learning rate's end moves too.
FREE_SETTINGS = {"steps", "threads", "prefetch", "output", "checkpoint", "keep"} | {
    f"{what}_every" for what in ("validate", "preview", "checkpoint")
}


class TrainingDivergedError(EmotiveTalkError):
    """A loss or a gradient was infinite or not a number."""


@dataclass(frozen=True)
class TrainResult:
    """How a run ended: with `is_finished` its networks are in `checkpoint`, else it can be resumed."""

    num_done: int
    is_finished: bool
    checkpoint: Path
    metrics: dict[str, float]


class Trainer:
    """A stage, its optimisers and the average of its weights: all that one step needs, no files.

    Args:
        stage: its module is moved to the configured device and put into training mode.
        config: the run's.
    """

    def __init__(self, stage: Stage, config: TrainConfig) -> None:
        self.stage, self.config = stage, config
        self.device = torch.device(config.device)
        self.module = stage.module.to(self.device).train()
        groups = stage.optimizer_groups()
        self.parameters = groups.named()
        self.optimizers = build_optimizers(groups, config.optimizer)
        self.average = None if config.ema_decay is None else WeightAverage(self.module, config.ema_decay)
        self.feed = BatchFeed(stage.batch, config.seed, config.batch_size, config.steps, config.prefetch)

    @property
    def state(self) -> TrainState:
        """What a training checkpoint holds."""
        average = None if self.average is None else self.average.module
        return TrainState(self.module, average, self.optimizers, self.parameters)

    def step(self, step: int) -> StepRecord:
        """Trains on the samples of step `step` (from 0).

        Raises:
            TrainingDivergedError: the loss or the gradient is not finite; the weights are as before the step.
        """
        start, cpu_start = time.perf_counter(), time.process_time()
        batch = to_device(self.feed.take(step), self.device)
        learning_rate = learning_rate_at(step, self.config.steps, self.config.optimizer)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate

        torch.manual_seed(module_seed(self.config.seed, step))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            loss: StepLoss = self.module(batch)
        terms = {name: float(value.detach()) for name, value in loss.terms.items()}
        total = float(loss.total.detach())
        self._check_finite(step, "loss", total, terms)
        loss.total.backward()
        gradient_norm = float(self._clip_gradients())
        self._check_finite(step, "gradient norm", gradient_norm, terms)
        for optimizer in self.optimizers:
            optimizer.step()
        if self.average is not None:
            self.average.update(self.module, step)

        seconds = time.perf_counter() - start
        return StepRecord(
            step=step,
            loss=total,
            terms=terms,
            learning_rate=learning_rate,
            gradient_norm=gradient_norm,
            seconds=seconds,
            cpu_seconds=time.process_time() - cpu_start,
            samples_per_second=self.config.batch_size / seconds,
        )

    def _clip_gradients(self) -> torch.Tensor:
        limit = self.config.optimizer.clip_norm
        return nn.utils.clip_grad_norm_(self.parameters.values(), math.inf if limit is None else limit)

    def _check_finite(self, step: int, what: str, value: float, terms: dict[str, float]) -> None:
        if math.isfinite(value):
            return
        values = ", ".join(f"{name} {term:.4g}" for name, term in terms.items())
        seeds = ", ".join(map(str, self.feed.seeds(step)))
        raise TrainingDivergedError(
            code="training_diverged",
            message=f"step {step}: the {what} is {value} ({values}) on the samples of the seeds {seeds}",
            remedy="Lower optimizer.learning_rate, or look at these samples with the stage's batch().",
        )

    @contextmanager
    def evaluated(self) -> Iterator[nn.Module]:
        """The averaged weights (or the trained ones, if none are averaged) for evaluation, without gradients."""
        module = self.module if self.average is None else self.average.module
        module.eval()
        try:
            with torch.no_grad():
                yield module
        finally:
            self.module.train()


def train(config: TrainConfig, *, resume: bool = False, console: Console | None = None) -> TrainResult:
    """Runs a stage, from the start or from its last training checkpoint.

    SIGTERM and the first Ctrl-C let the step finish, write a training checkpoint and return.

    Args:
        config: the run.
        resume: go on from the last training checkpoint in `config.output`.
        console: where progress is shown: a bar on a terminal, else lines (default: standard error).

    Raises:
        InputError: there is nothing to resume, the output folder has another run, or the settings differ from its.
        TrainingDivergedError: see `Trainer.step`.
    """
    last = _last_checkpoint(config, resume)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    stage = stage_class(config.name)(config.stage)
    return _run(Trainer(stage, config), last, console if console is not None else Console(stderr=True))


def train_stage(
    stage: Stage, config: TrainConfig, *, resume: bool = False, console: Console | None = None
) -> TrainResult:
    """`train` with a stage that is built already; its class need not be one of `stage_class`."""
    last = _last_checkpoint(config, resume)
    return _run(Trainer(stage, config), last, console if console is not None else Console(stderr=True))


def _last_checkpoint(config: TrainConfig, resume: bool) -> Path | None:
    """Where to go on from; none for a new run."""
    folder = config.output / "training"
    found = checkpoint.training_checkpoints(folder)
    if not resume:
        if found:
            raise InputError(
                code="output_exists",
                message=f"{config.output} already has a run, {found[-1].name}",
                remedy="Resume it with --resume, or set another output.",
            )
        return None
    if not found:
        raise InputError(
            code="nothing_to_resume",
            message=f"{folder} has no training checkpoint",
            remedy="Start without --resume, or set output to the run's folder.",
        )
    num_done, settings = checkpoint.read_settings(found[-1])
    now = config.model_dump(mode="json")
    changed = sorted(key for key in (settings.keys() | now.keys()) - FREE_SETTINGS if settings.get(key) != now.get(key))
    if changed:
        raise InputError(
            code="resume_differs",
            message=f"{found[-1]} was trained with another {', '.join(changed)}",
            remedy="Resume with the run's own config.json, or start anew in another output.",
        )
    if num_done > config.steps:
        raise InputError(
            code="resume_differs",
            message=f"{found[-1]} has done {num_done} steps, more than steps: {config.steps}",
            remedy="Raise steps.",
        )
    return found[-1]


def _run(trainer: Trainer, last: Path | None, console: Console) -> TrainResult:
    config = trainer.config
    num_done = 0
    if last is not None:
        num_done, _ = checkpoint.read_settings(last)
        checkpoint.load_training_checkpoint(last, trainer.state)
    settings = config.model_dump(mode="json")
    config.output.mkdir(parents=True, exist_ok=True)
    (config.output / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    log = RunLog(config.output, num_done)

    def save() -> None:
        checkpoint.save_training_checkpoint(config.output / "training", num_done, trainer.state, settings, config.keep)
        log.plot()

    num_saved = None if last is None else num_done
    metrics: dict[str, float] = {}
    with _StopRequest() as stop, StepProgress(console, config.name, config.steps, num_done) as progress:
        try:
            while num_done < config.steps and not stop.is_requested:
                record = trainer.step(num_done)
                num_done += 1
                log.step(record)
                progress.step(record)
                is_last = num_done == config.steps
                if is_last or _is_due(config.checkpoint_every, num_done, is_last):
                    save()  # before validation, lest its failure lose the steps
                    num_saved = num_done
                if _is_due(config.validate_every, num_done, is_last):
                    with trainer.evaluated() as module:
                        metrics = trainer.stage.validate(module)
                    log.validation(ValidationRecord(num_done, metrics))
                    progress.validation(num_done, metrics)
                if _is_due(config.preview_every, num_done, is_last):
                    folder = config.output / "preview"
                    folder.mkdir(exist_ok=True)
                    with trainer.evaluated() as module:
                        trainer.stage.preview(module, folder, num_done)
        finally:
            trainer.feed.close()
        if num_done < config.steps:
            if num_saved != num_done:
                save()
            progress.line(f"stopped after step {num_done} of {config.steps}; go on with the same command and --resume")
            return TrainResult(num_done, is_finished=False, checkpoint=config.checkpoint_folder, metrics=metrics)
        config.checkpoint_folder.mkdir(parents=True, exist_ok=True)
        with trainer.evaluated() as module:
            trainer.stage.save(module, config.checkpoint_folder)
        lasting = {key: value for key, value in settings.items() if key == "steps" or key not in FREE_SETTINGS}
        record_training(config.checkpoint_folder, config.name, lasting, metrics)
        log.plot()
        progress.line(f"{config.name}: {num_done} steps done, networks in {config.checkpoint_folder}")
    return TrainResult(num_done, is_finished=True, checkpoint=config.checkpoint_folder, metrics=metrics)


def _is_due(every: int | None, num_done: int, is_last: bool) -> bool:
    return every is not None and (is_last or num_done % every == 0)


class _StopRequest:
    """Turns SIGTERM and the first Ctrl-C into `is_requested`; a second Ctrl-C interrupts.

    In another thread than the main one it does nothing: only that one may handle signals.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self._former: dict[int, Any] = {}  # handlers, as the signal module types them

    def __enter__(self) -> _StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._former[number] = signal.signal(number, self._request)
        return self

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.is_requested = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
