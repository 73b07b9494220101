"""Trainer: one training step and the state that it changes. `actors/training` overrides parts of it for many workers."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from diffusers import ModelMixin
from torch import Tensor, nn

from emotivetalk.errors import EmotiveTalkError, InputError
from emotivetalk.models.precision import mixed_precision
from emotivetalk.training.checkpoints import training_state as checkpoint
from emotivetalk.training.checkpoints.training_state import Retention, RunProgress, TrainState
from emotivetalk.training.data.batches import BatchFeed, Feed, module_seed, split_seeds, to_device
from emotivetalk.training.optim.ema import WeightAverage
from emotivetalk.training.optim.muon import build_optimizers, learning_rate_at
from emotivetalk.training.run.config import TrainConfig
from emotivetalk.training.run.divergence import LossWatch
from emotivetalk.training.run.log import StepRecord
from emotivetalk.training.stages.stage import Stage, StepLoss


class TrainingDivergedError(EmotiveTalkError):
    """A loss or a gradient was not finite, or a loss spiked."""


def check_batch_size(config: TrainConfig, num_workers: int) -> None:
    """Raise an InputError if a batch cannot be split evenly; the mean of the workers' losses would differ from the batch's."""
    num_parts = num_workers * config.accumulate
    if config.batch_size % num_parts:
        raise InputError(
            code="batch_uneven",
            message=f"batch_size {config.batch_size} cannot be split evenly among {num_workers} workers times "
            f"accumulate {config.accumulate}",
            remedy=f"Make batch_size a multiple of {num_parts}.",
        )


def enable_gradient_checkpointing(module: nn.Module, name: str) -> None:
    """Make a stage's networks recompute activations in the backward pass instead of storing them.

    Raises:
        InputError: none of the networks supports it.
    """
    networks = [part for part in module.modules() if isinstance(part, ModelMixin)]
    supporting = [network for network in networks if network._supports_gradient_checkpointing]
    if not supporting:
        kinds = ", ".join(sorted({type(network).__name__ for network in networks})) or "it has no diffusers model"
        raise InputError(
            code="gradient_checkpointing_unsupported",
            message=f"gradient_checkpointing: no network of the stage {name} supports it ({kinds})",
            remedy="Remove gradient_checkpointing; accumulate saves memory too.",
        )
    for network in supporting:
        network.enable_gradient_checkpointing()


class Trainer:
    """A stage with its optimisers and the average of its weights: everything that a step needs, without a run's files.

    Args:
        stage: the stage; its module is moved to the configured device and put into training mode.
        config: configuration of the run.
        rank, num_workers: index of this worker and number of workers; each trains on its share of a step's seeds.

    Attributes:
        is_leader: True if this process validates, logs and writes the networks.
        stop_requested: set to True to end the run after the current step.

    Raises:
        InputError: `batch_size` cannot be split evenly, or no network supports `gradient_checkpointing`.
    """

    def __init__(self, stage: Stage, config: TrainConfig, rank: int = 0, num_workers: int = 1) -> None:
        check_batch_size(config, num_workers)
        self.stage, self.config, self.rank, self.num_workers = stage, config, rank, num_workers
        self.is_leader = rank == 0
        self.stop_requested = False
        self.device = torch.device(config.device)
        self.module = stage.module.to(self.device).train()
        if config.gradient_checkpointing:
            enable_gradient_checkpointing(self.module, config.name)
        groups = stage.optimizer_groups()
        self.parameters = groups.named()
        self.optimizers = build_optimizers(groups, config.optimizer)
        self.watch = LossWatch(config.divergence)
        self.feed = self._build_feed()
        self.average = self._build_average()

    def _build_feed(self) -> Feed[list[Any]]:
        config = self.config
        return BatchFeed(self._make, config.seed, config.batch_size, config.steps, config.prefetch)

    def _make(self, seeds: Sequence[int]) -> list[Any]:
        parts = split_seeds(seeds, self.rank, self.num_workers, self.config.accumulate)
        return [self.stage.batch(part) for part in parts]

    def _build_average(self) -> WeightAverage | None:
        return None if self.config.ema_decay is None else WeightAverage(self.module, self.config.ema_decay)

    def step(self, step: int) -> StepRecord:
        """Train on the samples of step `step` (from 0).

        Raises:
            TrainingDivergedError: the loss or the gradient diverged, and the configuration does not permit skipping the
                step; the weights are unchanged.
        """
        start, cpu_start = time.perf_counter(), time.process_time()
        batches = self._take(step)
        waited = time.perf_counter() - start
        learning_rate = learning_rate_at(step, self.config.steps, self.config.optimizer)
        self._begin(learning_rate)
        torch.manual_seed(module_seed(self.config.seed, step) + self.rank)
        for batch in batches[:-1]:
            loss = self._forward(batch)
            self._note(loss)
            self._backward(loss.total)
        loss = self._forward(batches[-1])
        self._note(loss)
        values, memory = self._mean_over_workers()
        total = values.pop("")
        problem = self.watch.problem(total)
        if problem is not None:
            problem, gradient_norm = f"the loss {problem}", math.nan
            self._discard(loss.total)
        else:
            self._backward(loss.total)
            gradient_norm = self._update()
            if not math.isfinite(gradient_norm):
                problem = f"the gradient norm is {gradient_norm}"
        if problem is None:
            self.watch.accept(total)
            self._update_average(step)
        elif not self.watch.skip():
            raise self._diverged(step, problem, values)

        seconds = time.perf_counter() - start
        return StepRecord(
            step=step,
            loss=total,
            terms=values,
            learning_rate=learning_rate,
            gradient_norm=gradient_norm,
            seconds=seconds,
            cpu_seconds=time.process_time() - cpu_start,
            samples_per_second=self.config.batch_size / seconds,
            wait_seconds=waited,
            memory_bytes=memory,
            skipped=problem is not None,
        )

    def _take(self, step: int) -> list[Any]:
        return self.feed.take(step)

    def _begin(self, learning_rate: float) -> None:
        self._sums: dict[str, float] = {}
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate

    def _forward(self, batch: Any) -> StepLoss:
        """Compute the loss of a micro-batch, whose type is the stage's own."""
        with mixed_precision(self.device, self.config.precision == "bf16"):
            return self.module(to_device(batch, self.device))

    def _note(self, loss: StepLoss) -> None:
        """Add a micro-batch's loss, under the empty name, and its terms to the step's means."""
        for name, value in {"": loss.total, **loss.terms}.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach()) / self.config.accumulate

    def _mean_over_workers(self) -> tuple[dict[str, float], tuple[int, ...]]:
        """Return the step's loss and terms by name, and the memory of each worker."""
        return self._sums, (self._memory(),)

    def _memory(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return psutil.Process().memory_info().rss

    def _backward(self, total: Tensor) -> None:
        (total / self.config.accumulate).backward()

    def _discard(self, total: Tensor) -> None:
        """End a step whose loss diverged; the next step drops its gradients."""

    def _update(self) -> float:
        """Clip the gradients and step the optimisers if the gradient norm is finite; return the norm."""
        norm = float(self._clip_gradients())
        if math.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
        return norm

    def _clip_gradients(self) -> Tensor:
        limit = self.config.optimizer.clip_norm
        return nn.utils.clip_grad_norm_(self.parameters.values(), math.inf if limit is None else limit)

    def _update_average(self, step: int) -> None:
        if self.average is not None:
            self.average.update(self.module, step)

    def _diverged(self, step: int, problem: str, terms: dict[str, float]) -> TrainingDivergedError:
        values = ", ".join(f"{name} {term:.4g}" for name, term in terms.items())
        seeds = ", ".join(map(str, self.feed.seeds(step)))
        skipped = f"; {self.watch.num_skipped - 1} steps were skipped before" if self.watch.num_skipped > 1 else ""
        return TrainingDivergedError(
            code="training_diverged",
            message=f"step {step}: {problem} ({values}) on the samples of the seeds {seeds}{skipped}",
            remedy="Lower optimizer.learning_rate, inspect these samples with the stage's batch(), or set "
            "divergence.action=skip.",
        )

    @contextmanager
    def evaluated(self) -> Iterator[nn.Module]:
        """Yield the module with averaged weights (trained ones if there is no average) for evaluation without gradients.

        All workers enter the context together; only the leader may use the module.
        """
        module = self.module if self.average is None else self.average.module
        module.eval()
        try:
            with torch.no_grad():
                yield module
        finally:
            self.module.train()

    @property
    def state(self) -> TrainState:
        """Tensors of a training checkpoint."""
        average = None if self.average is None else self.average.module
        return TrainState(self.module, average, self.optimizers, self.parameters)

    def load(self, folder: Path) -> None:
        """Load the tensors of a training checkpoint."""
        checkpoint.load_training_checkpoint(folder, self.state)

    def save(self, folder: Path, progress: RunProgress, retention: Retention) -> None:
        """Write a training checkpoint."""
        checkpoint.save_training_checkpoint(folder, progress, self.state, retention)

    def close(self) -> None:
        """Stop making batches in the background."""
        self.feed.close()
