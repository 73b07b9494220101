"""Run the task graph of a video: the one scheduler of jobs, live calls and batches."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from typing import Any, Generic, Protocol, TypeVar

from emotivetalk.actors.serving.rendering.graph import FinishTask, Kind, MotionTask, RenderGraph, RenderTask, Task
from emotivetalk.actors.serving.rendering.replica_calls import LostResultError

log = logging.getLogger(__name__)

SegmentT = TypeVar("SegmentT")
SegmentT_co = TypeVar("SegmentT_co", covariant=True)


class VideoCalls(Protocol[SegmentT_co]):
    """The calls of one video. `arguments` are the results of a task's sources, in their order."""

    @property
    def num_segments(self) -> int | None:
        """Number of segments of the video; None while it is unknown."""
        ...

    async def generate_motion(self, task: MotionTask, arguments: Sequence[Any]) -> Any | None:
        """Return a reference to the block; None if the video ends before it, so that no block is needed any more."""
        ...

    async def render(self, task: RenderTask, arguments: Sequence[Any]) -> Any:
        """Return a reference to the chunks after the step."""
        ...

    async def finish(self, task: FinishTask, arguments: Sequence[Any]) -> SegmentT_co:
        """Return the finished segment."""
        ...


class CallSlots:
    """Slots for concurrent calls, shared by the runners of several videos.

    A free slot goes to the waiting call with the smallest urgency, then to the one that waits longest.
    """

    def __init__(self, num_slots: int) -> None:
        self._num_free = num_slots
        self._waiting: list[tuple[tuple[int, float], int, asyncio.Future[None]]] = []
        self._arrivals = itertools.count()

    @asynccontextmanager
    async def hold(self, urgency: tuple[int, float]) -> AsyncIterator[None]:
        """Wait for a slot and occupy it. A call that is cancelled while it waits leaves the queue."""
        if self._num_free:
            self._num_free -= 1
        else:
            granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (urgency, next(self._arrivals), granted))
            try:
                await granted
            except asyncio.CancelledError:
                if granted.done() and not granted.cancelled():  # granted and cancelled at the same time
                    self._free()
                raise
        try:
            yield
        finally:
            self._free()

    def _free(self) -> None:
        while self._waiting:
            _, _, granted = heapq.heappop(self._waiting)
            if not granted.done():
                granted.set_result(None)
                return
        self._num_free += 1


class GraphRunner(Generic[SegmentT]):
    """Runs a video's graph and gives its segments in order.

    Args:
        make_graph: returns the graph of the segments from an index on.
        calls: makes the calls.
        limits: maximum number of concurrent calls of each kind, for this video.
        first_segment: first segment to render.
        slots: slots that this video shares with others, for some kinds.
        urgency: of this video's calls where they share slots; smaller ones go first (`Job.urgency`).
        attempts: how often to run the graph when results are lost. Each run begins with the first segment that was not
            given yet.
    """

    def __init__(
        self,
        make_graph: Callable[[int], RenderGraph],
        calls: VideoCalls[SegmentT],
        limits: Mapping[Kind, int],
        *,
        first_segment: int = 0,
        slots: Mapping[Kind, CallSlots] | None = None,
        urgency: tuple[int, float] = (0, 0.0),
        attempts: int = 1,
    ) -> None:
        self._make_graph, self._calls, self._limits = make_graph, calls, limits
        self._slots, self._urgency, self._attempts = slots or {}, urgency, attempts
        self._next_segment = first_segment

    async def segments(self) -> AsyncGenerator[SegmentT, None]:
        """Yield the segments in order, as they are finished.

        No call starts while the consumer handles a segment, so a slow consumer holds the video back. Close the generator
        (`contextlib.aclosing`) to cancel the calls in flight.

        Raises:
            LostResultError: results were lost in the last attempt. Other errors of the calls come through unchanged.
        """
        for attempt in range(1, self._attempts + 1):
            try:
                async with aclosing(self._run(self._make_graph(self._next_segment))) as segments:
                    async for segment in segments:
                        self._next_segment += 1
                        yield segment
                return
            except LostResultError as error:
                if attempt == self._attempts:
                    raise
                log.warning("results lost; rendering again from segment %d: %s", self._next_segment, error)

    async def _run(self, graph: RenderGraph) -> AsyncGenerator[SegmentT, None]:
        """Yield the segments from `_next_segment` on; the caller counts them."""
        limits = dict(self._limits)
        running: dict[asyncio.Task[Any], Task] = {}
        finished: dict[int, SegmentT] = {}
        try:
            while self._next_segment != self._calls.num_segments:
                self._start_ready(graph, limits, running)
                ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for call in ended:
                    result = call.result()
                    task = running.pop(call)
                    if isinstance(task, MotionTask) and result is None:
                        limits[task.id.kind] = 0
                    elif isinstance(task, FinishTask):
                        finished[task.id.segment] = result
                        graph.complete(task, None)
                    else:
                        graph.complete(task, result)
                while self._next_segment in finished:
                    yield finished.pop(self._next_segment)
        finally:
            for call in running:
                call.cancel()
            await asyncio.gather(*running, return_exceptions=True)  # several may have failed at once

    def _start_ready(
        self, graph: RenderGraph, limits: Mapping[Kind, int], running: dict[asyncio.Task[Any], Task]
    ) -> None:
        num_running = Counter(task.id.kind for task in running.values())
        for kind, limit in limits.items():
            while num_running[kind] < limit and (task := graph.take(kind)) is not None:
                num_running[kind] += 1
                running[asyncio.create_task(self._call(task, graph.results(task)))] = task

    async def _call(self, task: Task, arguments: Sequence[Any]) -> Any:
        slots = self._slots.get(task.id.kind)
        async with nullcontext() if slots is None else slots.hold(self._urgency):
            match task:
                case MotionTask():
                    return await self._calls.generate_motion(task, arguments)
                case RenderTask():
                    return await self._calls.render(task, arguments)
                case FinishTask():
                    return await self._calls.finish(task, arguments)
