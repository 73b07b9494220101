"""A director that is told what happened does not wait until it looks by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from emotivetalk.actors.serving.config import DirectorSettings
from emotivetalk.actors.serving.jobs.records import JobStatus
from emotivetalk.actors.serving.jobs.store import JobStore
from emotivetalk.actors.serving.rendering.director import Director
from emotivetalk.actors.serving.rendering.replica_calls import CallResult
from emotivetalk.actors.serving.replicas.messages import FinishCall, FinishedSegment, MotionCall, Receipt, RenderCall
from emotivetalk.models.long_video_plan import LongVideoConfig, LongVideoPlan
from emotivetalk.request import VideoRequest
from tests.actors.serving.jobs_for_tests import new_job

NUM_FRAMES = 60
LAZY = DirectorSettings(poll_s=600, renew_s=600, lease_s=2000, slots=1, ethd_in_flight=3)


class Endless:
    """Stages whose ETHD computes until it is cancelled."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.num_cancelled = 0

    async def generate_motion(self, call: MotionCall, references: Sequence[Any]) -> CallResult:
        return CallResult("block", Receipt("test", 0.0))

    async def render(self, call: RenderCall, references: Sequence[Any]) -> CallResult:
        self.begun.append(call.job_id)
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        raise AssertionError("nobody waits so long")

    async def finish(self, call: FinishCall, references: Sequence[Any]) -> FinishedSegment:
        raise AssertionError("nothing is ever finished")

    async def assemble(self, job_id: str, fragments: Sequence[str]) -> str:
        raise AssertionError("nothing is ever finished")


def plans(num_frames: int, num_steps: int | None) -> tuple[LongVideoPlan, LongVideoPlan, Any]:
    config = LongVideoConfig(8, 3, 2)
    return LongVideoPlan(config, num_frames, 2), LongVideoPlan(config, num_frames, 1), lambda frames: frames


async def until(is_so: Any) -> None:
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


@pytest.fixture
def jobs(tmp_path: Path) -> JobStore:
    return JobStore(f"sqlite:///{tmp_path / 'jobs.db'}", lease_s=LAZY.lease_s)


def add(jobs: JobStore) -> str:
    request = VideoRequest(num_samples=NUM_FRAMES * 640).model_dump(mode="json")
    return jobs.create(new_job(request=request, num_frames=NUM_FRAMES))[0].job_id


def test_who_is_told_begins_at_once_and_cancels_at_once(jobs: JobStore):
    async def run() -> None:
        stages = Endless()
        director = Director(jobs, stages, plans, LAZY, "test")
        working = asyncio.create_task(director.run())
        await until(lambda: director.idle_s > 0.05)  # it has looked, found nothing, and sleeps
        first, second = add(jobs), add(jobs)
        director.look(first)
        await until(lambda: len(stages.begun) == 3)

        jobs.cancel(first)
        cancelled_at = time.monotonic()
        director.look(first)
        await until(lambda: stages.num_cancelled == 3)
        assert time.monotonic() - cancelled_at < 5  # by itself it would have looked after ten minutes
        await until(lambda: stages.begun[3:] == [second] * 3)  # the slot is free, and so are the replicas
        assert jobs.get(first).status is JobStatus.CANCELLED

        director.look("video_" + "0" * 32)  # somebody else's: nothing happens
        director.stop()
        await working
        assert jobs.get(second).status is JobStatus.QUEUED  # given back

    asyncio.run(run())


def test_what_has_not_changed_goes_on(jobs: JobStore):
    async def run() -> None:
        stages, job_id = Endless(), add(jobs)
        director = Director(jobs, stages, plans, LAZY, "test")
        working = asyncio.create_task(director.run())
        await until(lambda: len(stages.begun) == 3)
        for _ in range(5):
            director.look(job_id)
            await asyncio.sleep(0.02)
        assert stages.num_cancelled == 0 and director.num_running == 1
        director.stop()
        await working

    asyncio.run(run())
