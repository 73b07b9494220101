"""Ray Train's training function: a thin adapter around `ShardedTrainer` and the plain loop."""

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
from emotivetalk.training.checkpoints.training_state import RunProgress, training_checkpoints
from emotivetalk.training.run.config import TrainConfig
from emotivetalk.training.run.folder_lock import claimed
from emotivetalk.training.run.loop import TrainResult, run
from emotivetalk.training.stages.stage import Stage

ORPHANS_S = 60.0
"""Time for which a run waits for the workers of a killed driver to end, seconds."""


@dataclass(frozen=True)
class TrainingJob:
    """Message of the driver to every worker.

    Attributes:
        stage_class: stage to train.
        num_loaders: number of processes that make each worker's batches.
        directory: the driver's working directory, where relative paths in `config` start.
    """

    config: TrainConfig
    stage_class: type[Stage]
    num_loaders: int
    directory: Path


def train_worker(arguments: dict[str, TrainingJob]) -> None:
    """Train in one of Ray Train's workers.

    An error that all workers agree on ends the run in order, with an outcome for the driver. For anything else (a killed
    process, a lost node, a bug) Ray Train restarts all workers, and they continue from the last training checkpoint.
    """
    job = arguments["job"]
    os.chdir(job.directory)  # Ray Train starts each worker in its own folder
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
    """Wait for the workers of a killed driver: they continue to train and write until Ray notices."""
    with ExitStack() as held:
        is_leader = get_context().get_world_rank() == 0
        agreed(lambda: held.enter_context(claimed(files.folder, ORPHANS_S)) if is_leader else None)
        yield


def _train(job: TrainingJob, files: RunFiles) -> TrainResult:
    # Imported here: the driver imports this file too and does not need DeepSpeed and TensorBoard, which load slowly.
    from emotivetalk.actors.training.sharded import ShardedTrainer
    from emotivetalk.actors.training.tensorboard_log import BoardLog

    config = job.config
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    found = training_checkpoints(files.folder)  # the driver has checked that they belong to this run
    last = found[-1] if found else None
    trainer = agreed(lambda: ShardedTrainer(_stage(job), config, last, files.stop, _report, job.num_loaders))
    with files.log.open("a", encoding="utf-8", buffering=1) as log:
        console = Console(file=log, width=200) if trainer.is_leader else Console(quiet=True)
        open_log = partial(BoardLog, num_workers=trainer.num_workers)
        return run(trainer, last, console, open_log)


def _stage(job: TrainingJob) -> Stage:
    """Build the stage with the same weights on every worker. The leader builds first: stages may fill caches on disk."""

    def build() -> Stage:
        torch.manual_seed(job.config.seed)
        return job.stage_class(job.config.stage)

    stage = agreed(lambda: build() if dist.get_rank() == 0 else None)
    agree(None)
    return agreed(lambda: stage or build())


def _report(folder: Path, progress: RunProgress) -> None:
    """Report a checkpoint, which is already where Ray Train stores them."""
    report(
        {"num_done": progress.num_done, "loss": progress.score},
        checkpoint=Checkpoint(folder.resolve()),
        checkpoint_dir_name=folder.name,
        checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD,
    )
