"""Render one claimed job: run its graph, publish its segments, assemble its file."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

from emotivetalk.actors.serving.config import DirectorSettings
from emotivetalk.actors.serving.jobs.records import Claim, JobStatus, Segment
from emotivetalk.actors.serving.jobs.store import JobStore
from emotivetalk.actors.serving.observing import tracing
from emotivetalk.actors.serving.observing.meters import Meters
from emotivetalk.actors.serving.rendering.call_size import CallSize
from emotivetalk.actors.serving.rendering.graph import FinishTask, MotionTask, RenderGraph, RenderTask
from emotivetalk.actors.serving.rendering.graph_runner import CallSlots, GraphRunner
from emotivetalk.actors.serving.rendering.replica_calls import ReplicaCalls
from emotivetalk.actors.serving.replicas.messages import FinishCall, FinishedSegment, MotionCall, RenderCall
from emotivetalk.models.long_video_plan import LongVideoPlan
from emotivetalk.request import VideoRequest
from emotivetalk.timebase import FRAME_RATE_HZ

MakePlans = Callable[[int, int | None], tuple[LongVideoPlan, LongVideoPlan, Callable[[range], range]]]
"""(frames, steps or None) -> ETHD's plan, V-AID's plan, and a map from a chunk's frames to the V-AID frames it reads."""


@dataclass
class Progress:
    """The chunks of all steps that ETHD has computed, and their number."""

    num_done: int = 0
    num_calls: int = 0

    @property
    def work_done(self) -> float | None:
        """The share that is done, 0 to 1; None before the first."""
        return min(1.0, self.num_done / self.num_calls) if self.num_calls else None


class JobRendering:
    """The rendering of one claimed job; `VideoCalls` for its graph runner.

    The segments that earlier runs published are kept. If results are lost, the unpublished segments are rendered again.

    Args:
        slots: slots for ETHD calls, shared by the jobs of a director.
        call_size: shared by the jobs of a director, since all of them measure the same replicas.
        progress: is kept up to date.
    """

    def __init__(
        self,
        claim: Claim,
        jobs: JobStore,
        replica_calls: ReplicaCalls,
        make_plans: MakePlans,
        settings: DirectorSettings,
        slots: CallSlots,
        call_size: CallSize,
        meters: Meters,
        progress: Progress,
    ) -> None:
        self._claim, self._job, self._jobs = claim, claim.job, jobs
        self._replica_calls, self._settings, self._slots = replica_calls, settings, slots
        self._call_size, self._meters, self._progress = call_size, meters, progress
        self._request = VideoRequest.model_validate(claim.job.request)
        self._plans = make_plans(claim.job.num_frames, self._request.num_steps)
        self._next_segment = 0
        self._tail_path: str | None = None  # of the segment published last
        self._compute_s: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))  # by segment and network
        self._spans: dict[int, tracing.Span] = {}  # of the segments in progress

    async def run(self) -> None:
        """Render and publish the segments that are missing, and complete the job.

        Raises:
            FencedError: another director has the job, or it was cancelled.
            EmotiveTalkError: the job cannot be rendered.
        """
        job = self._job
        await asyncio.to_thread(self._jobs.plan, self._claim, self.num_segments)
        published = await asyncio.to_thread(self._jobs.segments, job.job_id)
        self._next_segment = len(published)
        self._tail_path = published[-1].tail_path if published else None
        plan = self._plans[0]
        self._progress.num_calls = plan.num_calls
        self._progress.num_done = sum(len(plan.segment(index).calls) for index in range(self._next_segment))
        settings = self._settings
        runner = GraphRunner(
            self._graph,
            self,
            {
                "vaid": settings.vaid_in_flight,
                "ethd": settings.ethd_in_flight,
                "decoder": settings.decoder_in_flight,
            },
            first_segment=self._next_segment,
            slots={"ethd": self._slots},
            urgency=job.urgency,
            attempts=settings.attempts,
        )
        try:
            async with aclosing(runner.segments()) as segments:
                async for segment in segments:
                    await self._publish(segment)
        finally:
            for span in self._spans.values():
                tracing.end(span)
        await self._complete()

    def _graph(self, first_segment: int) -> RenderGraph:
        return RenderGraph(*self._plans, first_segment, self._call_size.chunks_per_call, self._settings.segments_ahead)

    async def _publish(self, finished: FinishedSegment) -> None:
        segment = Segment(
            self._job.job_id,
            finished.index,
            finished.start_frame,
            finished.num_frames,
            finished.path,
            finished.num_bytes,
            finished.sha256,
            finished.tail_path,
            {**finished.timings, **self._compute_s.pop(finished.index, {})},
        )
        with self._timed("publish", self._span(finished.index)):
            await asyncio.to_thread(self._jobs.publish_segment, self._claim, segment)
        if finished.index == 0:
            self._meters.job_first_fragment.observe(max(0.0, time.time() - self._job.created_at))
        tracing.end(self._spans.pop(finished.index))
        self._next_segment, self._tail_path = finished.index + 1, finished.tail_path

    async def _complete(self) -> None:
        fragments = [segment.path for segment in await asyncio.to_thread(self._jobs.segments, self._job.job_id)]
        with self._timed("assemble"):
            path = await self._replica_calls.assemble(self._job.job_id, fragments)
        completed = await asyncio.to_thread(self._jobs.complete, self._claim, path)
        self._meters.jobs_ended.add(1, JobStatus.COMPLETED.value)
        if completed.started_at is not None and completed.completed_at is not None:
            rendering_s = completed.completed_at - completed.started_at
            self._meters.job_realtime_factor.observe(rendering_s * FRAME_RATE_HZ / self._job.num_frames)

    # ----------------------------------------------------------------------------------------------------- VideoCalls

    @property
    def num_segments(self) -> int:
        return self._plans[0].num_segments

    async def generate_motion(self, task: MotionTask, arguments: Sequence[Any]) -> Any:
        with self._traced("vaid", None, block=task.block) as trace:
            call = MotionCall(self._job.job_id, self._request, task.block, trace)
            result = await self._replica_calls.generate_motion(call, arguments)
        # A block belongs to no segment; its time counts for the segment that is published next.
        self._record("vaid", self._next_segment, result.receipt.seconds)
        return result.reference

    async def render(self, task: RenderTask, arguments: Sequence[Any]) -> Any:
        index, step = task.id.segment, task.id.step
        with self._traced("ethd", self._span(index), segment=index, step=step) as trace:
            call = RenderCall(
                self._job.job_id,
                self._request,
                self._job.num_frames,
                task.num_blocks,
                task.calls,
                task.tail,
                self._tail_path if task.reads_stored_tail else None,
                urgency=self._job.urgency,
                trace=trace,
            )
            result = await self._replica_calls.render(call, arguments)
        self._progress.num_done += len(task.calls)
        self._record("ethd", index, result.receipt.seconds)
        self._meters.ethd_chunks.add(len(task.calls), "job")
        self._call_size.record(result.receipt, len(task.calls))
        return result.reference

    async def finish(self, task: FinishTask, arguments: Sequence[Any]) -> FinishedSegment:
        index = task.id.segment
        with self._traced("decoder", self._span(index), segment=index, step=0) as trace:
            call = FinishCall(
                self._job.job_id,
                self._request,
                index,
                self._job.num_frames,
                self._claim.fence,
                task.result,
                task.own_tail,
                task.ease,
                task.tail,
                self._tail_path if task.reads_stored_tail else None,
                trace,
            )
            finished = await self._replica_calls.finish(call, arguments)
        for stage, seconds in finished.timings.items():
            self._meters.call_seconds.observe(seconds, stage, "job")
        return finished

    # ------------------------------------------------------------------------------------------------------ observing

    def _record(self, network: str, segment: int, seconds: float) -> None:
        self._compute_s[segment][network] += seconds
        self._meters.call_seconds.observe(seconds, network, "job")

    def _span(self, index: int) -> tracing.Span:
        """The span of a segment, which begins with the segment's first call."""
        if index not in self._spans:
            self._spans[index] = tracing.begin("segment", segment=index)
        return self._spans[index]

    @contextmanager
    def _traced(self, kind: str, parent: tracing.Span | None, **attributes: int) -> Iterator[str | None]:
        """Trace a call; gives the `traceparent` to send along."""
        with tracing.span(f"call {kind}", parent, kind=tracing.SpanKind.CLIENT, **attributes):
            yield tracing.traceparent()

    @contextmanager
    def _timed(self, stage: str, parent: tracing.Span | None = None) -> Iterator[None]:
        """Trace and measure a wait of this process."""
        start = time.perf_counter()
        with tracing.span(stage, parent):
            yield
        self._meters.call_seconds.observe(time.perf_counter() - start, stage, "job")
