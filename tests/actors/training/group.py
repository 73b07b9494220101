"""Runs on two workers without Ray. All runs share the two processes, and each has its own folder."""

from __future__ import annotations

import os
import resource
import traceback
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from emotivetalk.actors.training.agreement import AgreedError
from emotivetalk.training.checkpoints.training_state import training_checkpoints
from emotivetalk.training.run.config import TrainConfig
from emotivetalk.training.run.loop import run
from tests.actors.training.runs import copy_until, toy_config
from tests.actors.training.toys import ToyConfig, ToyStage
from tests.consoles import text_console

NUM_WORKERS = 2


def train(config: TrainConfig, stage: type[ToyStage] = ToyStage) -> None:
    from emotivetalk.actors.training.sharded import ShardedTrainer
    from emotivetalk.actors.training.tensorboard_log import BoardLog

    class PlainLog(BoardLog):
        """A log without the plot, which would take longer than the runs."""

        def plot(self) -> None: ...

    torch.manual_seed(config.seed)
    found = training_checkpoints(config.output / "training")
    last = found[-1] if found else None
    trainer = ShardedTrainer(stage(config.stage), config, last, config.output / "stop")
    run(trainer, last, text_console(), partial(PlainLog, num_workers=NUM_WORKERS))


def expect_failure(config: TrainConfig, note: Path, stage: type[ToyStage] = ToyStage) -> None:
    """Train, and let every worker write the error that it gets to `note`."""
    try:
        train(config, stage)
    except AgreedError as agreed:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        note.mkdir(parents=True, exist_ok=True)
        (note / f"{dist.get_rank()}.txt").write_text(f"{type(agreed.error).__name__}: {agreed}", encoding="utf-8")
    dist.barrier()


def full_disk(config: TrainConfig, note: Path) -> None:
    """Train with a file-size limit of one byte on worker 1, set after its first checkpoint."""

    class LimitedStage(ToyStage):
        def batch(self, seeds: Sequence[int]):
            if self.num_batches == 5 and dist.get_rank() == 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            return super().batch(seeds)

    expect_failure(config, note, LimitedStage)


def train_all(folder: Path, configs: dict[str, TrainConfig], plain: Path) -> None:
    for config in configs.values():
        train(config)
    for zero in range(4):
        resumed = folder / f"plain_to_zero_{zero}"
        if dist.get_rank() == 0:
            copy_until(plain, resumed, 10)
        dist.barrier()
        train(toy_config(resumed, zero=zero))
        # Continue the checkpoint of one ZeRO stage with another.
        crossed = folder / f"zero_{3 - zero}_to_zero_{zero}"
        if dist.get_rank() == 0:
            copy_until(folder / f"zero_{3 - zero}", crossed, 10)
        dist.barrier()
        train(toy_config(crossed, zero=zero))
    expect_failure(toy_config(folder / "bad", zero=2, stage=ToyConfig(bad_step=13)), folder / "bad_note")
    full_disk(toy_config(folder / "full", checkpoint_every=2, zero=1, prefetch=False), folder / "full_note")


def main(rank: int, folder: Path, configs: dict[str, TrainConfig], plain: Path) -> None:
    """Run one of the two processes. Writes its traceback to `error_<rank>.txt`."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(NUM_WORKERS)}
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FutureWarning)  # from torch, at every call of DeepSpeed
    dist.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=NUM_WORKERS)
    try:
        train_all(folder, configs, plain)
    except BaseException:
        (folder / f"error_{rank}.txt").write_text(traceback.format_exc(), encoding="utf-8")
        raise
    dist.destroy_process_group()
    os._exit(0)  # threads of gloo can abort the interpreter at exit
