"""Notifications make the director act at once, before its next poll."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
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
SETTINGS = DirectorSettings(poll_s=600, renew_s=600, lease_s=2000, slots=1, ethd_in_flight=3)


class EndlessCalls:
    """Replica calls of which ETHD's run until they are cancelled."""

    def __init__(self) -> None:
        self.started_jobs: list[str] = []
        self.num_cancelled = 0

    async def generate_motion(self, call: MotionCall, references: Sequence[Any]) -> CallResult:
        return CallResult("block", Receipt("test", 0.0))

    async def render(self, call: RenderCall, references: Sequence[Any]) -> CallResult:
        self.started_jobs.append(call.job_id)
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        raise AssertionError("the call was not cancelled")

    async def finish(self, call: FinishCall, references: Sequence[Any]) -> FinishedSegment:
        raise AssertionError("no segment is ever rendered")

    async def assemble(self, job_id: str, fragments: Sequence[str]) -> str:
        raise AssertionError("no segment is ever rendered")


def plans(num_frames: int, num_steps: int | None) -> tuple[LongVideoPlan, LongVideoPlan, Any]:
    config = LongVideoConfig(8, 3, 2)
    return LongVideoPlan(config, num_frames, 2), LongVideoPlan(config, num_frames, 1), lambda frames: frames


async def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


@pytest.fixture
def jobs(tmp_path: Path) -> JobStore:
    return JobStore(f"sqlite:///{tmp_path / 'jobs.db'}", lease_s=SETTINGS.lease_s)


def add(jobs: JobStore, **fields: Any) -> str:
    request = VideoRequest(num_samples=NUM_FRAMES * 640).model_dump(mode="json")
    return jobs.create(new_job(request=request, num_frames=NUM_FRAMES, **fields))[0].job_id


def test_a_notified_director_starts_and_cancels_jobs_at_once(jobs: JobStore):
    async def run() -> None:
        calls = EndlessCalls()
        director = Director(jobs, calls, plans, SETTINGS, "test")
        working = asyncio.create_task(director.run())
        await wait_until(lambda: director.idle_s > 0.05)  # it has polled, found nothing, and sleeps
        first, second = add(jobs), add(jobs)
        director.look(first)
        await wait_until(lambda: len(calls.started_jobs) == 3)

        jobs.cancel(first)
        cancelled_at = time.monotonic()
        director.look(first)
        await wait_until(lambda: calls.num_cancelled == 3)
        assert time.monotonic() - cancelled_at < 5  # the next poll would be after ten minutes
        await wait_until(lambda: calls.started_jobs[3:] == [second] * 3)  # the slot and the replicas are free again
        assert jobs.get(first).status is JobStatus.CANCELLED

        director.look("video_" + "0" * 32)  # an unknown job: ignored
        director.stop()
        await working
        assert jobs.get(second).status is JobStatus.QUEUED  # released by `stop`

    asyncio.run(run())


def test_a_notification_without_a_change_does_not_interrupt_the_job(jobs: JobStore):
    async def run() -> None:
        calls, job_id = EndlessCalls(), add(jobs)
        director = Director(jobs, calls, plans, SETTINGS, "test")
        working = asyncio.create_task(director.run())
        await wait_until(lambda: len(calls.started_jobs) == 3)
        for _ in range(5):
            director.look(job_id)
            await asyncio.sleep(0.02)
        assert calls.num_cancelled == 0 and director.num_running == 1
        director.stop()
        await working

    asyncio.run(run())


def test_rows_of_a_batch_leave_a_slot_to_single_videos(jobs: JobStore):
    async def run() -> None:
        calls = EndlessCalls()
        rows = [add(jobs, batch_id="batch_1") for _ in range(5)]
        director = Director(jobs, calls, plans, SETTINGS.model_copy(update={"slots": 3}), "test")
        working = asyncio.create_task(director.run())
        await wait_until(lambda: set(calls.started_jobs) == set(rows[:2]))
        single = add(jobs)
        director.look(single)
        await wait_until(lambda: single in calls.started_jobs)
        assert director.num_running == 3
        director.stop()
        await working

    asyncio.run(run())


def test_the_last_slot_is_kept_for_another_caller(jobs: JobStore):
    async def run() -> None:
        calls = EndlessCalls()
        for _ in range(5):
            add(jobs, owner="ada")
        settings = SETTINGS.model_copy(update={"slots": 4, "calls_in_flight": 2})
        director = Director(jobs, calls, plans, settings, "test")
        working = asyncio.create_task(director.run())
        await wait_until(lambda: len(calls.started_jobs) == 2 and director.num_running == 3)
        bob = add(jobs, owner="bob")
        director.look(bob)
        await wait_until(lambda: director.num_running == 4)
        assert jobs.get(bob).status is JobStatus.IN_PROGRESS
        director.stop()
        await working

    asyncio.run(run())
