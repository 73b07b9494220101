"""The driver: start or join Ray, train a stage on its workers, print their log, return the result."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError
from rich.console import Console

from emotivetalk.actors.cluster import joined_cluster
from emotivetalk.actors.training.files import Outcome, RunFiles
from emotivetalk.actors.training.launch_checks import check
from emotivetalk.actors.training.worker import TrainingJob, train_worker
from emotivetalk.errors import EmotiveTalkError, InputError, OutputError
from emotivetalk.training.run.config import TrainConfig
from emotivetalk.training.run.loop import StopRequest, TrainingDivergedError, TrainResult, claimed_run
from emotivetalk.training.stages.registry import stage_class
from emotivetalk.training.stages.stage import Stage

FREE_S = 10.0
COLLECTIVE_S = 4 * 3600  # workers wait while the leader validates; Ray notices a dead worker much sooner
RAY_STATE_FILES = ("checkpoint_manager_snapshot.json",)


class WorkersFailedError(EmotiveTalkError):
    """Workers failed more often than they are restarted."""


@dataclass(frozen=True)
class Launch:
    """Resources of a run. They do not change the trained weights.

    Attributes:
        num_workers: number of processes that share every batch. Each takes `threads` CPUs, or one, and with "cuda" one GPU.
        address: of a running Ray cluster ("host:port", "auto", "ray://host:port"); None starts one here.
        num_loaders: number of actors of all workers that make the batches, one CPU each. With 0 each worker makes its own
            in a thread.
        max_failures: number of times the workers are restarted after one has died.
    """

    num_workers: int
    address: str | None = None
    num_loaders: int = 0
    max_failures: int = 3


def train_on_ray(
    config: TrainConfig,
    launch: Launch,
    *,
    resume: bool = False,
    console: Console | None = None,
    stage: type[Stage] | None = None,
) -> TrainResult:
    """Train a stage on many workers. All nodes must share the run's folder.

    Losses, data order, training checkpoints and networks equal those of `training.run.loop.train`. Either can resume the
    other's training checkpoints, with any number of workers. On SIGTERM and the first Ctrl-C it finishes the step, writes
    a training checkpoint and returns.

    Args:
        config: the run.
        launch: where, and on how many workers.
        resume: continue from the last training checkpoint in `config.output`.
        console: where to print the workers' log (default: standard error).
        stage: the class (default: that of `config.name`).

    Raises:
        InputError: as for `training.run.loop.train`; or resources are missing, no cluster answers at the address, or the
            optimiser does not support `zero`.
        TrainingDivergedError: as for `training.run.loop.train`.
        OutputError: a training checkpoint could not be written.
        WorkersFailedError: workers died too often.
    """
    check(config, launch.num_workers, launch.num_loaders)
    with claimed_run(config, resume):
        files = RunFiles(config.output)
        files.folder.mkdir(parents=True, exist_ok=True)
        for stale in (files.stop, files.outcome, *(files.folder / name for name in RAY_STATE_FILES)):
            stale.unlink(missing_ok=True)
        loaders = launch.num_loaders // launch.num_workers
        job = TrainingJob(config, stage or stage_class(config.name), loaders, Path.cwd())
        with joined_cluster(launch.address):
            _check_resources(config, launch)
            trainer = _trainer(job, launch, files)
            outcome = _run(trainer, files, console if console is not None else Console(stderr=True))
        if outcome.error is not None:
            raise _revive(*outcome.error)
        return TrainResult(outcome.num_done, outcome.is_finished, config.checkpoint_folder, outcome.metrics or {})


def _check_resources(config: TrainConfig, launch: Launch) -> None:
    """Raise InputError if resources are missing: Ray would wait for them forever."""
    needed = {name: amount * launch.num_workers for name, amount in _per_worker(config).items()}
    needed["CPU"] += launch.num_loaders
    end = time.monotonic() + FREE_S  # Ray counts the resources that a previous run has freed with a delay
    while True:
        free, whole = ray.available_resources(), ray.cluster_resources()
        short = [name for name in needed if free.get(name, 0) < needed[name]]
        if not short:
            return
        if time.monotonic() > end or any(whole.get(name, 0) < needed[name] for name in short):
            break
        time.sleep(0.2)
    available = ", ".join(f"{free.get(name, 0):g} of {whole.get(name, 0):g} {name}s are free" for name in needed)
    wanted = ", ".join(f"{amount:g} {name}s" for name, amount in needed.items())
    loaders = f" and {launch.num_loaders} loaders" if launch.num_loaders else ""
    raise InputError(
        code="resources_missing",
        message=f"{launch.num_workers} workers{loaders} need {wanted}, and {available}",
        remedy="Give fewer --workers or --loaders, lower threads (each thread takes a CPU), or add nodes to the cluster.",
    )


def _per_worker(config: TrainConfig) -> dict[str, float]:
    return {"CPU": float(config.threads or 1)} | ({"GPU": 1.0} if config.device == "cuda" else {})


def _trainer(job: TrainingJob, launch: Launch, files: RunFiles) -> TorchTrainer:
    config = job.config
    is_gpu = config.device == "cuda"
    environment = {
        "DS_ACCELERATOR": "cuda" if is_gpu else "cpu",
        "OMP_NUM_THREADS": str(config.threads or 1),
    }
    return TorchTrainer(
        train_worker,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if is_gpu else "gloo", timeout_s=COLLECTIVE_S),
        scaling_config=ScalingConfig(
            num_workers=launch.num_workers, use_gpu=is_gpu, resources_per_worker=_per_worker(config)
        ),
        # The run's folder is Ray Train's storage, so our checkpoints are already in place.
        run_config=RunConfig(
            name=files.folder.name,
            storage_path=str(files.output.resolve()),
            failure_config=FailureConfig(max_failures=launch.max_failures),
            worker_runtime_env={"env_vars": environment},
        ),
    )


def _run(trainer: TorchTrainer, files: RunFiles, console: Console) -> Outcome:
    """Run `fit` in a thread, while this one handles signals and prints the log."""
    errors: list[BaseException] = []

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:  # noqa: BLE001 it is raised again in the main thread
            errors.append(error)

    files.log.touch()
    with files.log.open(encoding="utf-8") as log, StopRequest() as stop:
        log.seek(0, os.SEEK_END)
        thread = threading.Thread(target=fit, name="ray-train", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
            _show(log, console)
            if stop.is_requested and not files.stop.exists():
                files.stop.touch()
        _show(log, console)
    outcome = files.read_outcome()
    if errors:
        raise _translate(errors[0]) from errors[0]
    assert outcome is not None, "the workers ended without an outcome"
    return outcome


def _show(log: TextIO, console: Console) -> None:
    for line in log.read().splitlines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _translate(error: BaseException) -> BaseException:
    """Translate Ray Train's final error."""
    if not isinstance(error, TrainingFailedError):
        return error
    reason = str(error).strip().splitlines()[-1]
    if isinstance(error, WorkerGroupError) and error.worker_failures:
        rank, failure = min(error.worker_failures.items())
        reason = f"worker {rank}: {str(failure).strip().splitlines()[-1]}"
    return WorkersFailedError(
        code="workers_failed",
        message=f"workers failed more often than they are restarted; the last error: {reason}",
        remedy="See Ray's logs in /tmp/ray/session_latest/logs of each node. Continue from the last training checkpoint with "
        "--resume.",
    )


def _revive(name: str, code: str, message: str, remedy: str) -> EmotiveTalkError:
    kinds = {kind.__name__: kind for kind in (InputError, OutputError, TrainingDivergedError)}
    return kinds.get(name, EmotiveTalkError)(code, message, remedy)
