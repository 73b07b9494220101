"""The director: claims jobs and drives each to its end, as a dataflow of calls to V-AID, ETHD and the decoder.

It holds references to what they make, never the arrays: a call's first result stays in the object store and its second
is a receipt of a few bytes. A call that fails because its replica died is sent again with the same references. If
results themselves are lost (a node died), the segments that are not published are begun anew. What is published is
never made again, by this director or by another that takes the job over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from emotivetalk.actors.errors import FencedError
from emotivetalk.actors.serving.config import DirectorSettings
from emotivetalk.actors.serving.jobs.records import Claim, Job, JobError, JobStatus, Segment
from emotivetalk.actors.serving.jobs.store import JobStore
from emotivetalk.actors.serving.observing import logs, tracing
from emotivetalk.actors.serving.observing.meters import Meters
from emotivetalk.actors.serving.rendering.graph import Kind, RenderGraph, Task
from emotivetalk.actors.serving.rendering.replica_calls import LostResultError, Made, ReplicaCalls
from emotivetalk.actors.serving.replicas.messages import FinishCall, Finished, MotionCall, Receipt, RenderCall
from emotivetalk.errors import EmotiveTalkError
from emotivetalk.models.long_video_plan import LongVideoPlan
from emotivetalk.request import VideoRequest
from emotivetalk.timebase import FRAME_RATE_HZ

log = logging.getLogger(__name__)

Plans = Callable[[int, int | None], tuple[LongVideoPlan, LongVideoPlan, Callable[[range], range]]]
"""(frames, steps or None) -> ETHD's plan, V-AID's plan, and which frames of V-AID's a chunk looks at."""


class Director:
    """Claims jobs and runs each in a task of its own, at most `slots` at a time.

    Args:
        worker: who claims: unique among directors.
        meters: where stages, waits and ends are counted; None: nowhere.
    """

    def __init__(
        self,
        jobs: JobStore,
        stages: ReplicaCalls,
        plans: Plans,
        settings: DirectorSettings,
        worker: str,
        meters: Meters | None = None,
    ) -> None:
        self._jobs, self._stages, self._plans = jobs, stages, plans
        self._settings, self._worker = settings, worker
        self._meters = meters or Meters()
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._woken = asyncio.Event()
        self._changed: dict[str, asyncio.Event] = {}  # by the jobs that it drives
        self._claims_at = time.monotonic()
        self._chunk_s: float | None = None  # how long ETHD computes for a chunk and step, as the receipts say

    async def run(self) -> None:
        """Until `stop`: claim, drive, and look again."""
        try:
            while not self._stopping.is_set():
                self._claims_at = time.monotonic()
                while len(self._running) < self._settings.slots and not self._stopping.is_set():
                    claim = await asyncio.to_thread(self._jobs.claim, self._worker)
                    if claim is None:
                        break
                    task = asyncio.create_task(self._drive(claim))
                    self._running.add(task)
                    task.add_done_callback(self._ended)
                await self._sleep()
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    def stop(self) -> None:
        """Claim nothing more and give back what is under way; another director goes on where this one was."""
        self._stopping.set()
        self._woken.set()

    def look(self, job_id: str) -> None:
        """Something happened to this job: claim it now if it waits, let it go now if it was cancelled."""
        self._woken.set()
        if job_id in self._changed:
            self._changed[job_id].set()

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def idle_s(self) -> float:
        """Seconds since it last looked for jobs; more than a few polls mean that it is stuck."""
        return time.monotonic() - self._claims_at

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._woken.set()

    async def _sleep(self) -> None:
        self._woken.clear()
        if self._stopping.is_set():
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), self._settings.poll_s)

    async def _drive(self, claim: Claim) -> None:
        """One job, to its end or until somebody else has it: a span of the trace that the job's row names."""
        job = claim.job
        logs.about(job.job_id)
        self._note_wait(job)
        with tracing.span(
            "render",
            job.traceparent,
            kind=tracing.SpanKind.CONSUMER,
            video_id=job.job_id,
            attempt=job.attempt,
            first_segment=job.next_segment,
            num_frames=job.num_frames,
        ) as span:
            await self._drive_within(claim, span)

    def _note_wait(self, job: Job) -> None:
        """How long the job was queued, when it is begun for the first time."""
        if job.fence == 1 and job.started_at is not None:  # an attempt that is given back does not count
            self._meters.job_queue.observe(max(0.0, job.started_at - job.created_at))
            queued = tracing.begin("queue", job.traceparent, start_s=job.created_at, video_id=job.job_id)
            tracing.end(queued, max(job.created_at, job.started_at))

    async def _drive_within(self, claim: Claim, span: tracing.Span) -> None:
        log.info("job begun: attempt %d from segment %d", claim.job.attempt, claim.job.next_segment)
        work = asyncio.create_task(self._render(claim))
        watch = asyncio.create_task(self._keep(claim))
        try:
            await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
                log.info("job completed")
            else:
                await watch
        except FencedError as error:
            log.info("job left: %s", error)
            tracing.fail(span, error)
        except EmotiveTalkError as error:
            log.info("job failed: %s", error)
            tracing.fail(span, error)
            await self._fail(claim, JobError(error.code, str(error)))
        except asyncio.CancelledError:
            log.info("job given back")
            await asyncio.shield(asyncio.to_thread(_quietly, self._jobs.release, claim))
            raise
        except Exception as error:
            log.exception("job failed")
            tracing.fail(span, error)
            said = f"rendering failed: {type(error).__name__}. Try again; if it persists, ask the operator."
            await self._fail(claim, JobError("internal", said))
        finally:
            for task in (work, watch):
                task.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)

    async def _fail(self, claim: Claim, error: JobError) -> None:
        if await asyncio.to_thread(_quietly, partial(self._jobs.fail, error=error), claim):
            self._meters.jobs_ended.add(1, JobStatus.FAILED.value)

    async def _keep(self, claim: Claim) -> None:
        """Keeps the claim; raises FencedError as soon as it is lost, by cancelling above all."""
        changed = self._changed[claim.job.job_id] = asyncio.Event()
        try:
            await self._keep_until(claim, changed)
        finally:
            if self._changed.get(claim.job.job_id) is changed:  # and not of a claim that came after
                del self._changed[claim.job.job_id]

    async def _keep_until(self, claim: Claim, changed: asyncio.Event) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), self._settings.renew_s)
            changed.clear()
            job = await asyncio.to_thread(self._jobs.renew, claim)
            if job.status is not JobStatus.IN_PROGRESS:
                raise FencedError(job.job_id, f"it is {job.status}")

    async def _render(self, claim: Claim) -> None:
        job = claim.job
        request = VideoRequest.model_validate(job.request)
        plan, blocks, needs = self._plans(job.num_frames, request.num_steps)
        await asyncio.to_thread(self._jobs.plan, claim, plan.num_segments)
        for attempt in range(1, self._settings.attempts + 1):
            done = await asyncio.to_thread(self._jobs.segments, job.job_id)
            graph = RenderGraph(plan, blocks, needs, len(done), self._chunks_per_call(), self._settings.segments_ahead)
            tail_path = done[-1].tail_path if done else None
            try:
                await _Walk(self, claim, request, graph, len(done), tail_path).run()
                break
            except LostResultError as error:
                if attempt == self._settings.attempts:
                    raise
                log.warning("results lost, begun anew: %s", error)
        fragments = [segment.path for segment in await asyncio.to_thread(self._jobs.segments, job.job_id)]
        with self._timed("assemble"):
            path = await self._stages.assemble(job.job_id, fragments)
        ended = await asyncio.to_thread(self._jobs.complete, claim, path)
        self._meters.jobs_ended.add(1, JobStatus.COMPLETED.value)
        if ended.started_at is not None and ended.completed_at is not None:
            rendering_s = ended.completed_at - ended.started_at
            self._meters.job_realtime_factor.observe(rendering_s * FRAME_RATE_HZ / job.num_frames)

    @contextmanager
    def _timed(self, stage: str, parent: tracing.Span | None = None) -> Iterator[None]:
        """What this process itself waits for, as a span and in the meters."""
        start = time.perf_counter()
        with tracing.span(stage, parent):
            yield
        self._meters.call_seconds.observe(time.perf_counter() - start, stage, "job")

    def _chunks_per_call(self) -> int:
        """The grain: calls that last long against what a call costs, but not so long that replicas run dry."""
        settings = self._settings
        if settings.chunks_per_call is not None:
            return settings.chunks_per_call
        if self._chunk_s is None:
            return 1
        return max(1, min(settings.max_chunks_per_call, round(settings.call_s / self._chunk_s)))

    def _learn(self, receipt: Receipt, num_chunks: int) -> None:
        seconds = receipt.seconds / num_chunks
        self._chunk_s = seconds if self._chunk_s is None else 0.9 * self._chunk_s + 0.1 * seconds


@dataclass(frozen=True)
class _Outcome:
    task: Task
    made: Made


class _Walk:
    """One run over a video's graph."""

    def __init__(
        self,
        director: Director,
        claim: Claim,
        request: VideoRequest,
        graph: RenderGraph,
        first: int,
        tail_path: str | None,
    ) -> None:
        self._director, self._claim, self._request, self._graph = director, claim, request, graph
        self._first, self._tail_path = first, tail_path
        self._next = first
        self._finished: dict[int, Finished] = {}
        self._spent: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._in_flight: Counter[Kind] = Counter()
        self._spans: dict[int, tracing.Span] = {}  # of the segments that are under way

    async def run(self) -> None:
        """Until every segment is published."""
        settings = self._director._settings
        limits: dict[Kind, int] = {
            "vaid": settings.vaid_in_flight,
            "ethd": settings.ethd_in_flight,
            "decoder": settings.decoder_in_flight,
        }
        running: set[asyncio.Task[_Outcome]] = set()
        try:
            while not self._graph.is_done:
                for kind, limit in limits.items():
                    while self._in_flight[kind] < limit and (task := self._graph.take(kind)) is not None:
                        self._in_flight[kind] += 1
                        running.add(asyncio.create_task(self._do(task)))
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for outcome in [task.result() for task in done]:
                    self._in_flight[outcome.task.id.kind] -= 1
                    self._account(outcome)
                    self._graph.finish(outcome.task, outcome.made.reference)
                await self._publish()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            for span in self._spans.values():
                tracing.end(span)

    def _span(self, index: int) -> tracing.Span | None:
        """A segment's, from its first call on; V-AID's blocks belong to none."""
        if index < 0:
            return None
        if index not in self._spans:
            self._spans[index] = tracing.begin("segment", segment=index)
        return self._spans[index]

    async def _do(self, task: Task) -> _Outcome:
        kind, index = task.id.kind, task.id.segment
        at = {"block": task.block} if kind == "vaid" else {"segment": index, "step": task.id.step}
        with tracing.span(f"call {kind}", self._span(index), kind=tracing.SpanKind.CLIENT, **at):
            return await self._call(task, tracing.traceparent())

    async def _call(self, task: Task, trace: str | None) -> _Outcome:
        stages, references = self._director._stages, self._graph.results(task)
        job = self._claim.job
        if task.id.kind == "vaid":
            call = MotionCall(job.job_id, self._request, task.block, trace)
            return _Outcome(task, await stages.generate_motion(call, references))
        if task.id.kind == "ethd":
            call = RenderCall(
                job.job_id,
                self._request,
                job.num_frames,
                task.blocks,
                task.calls,
                task.before,
                self._stored(task),
                trace=trace,
            )
            return _Outcome(task, await stages.render(call, references))
        assert task.result is not None and task.tail is not None
        call = FinishCall(
            job.job_id,
            self._request,
            task.id.segment,
            job.num_frames,
            self._claim.fence,
            task.result,
            task.tail,
            task.ease,
            task.before,
            self._stored(task),
            trace,
        )
        return _Outcome(task, await stages.finish(call, references))

    def _stored(self, task: Task) -> str | None:
        """Where the end of the segment before is, if another run made it."""
        return self._tail_path if task.id.segment == self._first else None

    def _account(self, outcome: _Outcome) -> None:
        task, made, meters = outcome.task, outcome.made, self._director._meters
        if isinstance(made.answer, Finished):
            self._finished[made.answer.index] = made.answer
            for stage, seconds in made.answer.timings.items():
                meters.call_seconds.observe(seconds, stage, "job")
            return
        stage = "vaid" if task.id.kind == "vaid" else "ethd"
        index = max(task.id.segment, self._next)
        self._spent[index][stage] += made.answer.seconds
        meters.call_seconds.observe(made.answer.seconds, stage, "job")
        if stage == "ethd":
            meters.ethd_chunks.add(len(task.calls), "job")
            self._director._learn(made.answer, len(task.calls))

    async def _publish(self) -> None:
        """What is finished, in order."""
        while self._next in self._finished:
            made = self._finished.pop(self._next)
            timings = {**made.timings, **self._spent.pop(self._next, {})}
            segment = Segment(
                self._claim.job.job_id,
                made.index,
                made.start_frame,
                made.num_frames,
                made.path,
                made.num_bytes,
                made.sha256,
                made.tail_path,
                timings,
            )
            with self._director._timed("publish", self._span(self._next)):
                await asyncio.to_thread(self._director._jobs.publish_segment, self._claim, segment)
            if self._next == 0:
                waited_s = max(0.0, time.time() - self._claim.job.created_at)
                self._director._meters.job_first_fragment.observe(waited_s)
            tracing.end(self._spans.pop(self._next))
            self._next += 1


def _quietly(end: Callable[[Claim], Job], claim: Claim) -> bool:
    """End a claim that somebody else may have ended already. Whether it was still there."""
    try:
        end(claim)
    except FencedError as error:
        log.info("claim was gone: %s", error)
        return False
    return True
