"""The trainer of one of many workers: `training.run.trainer.Trainer` with DeepSpeed's engine around the module."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from emotivetalk.actors.training import zero
from emotivetalk.actors.training.agreement import AgreedError, agree
from emotivetalk.actors.training.launch_checks import check
from emotivetalk.actors.training.loaders import LoaderFeed, Share
from emotivetalk.actors.training.shards import SavedTensors, ShardedAverage, Shards, Skeleton
from emotivetalk.errors import EmotiveTalkError
from emotivetalk.training.checkpoints import training_state as checkpoint
from emotivetalk.training.checkpoints.training_state import Retention, RunProgress
from emotivetalk.training.data.batches import Feed, to_device
from emotivetalk.training.optim.ema import WeightAverage
from emotivetalk.training.run.config import TrainConfig
from emotivetalk.training.run.log import StepRecord
from emotivetalk.training.run.trainer import Trainer, TrainingDivergedError
from emotivetalk.training.stages.stage import Stage, StepLoss


class ShardedTrainer(Trainer):
    """One worker's trainer. All workers execute collective operations in the same order.

    Training checkpoints have the plain loop's format: each worker writes whole weights, averages and moments of some
    parameters. So a run can continue with any number of workers and any ZeRO stage, or in one process without Ray.

    Args:
        stage: the same on every worker, with the same weights.
        config: of the run.
        last: the training checkpoint whose weights to start with; `load` reads the rest.
        stop_file: the leader ends the run after the step in which this file exists.
        committed: called on every worker for every training checkpoint that is complete on disk.
        num_loaders: number of actors that make this worker's batches; with 0 it makes them itself.

    Raises:
        InputError: the optimiser does not support `zero`, or the batch cannot be divided evenly.
    """

    def __init__(
        self,
        stage: Stage,
        config: TrainConfig,
        last: Path | None,
        stop_file: Path,
        committed: Callable[[Path, RunProgress], None] = lambda folder, progress: None,
        num_loaders: int = 0,
    ) -> None:
        check(config, dist.get_world_size())
        self.num_loaders = num_loaders
        super().__init__(stage, config, dist.get_rank(), dist.get_world_size())
        self.stop_file, self.committed = stop_file, committed
        self._hidden = set() if config.optimizer.name == "adamw" else set(stage.optimizer_groups().hidden)
        self._names: dict[int, list[str]] = {}  # of each parameter; one that two layers share has two names
        for name, parameter in self.module.named_parameters(remove_duplicate=False):
            self._names.setdefault(id(parameter), []).append(name)
        self._skeleton = Skeleton(self.module) if self.is_leader else None
        self._saved = None
        if last is not None:
            self._saved = SavedTensors(last)
            own = self.module.state_dict()
            self.module.load_state_dict({name: self._saved.take(f"module/{name}") for name in own})
        # DeepSpeed sends and flattens weights in memory order and accepts only row-major order.
        channels_last = [p for p in self.module.parameters() if not zero.has_plain_order(p)]
        for parameter in channels_last:
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        self.engine = zero.build_engine(self.module, self.optimizers, config, self.num_workers)
        if config.zero:
            zero.create_moments(self.engine, 0)
        else:  # DeepSpeed leaves the weights alone, and convolutions are faster in channels_last
            for parameter in channels_last:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.shards = Shards(self.module, self.rank, self.num_workers, config.zero == 3)
        self.sharded_average = None if config.ema_decay is None else ShardedAverage(self.shards, config.ema_decay)

    def _build_feed(self) -> Feed[list[Any]]:
        if not self.num_loaders:
            return super()._build_feed()
        share = Share(type(self.stage), self.config, self.rank, self.num_workers, Path.cwd())
        return LoaderFeed(share, self.num_loaders)

    def _take(self, step: int) -> list[Any]:
        """Return the batches of a step. An EmotiveTalkError of one worker is raised by all."""
        batches, problem = [], None
        try:
            batches = super()._take(step)
        except EmotiveTalkError as error:
            problem = error
        num_failed = torch.tensor(float(problem is not None), device=self.device)
        dist.all_reduce(num_failed)  # cheaper at every step than exchanging errors
        if num_failed:
            agree(problem)
        return batches

    def _build_average(self) -> WeightAverage | None:
        return None  # `ShardedAverage` replaces it, once the weights are distributed

    def step(self, step: int) -> StepRecord:
        """Take a step as `Trainer.step`; all workers raise its errors."""
        try:
            return super().step(step)
        except TrainingDivergedError as error:
            raise AgreedError(error) from error

    def _begin(self, learning_rate: float) -> None:
        self._sums = {}
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate

    def _forward(self, batch: Any) -> StepLoss:
        total, terms = self.engine(to_device(batch, self.device))
        return StepLoss(total, terms)

    def _mean_over_workers(self) -> tuple[dict[str, float], tuple[int, ...]]:
        """Reduce the losses, the stop request and each worker's memory in one all-reduce."""
        names = sorted(self._sums)
        values = [self._sums[name] / self.num_workers for name in names]
        memory = [0.0] * self.num_workers
        memory[self.rank] = float(self._memory())
        stop_request = float(self.is_leader and self.stop_file.exists())
        vector = torch.tensor([stop_request, *memory, *values], dtype=torch.float64, device=self.device)
        dist.all_reduce(vector)
        stop_request, *rest = vector.tolist()
        self.stop_requested = stop_request > 0
        memory, values = rest[: self.num_workers], rest[self.num_workers :]
        return dict(zip(names, values, strict=True)), tuple(int(size) for size in memory)

    def _backward(self, total: Tensor) -> None:
        is_last = self.engine.is_gradient_accumulation_boundary()
        self.engine.backward(total)  # divides by the number of micro-batches; sums over the workers after the last one
        if not is_last:
            self.engine.step()

    def _discard(self, total: Tensor) -> None:
        # DeepSpeed counts micro-batches, so it must get this one too. It drops a gradient that is not finite.
        self._backward(total * math.nan)
        self._update()

    def _update(self) -> float:
        if not self.config.zero:
            norm = float(self._clip_gradients())
            if not math.isfinite(norm):
                self.module.zero_grad(set_to_none=True)
            self.engine.step()
            return norm
        self.engine.step()
        return float(self.engine.get_global_grad_norm() or 0.0) if self.engine.was_step_applied() else math.inf

    def _update_average(self, step: int) -> None:
        if self.sharded_average is not None:
            self.sharded_average.update(step)

    @contextmanager
    def evaluated(self) -> Iterator[nn.Module]:
        """Give the leader a temporary whole copy of the module on the CPU, where stages evaluate.

        The others get their own module, which is unusable with ZeRO 3.
        """
        tensors: dict[str, Tensor] = {}
        for name in self.shards.parameters:
            value = self._averaged(name)
            if self.is_leader:
                tensors[name] = value.cpu()
        if self._skeleton is None:
            yield self.module
            return
        buffers = dict(self.module.named_buffers())
        module = self._skeleton.fill(
            lambda name: tensors.pop(name) if name in tensors else buffers[name], torch.device("cpu")
        )
        with torch.no_grad():
            yield module

    def _averaged(self, name: str) -> Tensor:
        return self.shards.weight(name) if self.sharded_average is None else self.sharded_average.whole(name)

    def load(self, folder: Path) -> None:
        """Read averages and moments. The constructor has read the weights."""
        saved = self._saved
        assert saved is not None and saved.folder == folder
        if self.sharded_average is not None:
            for name, average in self.sharded_average.parts.items():
                part = self.shards.cut(name, saved.take(f"average/{name}"))
                assert part is not None
                average.copy_(part.view_as(average))
            saved.left -= {
                name for name in saved.left if name.startswith("average/")
            }  # of frozen weights, buffers and other workers
        states: dict[str, dict[str, Tensor]] = {name: {} for name in self.parameters}
        for key in sorted(saved.left):
            place, *rest = key.split("/")
            if place == "optimizer" and rest[:2] == [self._optimizer_of(rest[1]), rest[1]] and rest[1] in states:
                states[rest[1]][rest[2]] = saved.take(key)
        saved.check_empty()
        if self.config.zero:
            self._load_moments(states)
        else:
            for optimizer, _ in checkpoint.optimizer_prefixes(self.optimizers):
                for name, parameter in checkpoint.updated_by(optimizer, self.parameters).items():
                    if states[name]:
                        optimizer.state[parameter] = {
                            key: checkpoint.like(parameter, value) for key, value in states[name].items()
                        }
        self._saved = None

    def _optimizer_of(self, name: str) -> str:
        return "Muon" if name in self._hidden else "AdamW"

    def _load_moments(self, states: dict[str, dict[str, Tensor]]) -> None:
        zero.create_moments(self.engine, max((float(state["step"]) for state in states.values() if state), default=0.0))
        for name, state in states.items():
            for key in zero.MOMENTS:
                if key in state:
                    part = self.shards.cut(name, state[key]) if self.config.zero == 3 else None
                    zero.set_moment(self.parameters[name], key, state[key], part)

    def save(self, folder: Path, progress: RunProgress, retention: Retention) -> None:
        """Write this worker's share. When all workers have, the leader renames the folder to its final name.

        Raises:
            AgreedError: a worker could not write. Earlier checkpoints are unchanged.
        """
        temporary = checkpoint.unfinished_folder(folder, progress.num_done)
        if self.is_leader:
            shutil.rmtree(temporary, ignore_errors=True)
        agree(None)  # wait until the leader has removed the old folder
        tensors = self._tensors()
        problem: EmotiveTalkError | None = None
        try:
            with checkpoint.write_errors(temporary):
                temporary.mkdir(parents=True, exist_ok=True)
                checkpoint.write_tensors(tensors, temporary / f"tensors-{self.rank:05d}.safetensors")
        except EmotiveTalkError as error:
            problem = error
        del tensors
        try:
            agree(problem)
        except AgreedError:
            # Not earlier: removing the folder while others write to it would cause errors that hide the cause.
            if self.is_leader:
                shutil.rmtree(temporary, ignore_errors=True)
            raise
        if self.is_leader:
            try:
                with checkpoint.writing(temporary):
                    checkpoint.commit(folder, progress, retention)
            except EmotiveTalkError as error:
                problem = error
        agree(problem)
        self.committed(folder / f"step_{progress.num_done:08d}", progress)

    def _tensors(self) -> dict[str, Tensor]:
        """Return this worker's share of the tensors of a training checkpoint, by their names in `training_state`."""
        own: dict[str, Tensor] = {}
        keeps_average = self.sharded_average is not None

        def keep(name: str, key: str, value: Tensor) -> None:
            if self.shards.writer[name] == self.rank:
                own[key] = checkpoint.on_cpu(value)

        def keep_weight(name: str, place: str, value: Tensor) -> None:
            for alias in self._names[id(self.shards.parameters[name])]:
                keep(name, f"{place}/{alias}", value)

        for name in self.shards.parameters:
            keep_weight(name, "module", self.shards.weight(name))
            if keeps_average:
                keep_weight(name, "average", self._averaged(name))
            if self.config.zero and name in self.parameters:
                for key, value in zero.whole_moments(self.engine, self.parameters[name]).items():
                    keep(name, f"optimizer/AdamW/{name}/{key}", value)
        if not self.config.zero:
            for optimizer, prefix in checkpoint.optimizer_prefixes(self.optimizers):
                for name, parameter in checkpoint.updated_by(optimizer, self.parameters).items():
                    for key, value in optimizer.state.get(parameter, {}).items():
                        keep(name, f"{prefix}/{name}/{key}", value)
        if self.is_leader:
            weights = {name for names in self._names.values() for name in names}
            for name, buffer in self.module.state_dict().items():
                if name not in weights:
                    for place in ["module", "average"] if keeps_average else ["module"]:
                        own[f"{place}/{name}"] = checkpoint.on_cpu(buffer)
        return own
