"""Seeds of a step's samples, and the feed that makes batches from them, optionally one step ahead."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

BatchT = TypeVar("BatchT")


def step_seeds(seed: int, step: int, batch_size: int) -> list[int]:
    """Compute the seeds of a step's samples: hashes of (seed, step, index in the global batch) in 0 .. 2**63 - 1.

    They are counter-based: there is no state to save, any step can be repeated, and a worker takes its share by slicing.
    """
    return [_hash(seed, step, index) for index in range(batch_size)]


def split_seeds(seeds: Sequence[int], rank: int, num_workers: int, num_parts: int) -> list[list[int]]:
    """Split a worker's share of a step, `seeds[rank::num_workers]`, into `num_parts` micro-batches of equal size.

    Raises:
        ValueError: the seeds cannot be split evenly; the mean of the parts' losses would then differ from the batch's.
    """
    if len(seeds) % (num_workers * num_parts):
        raise ValueError(f"{len(seeds)} seeds cannot be split into {num_workers} x {num_parts} equal parts")
    share = seeds[rank::num_workers]
    return [list(share[part::num_parts]) for part in range(num_parts)]


def module_seed(seed: int, step: int) -> int:
    """Compute the seed of a step for what the module itself draws, such as dropout."""
    return _hash(seed, step)


def _hash(seed: int, *key: int) -> int:
    (word,) = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
    return int(word >> np.uint64(1))  # torch.Generator and most libraries accept 63 bits


def to_device(batch: BatchT, device: torch.device) -> BatchT:
    """Move the tensors of a batch, a dataclass, to `device`, including those of dataclasses inside it.

    Raises:
        ValueError: the batch is not an instance of a dataclass.
    """
    if not dataclasses.is_dataclass(batch) or isinstance(batch, type):
        raise ValueError(f"a stage's batch must be a dataclass of tensors, got {type(batch).__name__}")
    moved: dict[str, object] = {}
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor):
            moved[field.name] = value.to(device)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            moved[field.name] = to_device(value, device)
    return dataclasses.replace(batch, **moved)


class Feed(ABC, Generic[BatchT]):
    """Source of the batches of each step; subclasses decide where and how far ahead batches are made.

    Args:
        seed: seed of the run.
        batch_size: samples per step over all workers.
    """

    def __init__(self, seed: int, batch_size: int) -> None:
        self._seed, self._batch_size = seed, batch_size

    def seeds(self, step: int) -> list[int]:
        """Return the seeds of a step's samples."""
        return step_seeds(self._seed, step, self._batch_size)

    @abstractmethod
    def take(self, step: int) -> BatchT:
        """Return the batch of a step, or raise the error that occurred while it was made."""

    @abstractmethod
    def close(self) -> None:
        """Stop background work."""


class BatchFeed(Feed[BatchT]):
    """Feed that makes batches in this process, with `prefetch` in a background thread one step ahead of training.

    Args:
        make: a stage's `batch`, a pure function of the seeds.
        seed, batch_size: see `Feed`.
        num_steps: total number of steps; no batch beyond it is made.
        prefetch: make the next step's batch in the background.
    """

    def __init__(
        self, make: Callable[[Sequence[int]], BatchT], seed: int, batch_size: int, num_steps: int, prefetch: bool
    ) -> None:
        super().__init__(seed, batch_size)
        self._make, self._num_steps = make, num_steps
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="batches") if prefetch else None
        self._next: tuple[int, Future[BatchT]] | None = None

    def take(self, step: int) -> BatchT:
        """Return the batch of a step, or raise what `make` raised in the background."""
        if self._worker is None:
            return self._make(self.seeds(step))
        if self._next is None or self._next[0] != step:
            self._submit(step)
        assert self._next is not None
        batch = self._next[1].result()
        if step + 1 < self._num_steps:
            self._submit(step + 1)
        return batch

    def _submit(self, step: int) -> None:
        assert self._worker is not None
        self._next = (step, self._worker.submit(self._make, self.seeds(step)))

    def close(self) -> None:
        """Wait for the background thread and stop it."""
        if self._worker is not None:
            self._worker.shutdown(wait=True, cancel_futures=True)
