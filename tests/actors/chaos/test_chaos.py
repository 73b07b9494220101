"""Processes are killed at random: every acknowledged job is completed once, and its video does not change.

`EMOTIVETALK_KILLS` sets the number of kills.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from emotivetalk.actors.serving.app import job_store
from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.jobs.records import Job
from emotivetalk.actors.serving.jobs.store import JobStore
from emotivetalk.actors.serving.launch import read_plan
from tests.actors.chaos.served import Served, write_config
from tests.actors.cluster.conftest import CLASSES, PORTRAIT, SPEECH
from tests.models import debug

KILLS = int(os.environ.get("EMOTIVETALK_KILLS", "16"))
EMOTIONS = ("happy", "sad:0.5", "angry", "neutral")
"""Emotions of the requested videos. The rest of the request is always the same."""
NUM_OPEN_JOBS = 3
EVERYTHING = "everything"


@dataclass
class Load:
    """A client in a thread that keeps NUM_OPEN_JOBS videos in progress and repeats requests that fail."""

    url: str
    jobs: JobStore
    acknowledged: dict[str, str] = field(default_factory=dict)
    first_path: dict[tuple[str, int], str] = field(default_factory=dict)
    repeated: int = 0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        self._error: BaseException | None = None

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self.record_segments()
                open_jobs = [one for one in self.acknowledged if not self.jobs.get(one).status.is_terminal]
                if len(open_jobs) < NUM_OPEN_JOBS:
                    self.create(EMOTIONS[len(self.acknowledged) % len(EMOTIONS)])
                time.sleep(0.05)
        except BaseException as error:  # noqa: BLE001 raised in __exit__
            self._error = error

    @property
    def is_running(self) -> bool:
        return self._error is None

    def create(self, emotion: str) -> str:
        """Create a video. The idempotency key prevents a second job if the answer is lost."""
        key, files = str(uuid.uuid4()), {"portrait": PORTRAIT.read_bytes(), "audio": SPEECH.read_bytes()}
        while True:
            try:
                answer = httpx.post(
                    f"{self.url}/v1/videos",
                    files=files,
                    data={"emotion": emotion, "seed": "3"},
                    headers={"Idempotency-Key": key},
                    timeout=60,
                )
                if answer.status_code < 300:
                    self.acknowledged[answer.json()["id"]] = emotion
                    return answer.json()["id"]
                # Serve answers 404 until its proxy knows the application.
                assert answer.status_code in (404, 429, 500, 502, 503, 504), answer.text
            except httpx.TransportError:
                pass
            self.repeated += 1
            time.sleep(0.2)

    def record_segments(self) -> None:
        """Record the first path of each published segment."""
        for job_id in self.acknowledged:
            for segment in self.jobs.segments(job_id):
                self.first_path.setdefault((job_id, segment.index), segment.path)

    def wait_for_progress(self, timeout_s: float = 60.0) -> None:
        """Wait until another segment is published."""
        before, end = len(self.first_path), time.monotonic() + timeout_s
        while len(self.first_path) == before and self.is_running and time.monotonic() < end:
            time.sleep(0.05)

    def wait(self, job_id: str, timeout_s: float = 300.0) -> Job:
        end = time.monotonic() + timeout_s
        while not (job := self.jobs.get(job_id)).status.is_terminal:
            assert time.monotonic() < end, job
            time.sleep(0.1)
        return job


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    checkpoint = tmp_path / "checkpoint"
    debug.pipeline().save_pretrained(checkpoint)
    made = Served(write_config(tmp_path, checkpoint), tmp_path / "serve.log")
    made.start()
    yield made
    made.stop()


def test_random_kills_under_load(served: Served, tmp_path: Path):
    config = read_plan(tmp_path / "serve.yaml").config
    jobs, artifacts, order = job_store(config), ArtifactStore(config.artifacts_url), random.Random(20)

    def fragments(job_id: str) -> list[str]:
        return [hashlib.sha256(artifacts.read(segment.path)).hexdigest() for segment in jobs.segments(job_id)]

    load = Load(served.url, jobs)
    undisturbed: dict[str, list[str]] = {}
    for emotion in EMOTIONS:
        job_id = load.create(emotion)
        assert load.wait(job_id).status == "completed"
        undisturbed[emotion] = fragments(job_id)
    assert len({tuple(hashes) for hashes in undisturbed.values()}) == len(EMOTIONS)
    assert all(len(hashes) >= 3 for hashes in undisturbed.values())

    killed: Counter[str] = Counter()
    with load:
        while killed.total() < KILLS and load.is_running:
            if order.random() < 0.7:  # otherwise the kill may hit a service that is still restarting
                load.wait_for_progress()
            time.sleep(order.uniform(0.1, 4.0))
            every = killed.total() % 8 == 7
            name = EVERYTHING if every else order.choice(CLASSES)
            if every:
                served.kill_everything()
                time.sleep(order.uniform(0, 2))
                served.start()
            elif not served.kill(name):
                continue  # the replica is still being started
            killed[name] += 1
    for job_id in load.acknowledged:
        load.wait(job_id)
    load.record_segments()

    print(f"\nkilled {dict(killed)}; {len(load.acknowledged)} videos, {load.repeated} requests repeated")
    assert len(load.acknowledged) > len(EMOTIONS) + KILLS / 8
    for job_id, emotion in load.acknowledged.items():
        job = jobs.get(job_id)
        assert job.status == "completed", job
        assert fragments(job_id) == undisturbed[emotion], job
        content = httpx.get(f"{served.url}/v1/videos/{job_id}/content", timeout=60)
        assert content.status_code == 200
        assert content.content.endswith(b"".join(artifacts.read(segment.path) for segment in jobs.segments(job_id)))
        for segment in jobs.segments(job_id):
            assert segment.path == load.first_path[job_id, segment.index]
            # Other versions of the segment were written before it was published.
            for other in Path(config.artifacts_url, segment.path).parent.glob(f"{segment.index:05d}-*.m4s"):
                assert other.stat().st_mtime <= segment.published_at + 0.01 or str(segment.path).endswith(other.name)
    assert jobs_in(jobs) == set(load.acknowledged)


def jobs_in(jobs: JobStore) -> set[str]:
    """Return the ids of all jobs."""
    page = jobs.list(limit=100)
    found = {job.job_id for job in page.jobs}
    while page.has_more:
        page = jobs.list(limit=100, after=page.jobs[-1].job_id)
        found |= {job.job_id for job in page.jobs}
    return found
