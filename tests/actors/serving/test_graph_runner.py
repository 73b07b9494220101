"""The graph runner: limits, shared slots, cancellation, back-pressure and repair."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import pytest

from emotivetalk.actors.serving.rendering.graph import FinishTask, Kind, MotionTask, RenderGraph, RenderTask
from emotivetalk.actors.serving.rendering.graph_runner import CallSlots, GraphRunner
from emotivetalk.actors.serving.rendering.replica_calls import LostResultError
from emotivetalk.models.long_video_plan import LongVideoConfig, LongVideoPlan

CONFIG = LongVideoConfig(chunk_frames=8, segment_chunks=3, pinned_frames=2)
PLAN, BLOCKS = LongVideoPlan(CONFIG, 150, 3), LongVideoPlan(CONFIG, 150, 1)
LIMITS: dict[Kind, int] = {"vaid": 1, "ethd": 3, "decoder": 2}


class FakeCalls:
    """Calls that take a moment. Counts how many run at a time and which segments are finished."""

    def __init__(self, num_segments: int | None = PLAN.num_segments) -> None:
        self.num_segments = num_segments
        self.running: Counter[str] = Counter()
        self.most_running: Counter[str] = Counter()
        self.finished: list[int] = []
        self.num_calls = self.num_cancelled = 0
        self.lost_at: list[int] = []  # from each of these numbers of calls on, one ETHD call raises LostResultError
        self.last_block: int | None = None
        self.call_s = 0.0005

    async def _work(self, kind: str) -> None:
        self.num_calls += 1
        self.running[kind] += 1
        self.most_running[kind] = max(self.most_running[kind], self.running[kind])
        try:
            await asyncio.sleep(self.call_s * (self.num_calls % 3))
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        finally:
            self.running[kind] -= 1

    async def generate_motion(self, task: MotionTask, arguments: Sequence[Any]) -> Any | None:
        await self._work("vaid")
        if self.last_block is not None and task.block > self.last_block:
            self.num_segments = self.last_block + 1
            return None
        return task.id

    async def render(self, task: RenderTask, arguments: Sequence[Any]) -> Any:
        assert tuple(arguments) == task.sources
        await self._work("ethd")
        if self.lost_at and self.num_calls >= self.lost_at[0]:
            del self.lost_at[0]
            raise LostResultError("result_lost", "a node died", "It is made again.")
        return task.id

    async def finish(self, task: FinishTask, arguments: Sequence[Any]) -> int:
        assert tuple(arguments) == task.sources
        await self._work("decoder")
        self.finished.append(task.id.segment)
        return task.id.segment


def runner(calls: FakeCalls, **options: Any) -> GraphRunner[int]:
    return GraphRunner(lambda first: RenderGraph(PLAN, BLOCKS, lambda frames: frames, first), calls, LIMITS, **options)


async def collect(runner: GraphRunner[int]) -> list[int]:
    async with aclosing(runner.segments()) as segments:
        return [segment async for segment in segments]


@pytest.mark.parametrize("first", [0, 2, PLAN.num_segments])
def test_segments_come_in_order_within_the_limits(first: int) -> None:
    calls = FakeCalls()
    assert asyncio.run(collect(runner(calls, first_segment=first))) == list(range(first, PLAN.num_segments))
    assert all(calls.most_running[kind] <= limit for kind, limit in LIMITS.items())
    assert first == PLAN.num_segments or calls.most_running["ethd"] == LIMITS["ethd"]


def test_lost_results_are_rendered_again_from_the_first_segment_not_yielded() -> None:
    calls = FakeCalls()
    calls.lost_at = [40, 80]
    assert asyncio.run(collect(runner(calls, attempts=3))) == list(range(PLAN.num_segments))

    calls = FakeCalls()
    calls.lost_at = [40]
    with pytest.raises(LostResultError):
        asyncio.run(collect(runner(calls)))


def test_a_video_that_ends_early_stops_after_its_last_segment() -> None:
    calls = FakeCalls(num_segments=None)
    calls.last_block = 1
    assert asyncio.run(collect(runner(calls))) == [0, 1]


def test_cancelling_cancels_the_calls_in_flight() -> None:
    calls = FakeCalls()
    calls.call_s = 60

    async def run() -> None:
        consumer = asyncio.create_task(collect(runner(calls)))
        while not calls.running:
            await asyncio.sleep(0)
        consumer.cancel()
        await asyncio.wait([consumer])
        assert calls.num_cancelled == calls.num_calls == 1 and consumer.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_a_slow_consumer_pauses_rendering() -> None:
    calls = FakeCalls()

    async def run() -> None:
        async with aclosing(runner(calls).segments()) as segments:
            await anext(segments)
            await asyncio.sleep(0.05)
            num_calls = calls.num_calls
            await asyncio.sleep(0.05)
            assert calls.num_calls == num_calls and not calls.running.total()
            assert [segment async for segment in segments] == list(range(1, PLAN.num_segments))

    asyncio.run(run())


def test_videos_together_keep_to_shared_slots() -> None:
    async def run() -> int:
        slots, running, most = CallSlots(2), 0, 0

        class Shared(FakeCalls):
            async def render(self, task: RenderTask, arguments: Sequence[Any]) -> Any:
                nonlocal running, most
                running += 1
                most = max(most, running)
                try:
                    return await super().render(task, arguments)
                finally:
                    running -= 1

        videos = [collect(runner(Shared(), slots={"ethd": slots})) for _ in range(3)]
        assert await asyncio.gather(*videos) == [list(range(PLAN.num_segments))] * 3
        return most

    assert asyncio.run(run()) == 2


def test_slots_go_by_urgency_then_age_and_are_not_lost_by_cancellation() -> None:
    async def run() -> list[str]:
        slots, order = CallSlots(1), []

        async def call(name: str, due: float) -> None:
            async with slots.hold((0, due)):
                order.append(name)

        async with slots.hold((0, 0.0)):
            queue = [("late", 5), ("cancelled", 0), ("cancelled late", 0), ("early", 1), ("early too", 1)]
            calls = [asyncio.create_task(call(name, due)) for name, due in queue]
            await asyncio.sleep(0)
            calls[1].cancel()
        calls[2].cancel()  # it has just been given the slot
        await asyncio.gather(*calls, return_exceptions=True)
        async with asyncio.timeout(5), slots.hold((0, 0.0)):
            return order

    assert asyncio.run(run()) == ["early", "early too", "late"]
