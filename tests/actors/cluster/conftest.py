"""A Ray cluster with the whole application at debug size, shared by the tests of this folder."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from emotivetalk.actors.serving.app import job_store
from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.launch import CONFIGS, LaunchPlan, Service, read_plan
from tests.actors.cluster import array_readers
from tests.models import debug
from tests.processes import free_port

ROOT = Path(__file__).resolve().parents[3]
PORTRAIT, SPEECH = ROOT / "examples" / "portrait.png", ROOT / "examples" / "hello.wav"
CLASSES = ("gateway", "director", "VAID", "ETHD", "decoder")


def replicas(name: str) -> list[psutil.Process]:
    """Return the processes of a deployment's replicas."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or [""]
        if line[0].startswith(f"ray::ServeReplica:emotivetalk:{name}"):
            found.append(process)
    return found


@dataclass
class Cluster:
    """The running service, with helpers for tests."""

    service: Service
    plan: LaunchPlan
    checkpoint: Path
    array_readers: Path

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.plan.port}", timeout=60)
        self.jobs = job_store(self.plan.config)
        self.artifacts = ArtifactStore(self.plan.config.artifacts_url)

    def create(self, emotion: str = "happy", audio: Path = SPEECH, **fields: str) -> str:
        with PORTRAIT.open("rb") as portrait, audio.open("rb") as speech:
            answer = self.http.post(
                "/v1/videos", files={"portrait": portrait, "audio": speech}, data={"emotion": emotion, **fields}
            )
        assert answer.status_code in (200, 201, 202), answer.text
        return answer.json()["id"]

    def wait(self, job_id: str, until: str = "completed", timeout_s: float = 240.0):
        """Wait for the end of the job, and assert that its status is `until`."""
        end = time.monotonic() + timeout_s
        while not (job := self.jobs.get(job_id)).status.is_terminal:
            assert time.monotonic() < end, f"{job_id} is still {job.status}, {job.progress} %"
            time.sleep(0.1)
        assert job.status == until, job
        return job

    def wait_for_segment(self, job_id: str, number: int, timeout_s: float = 240.0) -> None:
        end = time.monotonic() + timeout_s
        while self.jobs.get(job_id).next_segment < number:
            assert time.monotonic() < end, f"{job_id} has no segment {number - 1}"
            time.sleep(0.02)

    def fragments(self, job_id: str) -> list[bytes]:
        return [self.artifacts.read(segment.path) for segment in self.jobs.segments(job_id)]

    def scale(self, name: str, num_replicas: int) -> None:
        options = {**self.plan.options, name: {**self.plan.options.get(name, {}), "num_replicas": num_replicas}}
        self.plan = dataclasses.replace(self.plan, options=options)
        self.service.deploy(self.plan)
        end = time.monotonic() + 60
        while len(replicas(name)) != num_replicas:
            assert time.monotonic() < end, f"{name} has {len(replicas(name))} replicas"
            time.sleep(0.2)

    def kill(self, name: str) -> None:
        """Kill every replica of a deployment with SIGKILL."""
        processes = replicas(name)
        assert processes, f"{name} has no replicas"
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)


def make_plan(folder: Path, checkpoint: Path) -> LaunchPlan:
    plan = read_plan(CONFIGS / "local.yaml")
    config = plan.config.model_copy(
        update={
            "checkpoint": checkpoint,
            "data": folder / "data",
            "grpc": plan.config.grpc.model_copy(update={"port": free_port()}),
            "director": plan.config.director.model_copy(update={"lease_s": 3.0, "poll_s": 0.1}),
        }
    )
    options = {name: {"num_replicas": 1, "ray_actor_options": {"num_cpus": 0.1}} for name in CLASSES}
    for option in options.values():
        option["health_check_period_s"] = 1.0
    logs = {"encoding": "JSON"}
    options["ETHD"]["logging_config"] = {**logs, "log_level": "DEBUG"}  # ETHD logs calls at DEBUG only
    return dataclasses.replace(plan, port=free_port(), config=config, options=options, logging_config=logs)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    checkpoint, readers = folder / "checkpoint", folder / "array_readers"
    pipeline = debug.pipeline()
    pipeline.emotion_mapping.text_head.emotion.bias.data[-1] = 10  # no text asks for an emotion
    pipeline.save_pretrained(checkpoint)
    readers.mkdir()
    plan = make_plan(folder, checkpoint)
    environment = {
        "worker_process_setup_hook": array_readers.hook,
        "env_vars": {array_readers.FOLDER_ENV: str(readers), "PYTHONPATH": str(ROOT)},
    }
    with Service(plan, num_cpus=4, runtime_env=environment) as service:
        yield Cluster(service, plan, checkpoint, readers)
