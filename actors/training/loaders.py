"""Batches from loader actors, anywhere in the cluster: the batches of the plain loop, made ahead of the step."""

from __future__ import annotations

import io
import os
import pickle
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from jaxtyping import UInt8
from torch import Tensor

from emotivetalk.errors import EmotiveTalkError
from emotivetalk.training.data.batches import Feed, split_seeds, step_seeds
from emotivetalk.training.run.config import TrainConfig
from emotivetalk.training.stages.stage import Stage

STEPS_AHEAD = 2  # steps per loader that are being made or are ready


@dataclass(frozen=True)
class Share:
    """The batches of worker `rank` among `num_workers`. Relative paths in the configuration start in `directory`."""

    stage_class: type[Stage]
    config: TrainConfig
    rank: int
    num_workers: int
    directory: Path

    def seeds(self, step: int) -> list[list[int]]:
        """Return the sample seeds of each of the worker's micro-batches."""
        config = self.config
        seeds = step_seeds(config.seed, step, config.batch_size)
        return split_seeds(seeds, self.rank, self.num_workers, config.accumulate)


@dataclass(frozen=True)
class _Failure:
    """An EmotiveTalkError as a value. Raised in an actor, Ray would wrap it."""

    kind: type[EmotiveTalkError]
    code: str
    message: str
    remedy: str


class Loader:
    """Makes a step's batches, on one CPU. A batch follows from its seeds alone, so any loader can make it, again if needed."""

    def __init__(self, share: Share) -> None:
        self.share = share
        self._stage: Stage | None = None

    def make(self, step: int) -> UInt8[np.ndarray, " bytes"]:
        """Return the pickled micro-batches of a step, or a pickled `_Failure`, as an array: Ray maps it without a copy."""
        try:
            stage = self._stage = self._stage or self._build()
            made: object = [stage.batch(part) for part in self.share.seeds(step)]
        except EmotiveTalkError as error:
            made = _Failure(type(error), error.code, error.message, error.remedy)
        return np.frombuffer(pack(made), np.uint8)

    def _build(self) -> Stage:
        """Build the stage on the CPU, without the weights that are trained: a batch cannot depend on them."""
        os.chdir(self.share.directory)
        torch.set_num_threads(1)
        torch.manual_seed(self.share.config.seed)
        stage = self.share.stage_class(self.share.config.stage)
        for parameter in stage.module.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.new_empty(0)
        return stage


class _Pickler(pickle.Pickler):
    """Pickles tensors as arrays: twice as fast as PyTorch's own pickling, and the memory layout is kept."""

    def reducer_override(self, value: object) -> object:
        if type(value) is not Tensor or value.layout != torch.strided:
            return NotImplemented
        order = sorted(range(value.dim()), key=value.stride, reverse=True)
        return _tensor, (value.permute(order).contiguous().numpy(), order)


def _tensor(array: np.ndarray, order: list[int]) -> Tensor:
    return torch.from_numpy(array).permute([order.index(axis) for axis in range(len(order))])


def pack(value: object) -> bytes:
    """Pickle a value that may hold CPU tensors; `pickle.loads` is the inverse.

    Only for processes of one run: the bytes travel from a loader to its worker through Ray's object store, whose pickles
    both trust already. They are never written to a file and never come from a file or a client.
    """
    stream = io.BytesIO()
    _Pickler(stream, protocol=5).dump(value)
    return stream.getvalue()


class LoaderFeed(Feed[list[Any]]):
    """Feeds a worker from loader actors: the batches of `BatchFeed`, in the same order, from any step on.

    Each loader works at most `STEPS_AHEAD` steps ahead. Ray restarts a loader that dies and gives it its steps again. The
    loaders start at the first step that is taken, and afresh when a step does not follow the previous one.

    Args:
        share: the worker's batches.
        num_loaders: number of actors, one CPU each, spread over the nodes of the cluster.
    """

    def __init__(self, share: Share, num_loaders: int) -> None:
        super().__init__(share.config.seed, share.config.batch_size)
        self.share, self.num_loaders = share, num_loaders
        self._loaders: list[Any] = []
        self._pending: deque[ray.ObjectRef] = deque()
        self._next_step = 0

    def take(self, step: int) -> list[Any]:
        """Return the worker's micro-batches of a step.

        Raises:
            EmotiveTalkError: `Stage.batch` raised it in the loader.
        """
        if not self._loaders or step != self._next_step:
            self.close()
            self._open(step)
        packed = ray.get(self._pending.popleft())
        self._next_step = step + 1
        self._request_ahead()
        batches = pickle.loads(packed)  # from this run's own loader: see `pack`
        if isinstance(batches, _Failure):
            raise batches.kind(batches.code, batches.message, batches.remedy)
        return batches

    def _open(self, step: int) -> None:
        actor = ray.remote(num_cpus=1, num_gpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy="SPREAD")(
            Loader
        )
        self._loaders = [actor.remote(self.share) for _ in range(self.num_loaders)]
        self._next_step = step
        self._request_ahead()

    def _request_ahead(self) -> None:
        """Request the next steps from the loaders in turn, `STEPS_AHEAD` from each, up to the last step."""
        first, stop = self._next_step + len(self._pending), self._next_step + STEPS_AHEAD * self.num_loaders
        for step in range(first, min(stop, self.share.config.steps)):
            self._pending.append(self._loaders[step % self.num_loaders].make.remote(step))

    def close(self) -> None:
        """End the loaders."""
        for loader in self._loaders:
            ray.kill(loader)
        self._loaders = []
        self._pending.clear()
