"""Two processes that train without Ray, so that many runs share one start. Each scenario is a run in its own folder."""

from __future__ import annotations

import os
import resource
import traceback
import warnings
from collections.abc import Sequence
from functools import partial
from io import StringIO
from pathlib import Path

import torch
import torch.distributed as dist
from rich.console import Console

from emotivetalk.actors.training.agreement import AgreedError
from emotivetalk.training.checkpoints.training_state import training_checkpoints
from emotivetalk.training.run.config import TrainConfig
from emotivetalk.training.run.loop import run
from tests.actors.training.runs import copy_until, toy_config
from tests.actors.training.toys import ToyConfig, ToyStage

NUM_WORKERS = 2


def train(config: TrainConfig, stage: type[ToyStage] = ToyStage) -> None:
    from emotivetalk.actors.training.sharded import ShardedTrainer
    from emotivetalk.actors.training.tensorboard_log import BoardLog

    class PlainLog(BoardLog):
        """Log without the plot, which takes longer than these runs."""

        def plot(self) -> None: ...

    torch.manual_seed(config.seed)
    found = training_checkpoints(config.output / "training")
    last = found[-1] if found else None
    trainer = ShardedTrainer(stage(config.stage), config, last, config.output / "stop")
    run(trainer, last, Console(file=StringIO()), partial(PlainLog, num_workers=NUM_WORKERS))


def expect_failure(config: TrainConfig, note: Path, stage: type[ToyStage] = ToyStage) -> None:
    """Every worker writes what it was told."""
    try:
        train(config, stage)
    except AgreedError as agreed:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        note.mkdir(parents=True, exist_ok=True)
        (note / f"{dist.get_rank()}.txt").write_text(f"{type(agreed.error).__name__}: {agreed}", encoding="utf-8")
    dist.barrier()


def full_disk(config: TrainConfig, note: Path) -> None:
    """Worker 1 can write its first checkpoint, and no larger file than a byte from the second step on."""

    class Filling(ToyStage):
        def batch(self, seeds: Sequence[int]):
            if self.num_batches == 5 and dist.get_rank() == 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            return super().batch(seeds)

    expect_failure(config, note, Filling)


def scenarios(folder: Path, configs: dict[str, TrainConfig], plain: Path) -> None:
    for config in configs.values():
        train(config)
    for zero in range(4):
        resumed = folder / f"plain_to_zero_{zero}"
        if dist.get_rank() == 0:
            copy_until(plain, resumed, 10)
        dist.barrier()
        train(toy_config(resumed, zero=zero))
        # What ZeRO 3 wrote goes on under the others, and the other way round.
        crossed = folder / f"zero_{3 - zero}_to_zero_{zero}"
        if dist.get_rank() == 0:
            copy_until(folder / f"zero_{3 - zero}", crossed, 10)
        dist.barrier()
        train(toy_config(crossed, zero=zero))
    expect_failure(toy_config(folder / "bad", zero=2, stage=ToyConfig(bad_step=13)), folder / "bad_note")
    full_disk(toy_config(folder / "full", checkpoint_every=2, zero=1, prefetch=False), folder / "full_note")


def main(rank: int, folder: Path, configs: dict[str, TrainConfig], plain: Path) -> None:
    """One process; what goes wrong in it is in its `error_<rank>.txt`."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(NUM_WORKERS)}
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FutureWarning)  # of torch's, at every call that DeepSpeed makes
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=NUM_WORKERS)
    try:
        scenarios(folder, configs, plain)
    except BaseException:
        (folder / f"error_{rank}.txt").write_text(traceback.format_exc(), encoding="utf-8")
        raise
    dist.destroy_process_group()
    os._exit(0)  # threads of gloo's may outlive the interpreter, which then aborts although all is done
