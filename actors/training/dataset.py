"""Batches made by loaders, processes of their own anywhere in the cluster, that Ray Data feeds and looks after."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray.data
import torch
from ray.data import ActorPoolStrategy, DataContext, ExecutionResources
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
)
from ray.data._internal.execution.backpressure_policy.backpressure_policy import BackpressurePolicy
from ray.data._internal.execution.operators.base_physical_operator import InternalQueueOperatorMixin
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask
from torch import Tensor

from emotivetalk.errors import EmotiveTalkError
from emotivetalk.training.data.batches import Feed, split_seeds, step_seeds
from emotivetalk.training.run.config import TrainConfig
from emotivetalk.training.stages.stage import Stage

if TYPE_CHECKING:
    from ray.data._internal.execution.interfaces.physical_operator import PhysicalOperator

STEP, PAYLOAD = "step", "payload"
AHEAD_PER_LOADER = 2  # steps that are being made or lie ready; one is trained on besides
OBJECT_STORE_BYTES = 2 * 2**30  # of one worker's batches; Ray Data starts none beyond


@dataclass(frozen=True)
class Share:
    """Which batches: those of worker `rank` among `num_workers`, made in `directory`, where relative paths start."""

    stage_class: type[Stage]
    config: TrainConfig
    rank: int
    num_workers: int
    directory: Path

    def seeds(self, step: int) -> list[list[int]]:
        """Of the worker's micro-batches."""
        config = self.config
        seeds = step_seeds(config.seed, step, config.batch_size)
        return split_seeds(seeds, self.rank, self.num_workers, config.accumulate)


@dataclass(frozen=True)
class _Failure:
    """An error of ours as a value: raised in a loader, it would come back inside several of Ray's."""

    kind: type[EmotiveTalkError]
    code: str
    message: str
    remedy: str


class Loader:
    """Makes a step's batches, on one CPU; Ray Data has a pool of them, and starts those again that die."""

    def __init__(self, share: Share) -> None:
        self.share = share
        self._stage: Stage | None = None

    def __call__(self, steps: pa.Table) -> pa.Table:
        """Takes rows of `STEP` to rows of `PAYLOAD`, the pickled batches."""
        payloads = [pack(self._make(step)) for step in steps[STEP].to_pylist()]
        return pa.table({PAYLOAD: pa.array(payloads, pa.large_binary())})

    def _make(self, step: int) -> list[Any] | _Failure:
        try:
            stage = self._stage = self._stage or self._build()
            return [stage.batch(part) for part in self.share.seeds(step)]
        except EmotiveTalkError as error:
            return _Failure(type(error), error.code, error.message, error.remedy)

    def _build(self) -> Stage:
        """The stage as the workers have it, on the CPU and without the weights that are trained.

        A batch follows from its seeds alone, so it cannot depend on what training changes.
        """
        os.chdir(self.share.directory)
        torch.set_num_threads(1)
        torch.manual_seed(self.share.config.seed)
        stage = self.share.stage_class(self.share.config.stage)
        for parameter in stage.module.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.new_empty(0)
        return stage


class _Pickler(pickle.Pickler):
    """Tensors travel as arrays: half the time of PyTorch's own way, and their order in memory stays."""

    def reducer_override(self, value: object) -> object:
        if type(value) is not Tensor or value.layout != torch.strided:
            return NotImplemented
        order = sorted(range(value.dim()), key=value.stride, reverse=True)
        return _tensor, (value.permute(order).contiguous().numpy(), order)


def _tensor(array: Any, order: list[int]) -> Tensor:
    return torch.from_numpy(array).permute([order.index(axis) for axis in range(len(order))])


def pack(value: object) -> bytes:
    """Pickles what may hold tensors on the CPU; `pickle.loads` is the inverse.

    For this run's own processes only: what is packed goes from a loader to its worker through Ray's object store, by whose
    pickles both already trust each other. Nothing packed is ever written to, or read from, a file or a caller.
    """
    stream = io.BytesIO()
    _Pickler(stream, protocol=5).dump(value)
    return stream.getvalue()


class _Steps(Datasource):
    """The numbers of the steps from `first` on, each a block, so that each is one call of a loader."""

    def __init__(self, first: int, num_steps: int) -> None:
        super().__init__()
        self.first, self.num_steps = first, num_steps

    def estimate_inmemory_data_size(self) -> int:
        return 8 * (self.num_steps - self.first)

    def get_read_tasks(self, parallelism: int, *arguments: object, **options: object) -> list[ReadTask]:
        first, num_steps = self.first, self.num_steps

        def read() -> Iterator[pa.Table]:
            for step in range(first, num_steps):
                yield pa.table({STEP: [step]})

        size = self.estimate_inmemory_data_size()
        return [ReadTask(read, BlockMetadata(num_steps - first, size, input_files=None, exec_stats=None))]


class BoundedAhead(BackpressurePolicy):
    """Lets loaders work so many steps ahead and no more: Ray Data's own bounds count bytes, and would go on for thousands."""

    def can_add_input(self, op: PhysicalOperator) -> bool:
        """Whether one more step may be given to the loaders."""
        if op.output_dependencies:
            return True
        return op.num_active_tasks() + self._waiting(op) < self._data_context.get_config("steps_ahead")

    def max_task_output_bytes_to_read(self, op: PhysicalOperator) -> int | None:
        """Stops the numbers of the steps, too."""
        if not op.output_dependencies:
            return None
        return 1 if self._waiting(op) < self._data_context.get_config("steps_ahead") else 0

    def _waiting(self, op: PhysicalOperator) -> int:
        inside = op.internal_output_queue_num_blocks() if isinstance(op, InternalQueueOperatorMixin) else 0
        return self._topology[op].output_queue.num_blocks + inside


class DatasetFeed(Feed[list[Any]]):
    """`emotivetalk.training.data.batches.BatchFeed` in other processes: the same batches in the same order, from whatever step one begins.

    A stream is opened at the first step that is taken, and again if a step does not follow the one before it.

    Args:
        share: which batches.
        num_loaders: processes, a CPU each, spread over the cluster's nodes.
    """

    def __init__(self, share: Share, num_loaders: int) -> None:
        super().__init__(share.config.seed, share.config.batch_size)
        self.share, self.num_loaders = share, num_loaders
        self._stream: Generator[pa.Table] | None = None
        self._next = 0

    def take(self, step: int) -> list[Any]:
        """The worker's micro-batches of a step.

        Raises:
            EmotiveTalkError: what `Stage.batch` raised in the loader.
        """
        if self._stream is None or step != self._next:
            self.close()
            self._stream = self._open(step)
        table = next(self._stream)
        self._next = step + 1
        made = pickle.loads(table[PAYLOAD][0].as_buffer())  # of our own loader: see `pack`
        if isinstance(made, _Failure):
            raise made.kind(made.code, made.message, made.remedy)
        return made

    def _open(self, first: int) -> Generator[pa.Table]:
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.target_max_block_size = 1  # a row is a block
        context.execution_options.preserve_order = True
        context.execution_options.resource_limits = ExecutionResources.for_limits(
            cpu=self.num_loaders, gpu=0, object_store_memory=OBJECT_STORE_BYTES
        )
        context.set_config("steps_ahead", AHEAD_PER_LOADER * self.num_loaders)
        context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [*ENABLED_BACKPRESSURE_POLICIES, BoundedAhead])
        steps = ray.data.read_datasource(
            _Steps(first, self.share.config.steps),
            override_num_blocks=1,
            num_cpus=0,  # all CPUs may be the workers' and the loaders'
        )
        batches = steps.map_batches(
            Loader,
            fn_constructor_args=(self.share,),
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=self.num_loaders, max_tasks_in_flight_per_actor=AHEAD_PER_LOADER),
            num_cpus=1,
            num_gpus=0,
        )
        made = batches.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
        return (table for table in made)

    def close(self) -> None:
        """Ends the loaders."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
