"""Which seeds a step trains on, and the batches made from them, one step ahead if wished."""

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
    """The seeds of a step's samples: a hash of (seed, step, index in the global batch), each in 0 .. 2**63 - 1.

    Counter-based: no state to keep, any step can be made again, and a worker takes its share by slicing.
    """
    return [_hash(seed, step, index) for index in range(batch_size)]


def split_seeds(seeds: Sequence[int], rank: int, num_workers: int, num_parts: int) -> list[list[int]]:
    """A worker's micro-batches of a step: its share `seeds[rank::num_workers]`, dealt in turn to equal parts.

    Raises:
        ValueError: the seeds cannot be dealt evenly, so a mean of the parts' losses would not be the batch's.
    """
    if len(seeds) % (num_workers * num_parts):
        raise ValueError(f"{len(seeds)} seeds cannot be dealt to {num_workers} x {num_parts} equal parts")
    share = seeds[rank::num_workers]
    return [list(share[part::num_parts]) for part in range(num_parts)]


def module_seed(seed: int, step: int) -> int:
    """The seed of what the module itself draws in a step, dropout for one."""
    return _hash(seed, step)


def _hash(seed: int, *key: int) -> int:
    (word,) = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
    return int(word >> np.uint64(1))  # torch.Generator and most libraries take 63 bits


def to_device(batch: BatchT, device: torch.device) -> BatchT:
    """The batch (a dataclass) with its tensors on `device`; fields that are dataclasses are moved too.

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
    """Batches by step; who makes them, and how far ahead, is up to the subclass.

    Args:
        seed: the run's.
        batch_size: samples a step, over all workers.
    """

    def __init__(self, seed: int, batch_size: int) -> None:
        self._seed, self._batch_size = seed, batch_size

    def seeds(self, step: int) -> list[int]:
        """The seeds of a step's samples."""
        return step_seeds(self._seed, step, self._batch_size)

    @abstractmethod
    def take(self, step: int) -> BatchT:
        """The batch of a step; what went wrong when it was made is raised here."""

    @abstractmethod
    def close(self) -> None:
        """Ends what works in the background."""


class BatchFeed(Feed[BatchT]):
    """Batches made in this process. With `prefetch`, one background thread makes the next step's while this one trains.

    Args:
        make: a stage's `batch`, a pure function of the seeds.
        seed, batch_size: as in `Feed`.
        num_steps: no batch is prefetched from this step on.
        prefetch: whether to work one step ahead.
    """

    def __init__(
        self, make: Callable[[Sequence[int]], BatchT], seed: int, batch_size: int, num_steps: int, prefetch: bool
    ) -> None:
        super().__init__(seed, batch_size)
        self._make, self._num_steps = make, num_steps
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="batches") if prefetch else None
        self._next: tuple[int, Future[BatchT]] | None = None

    def take(self, step: int) -> BatchT:
        """The batch of a step; what `make` raised in the background is raised here."""
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
        """Waits for the background thread and ends it."""
        if self._worker is not None:
            self._worker.shutdown(wait=True, cancel_futures=True)
