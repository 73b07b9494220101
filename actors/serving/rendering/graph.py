"""The task graph of one video. Pure data and bookkeeping: no Ray, no clock.

    V-AID block 0 -> block 1 -> ...            each pinned to the previous one
         |            \\
    ETHD (segment, step, group of chunks) -> ETHD (the next step) -> ...
                                                  |         \\
                                     decoder, segment 0      the next segment's first chunk, pinned

A task is ready as soon as its sources are complete. There is no barrier at the end of a step or of a segment: only the
first chunk of a segment waits for the previous segment, so replicas work on the next segments while the last chunks of a
segment are completed. `segments_ahead` bounds how many segments are open, and with them the memory. Earlier segments
have priority. The graph holds a result until no open or future task can read it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from emotivetalk.models.long_video_plan import Call, CallId, Ease, Gather, LongVideoPlan, SegmentPlan

Kind = Literal["vaid", "ethd", "decoder"]


class TaskId(NamedTuple):
    """Name of a task. Ready tasks of a kind are taken in the order of their names: earlier segments first."""

    segment: int
    kind: Kind
    step: int = 0
    group: int = 0


@dataclass(frozen=True)
class MotionTask:
    """A call to V-AID.

    Attributes:
        sources: tasks whose results are arguments of the call, in this order: the previous block, if there is one.
        block: index of the block to generate.
    """

    id: TaskId
    sources: tuple[TaskId, ...]
    block: int


@dataclass(frozen=True)
class RenderTask:
    """A call to ETHD.

    Attributes:
        sources: tasks whose results are arguments of the call, in this order.
        num_blocks: number of leading sources that are V-AID blocks.
        calls: adjacent chunks of one step, which advance together.
        tail: how to gather the end of the previous segment from the sources; None if it is not needed or stored.
        reads_stored_tail: the end of the previous segment is needed, and an earlier run stored it.
    """

    id: TaskId
    sources: tuple[TaskId, ...]
    num_blocks: int
    calls: tuple[Call, ...]
    tail: Gather | None
    reads_stored_tail: bool


@dataclass(frozen=True)
class FinishTask:
    """A call to the decoder.

    Attributes:
        sources: tasks whose results are arguments of the call, in this order.
        result: how to gather the segment's frames.
        own_tail: how to gather the segment's own end, for the next segment.
        ease: how the segment joins the previous one.
        tail, reads_stored_tail: the end of the previous segment, as in `RenderTask`.
    """

    id: TaskId
    sources: tuple[TaskId, ...]
    result: Gather
    own_tail: Gather
    ease: Ease | None
    tail: Gather | None
    reads_stored_tail: bool


Task = MotionTask | RenderTask | FinishTask


@dataclass
class _State:
    task: Task
    waits_for: set[TaskId]
    readers: set[TaskId] = field(default_factory=set)
    result: Any = None
    is_complete: bool = False
    is_held: bool = False  # a segment that is not open yet may read it


class RenderGraph:
    """The tasks of one video from segment `first` on.

    Args:
        plan: ETHD's plan.
        num_steps_of: returns the number of steps of a segment when it is opened; None: all have the plan's.
        blocks: V-AID's plan. Its segments are the blocks.
        needs: maps the frames of an ETHD chunk to the V-AID frames that it reads.
        first: first segment to render. The end of the previous segment is stored.
        chunks_per_call: number of adjacent chunks that one ETHD task advances. It does not change the video.
        segments_ahead: maximum number of open segments.
    """

    def __init__(
        self,
        plan: LongVideoPlan,
        blocks: LongVideoPlan,
        needs: Callable[[range], range],
        first: int = 0,
        chunks_per_call: int = 1,
        segments_ahead: int = 3,
        num_steps_of: Callable[[int], int] | None = None,
    ) -> None:
        self._plan, self._blocks, self._needs = plan, blocks, needs
        self._num_steps_of = num_steps_of or (lambda segment: plan.num_steps)
        self._last_step: dict[int, int] = {}  # of the open segments and the one before them
        self._tails: dict[int, Gather] = {}  # likewise
        self._first, self._chunks_per_call, self._segments_ahead = first, chunks_per_call, segments_ahead
        self._states: dict[TaskId, _State] = {}
        self._ready: dict[Kind, list[TaskId]] = {"vaid": [], "ethd": [], "decoder": []}
        self._open: set[int] = set()
        self._next_segment = first
        self._block_stops: list[int] = []
        self._open_segments()

    def take(self, kind: Kind) -> Task | None:
        """Take the ready task of this kind with the highest priority. Report its result with `complete`."""
        ready = self._ready[kind]
        return self._states[heapq.heappop(ready)].task if ready else None

    def results(self, task: Task) -> list[Any]:
        """Return the results of the task's sources, in their order."""
        return [self._states[source].result for source in task.sources]

    def complete(self, task: Task, result: Any) -> None:
        """Record the task's result, make its readers ready, and release the sources that nothing else will read."""
        state = self._states[task.id]
        state.result, state.is_complete = result, True
        for source in task.sources:
            self._states[source].readers.discard(task.id)
            self._release(source)
        for reader in state.readers:
            waiting = self._states[reader]
            waiting.waits_for.discard(task.id)
            if not waiting.waits_for:
                heapq.heappush(self._ready[reader.kind], reader)
        if isinstance(task, FinishTask):
            self._open.remove(task.id.segment)
            self._open_segments()
        self._release(task.id)

    # ------------------------------------------------------------------------------------------------------- building

    def _open_segments(self) -> None:
        while self._next_segment < self._plan.num_segments and len(self._open) < self._segments_ahead:
            num_steps = self._num_steps_of(self._next_segment)
            segment = replace(self._plan, num_steps=num_steps).segment(self._next_segment)
            self._open.add(segment.index)
            self._last_step[segment.index], self._tails[segment.index] = num_steps - 1, segment.tail
            self._next_segment += 1
            self._ensure_blocks(segment)
            for step in range(num_steps):
                self._add_step(segment, step)
            self._add_decoder(segment)
            for group in self._last_groups(segment.index - 1):  # all its readers exist now
                self._states[group].is_held = False
                self._release(group)
            self._release_blocks_before(segment)
            self._last_step.pop(segment.index - 1, None)
            self._tails.pop(segment.index - 1, None)

    def _ensure_blocks(self, segment: SegmentPlan) -> None:
        """Add the blocks that the segment reads, and one more, so that V-AID works ahead."""
        stop = self._needs(segment.frames).stop
        while len(self._block_stops) < self._blocks.num_segments and (
            len(self._block_stops) < 2 or self._block_stops[-2] < stop
        ):
            index = len(self._block_stops)
            self._block_stops.append(self._blocks.segment(index).result.frames.stop)
            sources = (_block_id(index - 1),) if index else ()
            self._add(MotionTask(_block_id(index), sources, index), is_held=True)

    def _release_blocks_before(self, segment: SegmentPlan) -> None:
        """Release the blocks that neither this segment nor a later one reads; the next block is pinned to the last."""
        start = self._needs(segment.frames).start
        for index, stop in enumerate(self._block_stops[:-1]):
            state = self._states.get(_block_id(index))
            if stop <= start and state is not None:
                state.is_held = False
                self._release(_block_id(index))

    def _blocks_for(self, frames: range) -> Iterator[TaskId]:
        needed, start = self._needs(frames), 0
        for index, stop in enumerate(self._block_stops):
            if start < needed.stop and needed.start < stop:
                yield _block_id(index)
            start = stop

    def _add_step(self, segment: SegmentPlan, step: int) -> None:
        is_last_step = step == self._last_step[segment.index]
        calls = segment.calls_of(step)
        for group, first in enumerate(range(0, len(calls), self._chunks_per_call)):
            chunks = calls[first : first + self._chunks_per_call]
            blocks = tuple(self._blocks_for(range(chunks[0].frames.start, chunks[-1].frames.stop)))
            is_pinned = any(call.pinned for call in chunks)
            tail = self._previous_tail(segment) if is_pinned else None
            sources = frozenset[CallId]().union(*(call.depends_on for call in chunks))
            self._add(
                RenderTask(
                    TaskId(segment.index, "ethd", step, group),
                    (*blocks, *self._groups_of(sources | (tail.depends_on if tail is not None else frozenset()))),
                    len(blocks),
                    chunks,
                    tail,
                    is_pinned and tail is None,
                ),
                is_held=is_last_step and segment.index + 1 < self._plan.num_segments,
            )

    def _add_decoder(self, segment: SegmentPlan) -> None:
        ease, sources = segment.ease, segment.result.depends_on
        tail = None if ease is None else self._previous_tail(segment)
        if ease is not None:
            sources |= {ease.call} | (tail.depends_on if tail is not None else frozenset())
        self._add(
            FinishTask(
                TaskId(segment.index, "decoder"),
                self._groups_of(sources),
                segment.result,
                segment.tail,
                ease,
                tail,
                ease is not None and tail is None,
            )
        )

    def _previous_tail(self, segment: SegmentPlan) -> Gather | None:
        """Return the gather of the previous segment's end, if this graph renders it."""
        return self._tails[segment.index - 1] if segment.index > self._first else None

    def _groups_of(self, calls: frozenset[CallId]) -> tuple[TaskId, ...]:
        return tuple(
            sorted({TaskId(call.segment, "ethd", call.step, call.chunk // self._chunks_per_call) for call in calls})
        )

    def _last_groups(self, segment: int) -> list[TaskId]:
        """The tasks of a segment's last step that are still in the graph."""
        step = self._last_step.get(segment)
        return [key for key in self._states if key.segment == segment and key.kind == "ethd" and key.step == step]

    def _add(self, task: Task, is_held: bool = False) -> None:
        waits_for = set()
        for source in task.sources:
            self._states[source].readers.add(task.id)
            if not self._states[source].is_complete:
                waits_for.add(source)
        self._states[task.id] = _State(task, waits_for, is_held=is_held)
        if not waits_for:
            heapq.heappush(self._ready[task.id.kind], task.id)

    def _release(self, key: TaskId) -> None:
        state = self._states.get(key)
        if state is not None and state.is_complete and not state.readers and not state.is_held:
            del self._states[key]


def _block_id(index: int) -> TaskId:
    return TaskId(-1, "vaid", index)
