"""What runs in each of Ray Train's workers: a thin adapter around `ShardedTrainer` and the plain loop."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from ray.train import Checkpoint, CheckpointUploadMode, get_context, report
from rich.console import Console

from emotivetalk.actors.training.agreement import AgreedError, agree, agreed
from emotivetalk.actors.training.files import Outcome, RunFiles
from emotivetalk.training.checkpoints.training_state import Progress, training_checkpoints
from emotivetalk.training.run.config import TrainConfig
from emotivetalk.training.run.folder_lock import claimed
from emotivetalk.training.run.loop import TrainResult, run
from emotivetalk.training.stages.stage import Stage

ORPHANS_S = 60.0
"""How long the workers of a driver that was killed may go on before those of the next give up, in seconds."""


@dataclass(frozen=True)
class Job:
    """What the driver sends to every worker.

    stage_class: what to train.
    num_loaders: processes that make each worker's batches.
    directory: the driver's working directory, which relative paths of `config` start from.
    """

    config: TrainConfig
    stage_class: type[Stage]
    num_loaders: int
    directory: Path


def train_worker(arguments: dict[str, Job]) -> None:
    """Ray Train's training function.

    What all workers agree to be an error ends the run in good order, with an outcome for the driver. Anything else
    (a killed process, a lost node, a bug) Ray Train sees as a failed worker: it starts all anew, and they go on from
    the last training checkpoint.
    """
    job = arguments["job"]
    os.chdir(job.directory)  # Ray Train puts each worker into a folder of its own
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    files = RunFiles(job.config.output)
    try:
        with _alone(files):
            outcome = Outcome.of(_train(job, files))
    except AgreedError as failed:
        outcome = Outcome.failure(failed.error)
    if get_context().get_world_rank() == 0:
        files.write_outcome(outcome)


@contextmanager
def _alone(files: RunFiles) -> Iterator[None]:
    """Waits for the workers of a driver that was killed: they train on, and write, until Ray notices."""
    with ExitStack() as held:
        is_leader = get_context().get_world_rank() == 0
        agreed(lambda: held.enter_context(claimed(files.folder, ORPHANS_S)) if is_leader else None)
        yield


def _train(job: Job, files: RunFiles) -> TrainResult:
    # Here, for the driver imports this file too, and DeepSpeed and TensorBoard are slow and only the workers'.
    from emotivetalk.actors.training.sharded import ShardedTrainer
    from emotivetalk.actors.training.tensorboard_log import BoardLog

    config = job.config
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    found = training_checkpoints(files.folder)  # the driver has seen to it that they are this run's
    last = found[-1] if found else None
    trainer = agreed(lambda: ShardedTrainer(_stage(job), config, last, files.stop, _report, job.num_loaders))
    with files.log.open("a", encoding="utf-8", buffering=1) as log:
        console = Console(file=log, width=200) if trainer.is_leader else Console(quiet=True)
        open_log = partial(BoardLog, num_workers=trainer.num_workers)
        return run(trainer, last, console, open_log)


def _stage(job: Job) -> Stage:
    """The stage, with the same weights on every worker. The leader's comes first: stages may fill caches on the disk."""

    def build() -> Stage:
        torch.manual_seed(job.config.seed)
        return job.stage_class(job.config.stage)

    stage = agreed(lambda: build() if dist.get_rank() == 0 else None)
    agree(None)
    return agreed(lambda: stage or build())


def _report(folder: Path, progress: Progress) -> None:
    """Tells Ray Train of a checkpoint that lies where it looks for them already."""
    report(
        {"num_done": progress.num_done, "loss": progress.score},
        checkpoint=Checkpoint(folder.resolve()),
        checkpoint_dir_name=folder.name,
        checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD,
    )
