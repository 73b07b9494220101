"""What can be done now, of a video's calls: long video's plan as a graph of tasks. Pure: no Ray, no clock.

    V-AID block 0 -> block 1 -> ...            each pinned to the one before
         |            \\
    ETHD (segment, step, group of chunks) -> ETHD (the next step) -> ...
                                                  |         \\
                                     decoder, segment 0      the next segment's first chunk, pinned

A task is ready when its sources are done, whatever else is not: there is no barrier, neither over a step nor over a
segment. Only the first chunk of a segment waits for the segment before, so replicas go on into the next ones while the
last chunks of a segment are finished; `segments_ahead` bounds how far, and with it the memory. Earlier segments go
first. A result is held as long as a task may read it, and then let go.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from emotivetalk.models.long_video_plan import Call, CallId, Ease, Gather, LongVideoPlan, SegmentPlan

Kind = Literal["vaid", "ethd", "decoder"]


class TaskId(NamedTuple):
    """A task's name; their order is the order in which ready tasks are taken: what is shown earlier first."""

    segment: int
    kind: Kind
    step: int = 0
    group: int = 0


@dataclass(frozen=True)
class Task:
    """One call to a deployment.

    sources: whose results go along, in this order; `blocks` of them are V-AID's and come first.
    block: for V-AID, which one.
    calls: for ETHD, adjacent chunks of one step, which advance together.
    result: for the decoder, the segment's frames.
    ease: for the decoder, how the segment joins the one before.
    tail: for the decoder, the segment's end.
    before: for ETHD and the decoder, the end of the segment before, if it is among `sources`.
    """

    id: TaskId
    sources: tuple[TaskId, ...]
    blocks: int = 0
    block: int = 0
    calls: tuple[Call, ...] = ()
    result: Gather | None = None
    ease: Ease | None = None
    tail: Gather | None = None
    before: Gather | None = None


@dataclass
class _State:
    task: Task
    waits_for: set[TaskId]
    readers: set[TaskId] = field(default_factory=set)
    result: Any = None
    is_done: bool = False
    is_held: bool = False  # a segment that is not open yet may read it


class RenderGraph:
    """The tasks of one video from segment `first` on.

    Args:
        plan: ETHD's.
        blocks: V-AID's plan; its segments are the blocks.
        needs: which frames of V-AID's a chunk of these frames looks at.
        first: the first segment to make; the end of the one before comes from elsewhere.
        chunks_per_call: how many adjacent chunks an ETHD task advances; it changes nothing in the video.
        segments_ahead: how many segments may be under way.
    """

    def __init__(
        self,
        plan: LongVideoPlan,
        blocks: LongVideoPlan,
        needs: Callable[[range], range],
        first: int = 0,
        chunks_per_call: int = 1,
        segments_ahead: int = 3,
    ) -> None:
        self._plan, self._blocks, self._needs = plan, blocks, needs
        self._first, self._chunks_per_call, self._segments_ahead = first, chunks_per_call, segments_ahead
        self._states: dict[TaskId, _State] = {}
        self._ready: dict[Kind, list[TaskId]] = {"vaid": [], "ethd": [], "decoder": []}
        self._open: dict[int, SegmentPlan] = {}
        self._next = first
        self._num_blocks = 0
        self._block_ends: list[int] = []
        self._open_segments()

    @property
    def is_done(self) -> bool:
        return not self._open and self._next == self._plan.num_segments

    @property
    def num_held(self) -> int:
        """Results that are held; bounded, however long the video."""
        return sum(state.is_done for state in self._states.values())

    def take(self, kind: Kind) -> Task | None:
        """A ready task, the one whose frames are shown first; the caller answers with `finish`."""
        ready = self._ready[kind]
        return self._states[heapq.heappop(ready)].task if ready else None

    def put_back(self, task: Task) -> None:
        """The task is ready again: its call failed."""
        heapq.heappush(self._ready[task.id.kind], task.id)

    def results(self, task: Task) -> list[Any]:
        """The results of the task's sources, in their order."""
        return [self._states[source].result for source in task.sources]

    def finish(self, task: Task, result: Any) -> None:
        """The task is done. Its readers may become ready; its sources are let go where it was the last reader."""
        state = self._states[task.id]
        state.result, state.is_done = result, True
        for source in task.sources:
            self._states[source].readers.discard(task.id)
            self._let_go(source)
        for reader in state.readers:
            waiting = self._states[reader]
            waiting.waits_for.discard(task.id)
            if not waiting.waits_for:
                heapq.heappush(self._ready[reader.kind], reader)
        if task.id.kind == "decoder":
            del self._open[task.id.segment]
            for group in self._ids_of(task.id.segment, self._plan.num_steps - 1):
                if task.id.segment + 1 < self._next:
                    self._states[group].is_held = False
                self._let_go(group)
            self._open_segments()
        self._let_go(task.id)

    # ------------------------------------------------------------------------------------------------------- building

    def _open_segments(self) -> None:
        while self._next < self._plan.num_segments and len(self._open) < self._segments_ahead:
            index, segment = self._next, self._plan.segment(self._next)
            self._open[index] = segment
            self._next += 1
            self._ensure_blocks(segment)
            for step in range(self._plan.num_steps):
                self._add_step(segment, step)
            self._add_decoder(segment)
            if index - 1 >= self._first:  # nothing else will be pinned to the segment before
                for group in self._ids_of(index - 1, self._plan.num_steps - 1):
                    if group in self._states:
                        self._states[group].is_held = False
                        self._let_go(group)
            self._forget_blocks(segment)

    def _ensure_blocks(self, segment: SegmentPlan) -> None:
        """The blocks that the segment looks at, and one more, so that V-AID is ahead."""
        wanted = self._needs(segment.frames).stop
        while self._num_blocks < self._blocks.num_segments and (
            len(self._block_ends) < 2 or self._block_ends[-2] < wanted
        ):
            index = self._num_blocks
            self._num_blocks += 1
            self._block_ends.append(self._blocks.segment(index).result.frames.stop)
            before = (_block_id(index - 1),) if index else ()
            self._add(Task(_block_id(index), before, block=index), is_held=True)

    def _forget_blocks(self, segment: SegmentPlan) -> None:
        """No segment from here on looks at blocks that end before this one begins."""
        start = self._needs(segment.frames).start
        for index, stop in enumerate(self._block_ends):
            state = self._states.get(_block_id(index))
            if stop <= start and state is not None and state.is_held and index + 1 < self._num_blocks:
                state.is_held = False
                self._let_go(_block_id(index))

    def _blocks_for(self, frames: range) -> Iterator[TaskId]:
        wanted, start = self._needs(frames), 0
        for index, stop in enumerate(self._block_ends):
            if start < wanted.stop and wanted.start < stop:
                yield _block_id(index)
            start = stop

    def _add_step(self, segment: SegmentPlan, step: int) -> None:
        is_last = step == self._plan.num_steps - 1
        calls = segment.calls_of(step)
        for group, first in enumerate(range(0, len(calls), self._chunks_per_call)):
            chunks = calls[first : first + self._chunks_per_call]
            frames = range(chunks[0].frames.start, chunks[-1].frames.stop)
            blocks = tuple(self._blocks_for(frames))
            sources = {source for call in chunks for source in call.depends_on}
            before = self._before(segment) if any(call.pinned for call in chunks) else None
            if before is not None:
                sources |= before.depends_on
            self._add(
                Task(
                    TaskId(segment.index, "ethd", step, group),
                    (*blocks, *self._groups_of(frozenset(sources))),
                    calls=chunks,
                    before=before,
                    blocks=len(blocks),
                ),
                is_held=is_last and segment.index + 1 < self._plan.num_segments,
            )

    def _add_decoder(self, segment: SegmentPlan) -> None:
        sources, before = segment.result.depends_on, None
        if segment.ease is not None:
            before = self._before(segment)
            sources |= {segment.ease.call} | (before.depends_on if before is not None else set())
        self._add(
            Task(
                TaskId(segment.index, "decoder"),
                self._groups_of(sources),
                result=segment.result,
                ease=segment.ease,
                tail=segment.tail,
                before=before,
            )
        )

    def _before(self, segment: SegmentPlan) -> Gather | None:
        """How to gather the end of the segment before, if this run makes it."""
        return self._plan.segment(segment.index - 1).tail if segment.index > self._first else None

    def _groups_of(self, calls: frozenset[CallId]) -> tuple[TaskId, ...]:
        return tuple(
            sorted({TaskId(call.segment, "ethd", call.step, call.chunk // self._chunks_per_call) for call in calls})
        )

    def _ids_of(self, segment: int, step: int) -> list[TaskId]:
        return [key for key in self._states if key.segment == segment and key.kind == "ethd" and key.step == step]

    def _add(self, task: Task, is_held: bool = False) -> None:
        waits_for = set()
        for source in task.sources:
            self._states[source].readers.add(task.id)
            if not self._states[source].is_done:
                waits_for.add(source)
        self._states[task.id] = _State(task, waits_for, is_held=is_held)
        if not waits_for:
            heapq.heappush(self._ready[task.id.kind], task.id)

    def _let_go(self, key: TaskId) -> None:
        state = self._states.get(key)
        if state is not None and state.is_done and not state.readers and not state.is_held:
            del self._states[key]


def _block_id(index: int) -> TaskId:
    return TaskId(-1, "vaid", index)
