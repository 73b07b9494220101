"""The director: claims jobs, renders them, and keeps or gives up its claims.

A job runs as a graph of calls to V-AID, ETHD and the decoder (`job_rendering.py`). The director holds references to
results, never arrays: they stay in the object store. A call whose replica died is sent again with the same references. If
results themselves are lost with their node, the unpublished segments are rendered again. No director, this one or another
that takes the job over, renders a published segment again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from emotivetalk.actors.errors import FencedError
from emotivetalk.actors.serving.config import DirectorSettings
from emotivetalk.actors.serving.jobs.records import Claim, Job, JobError, JobStatus
from emotivetalk.actors.serving.jobs.store import JobStore
from emotivetalk.actors.serving.observing import logs, tracing
from emotivetalk.actors.serving.observing.meters import Meters
from emotivetalk.actors.serving.rendering.call_size import CallSize
from emotivetalk.actors.serving.rendering.graph_runner import CallSlots
from emotivetalk.actors.serving.rendering.job_rendering import JobRendering, MakePlans, Progress
from emotivetalk.actors.serving.rendering.replica_calls import ReplicaCalls
from emotivetalk.errors import EmotiveTalkError

log = logging.getLogger(__name__)


class Director:
    """Claims jobs and renders at most `settings.slots` of them at a time, each in an asyncio task.

    Args:
        worker: name of this director in its claims, unique among directors.
        meters: where to count stages, waits and results; None counts nothing.
    """

    def __init__(
        self,
        jobs: JobStore,
        replica_calls: ReplicaCalls,
        make_plans: MakePlans,
        settings: DirectorSettings,
        worker: str,
        meters: Meters | None = None,
    ) -> None:
        self._jobs, self._replica_calls, self._make_plans = jobs, replica_calls, make_plans
        self._settings, self._worker = settings, worker
        self._meters = meters or Meters()
        self._slots, self._call_size = CallSlots(settings.calls_in_flight), CallSize(settings)
        self._running: dict[asyncio.Task[None], Job] = {}
        self._stopping = asyncio.Event()
        self._woken = asyncio.Event()
        self._changed: dict[str, asyncio.Event] = {}  # by job, of the jobs in progress here
        self._polled_at = time.monotonic()

    async def run(self) -> None:
        """Claim and render jobs until `stop`."""
        try:
            while not self._stopping.is_set():
                self._polled_at = time.monotonic()
                while len(self._running) < self._settings.slots and not self._stopping.is_set():
                    claim = await asyncio.to_thread(self._claim_next)
                    if claim is None:
                        break
                    task = asyncio.create_task(self._process(claim))
                    self._running[task] = claim.job
                    task.add_done_callback(self._on_done)
                await self._sleep()
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    def stop(self) -> None:
        """Stop claiming jobs and release those in progress; another director resumes them."""
        self._stopping.set()
        self._woken.set()

    def look(self, job_id: str) -> None:
        """Check this job now: claim it if it is queued, drop it if it was cancelled."""
        self._woken.set()
        if job_id in self._changed:
            self._changed[job_id].set()

    @property
    def num_running(self) -> int:
        """Number of jobs in progress."""
        return len(self._running)

    @property
    def idle_s(self) -> float:
        """Seconds since the director last polled for jobs. A value of several polls means that it is stuck."""
        return time.monotonic() - self._polled_at

    def _claim_next(self) -> Claim | None:
        """Claim the job for a free slot.

        The last slot is kept: from rows of batches for single videos and, if there are four slots or more, from a caller
        who has all others for other callers. A job that is short or of another caller therefore never waits for a long one.
        """
        singles = [job.owner for job in self._running.values() if job.batch_id is None]
        num_rows, num_kept = len(self._running) - len(singles), self._settings.slots - 1
        alone = singles[0] if len(singles) == num_kept >= 3 and len(set(singles)) == 1 else None
        return self._jobs.claim(self._worker, batches=num_rows < max(1, num_kept), not_of=alone)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._woken.set()

    async def _sleep(self) -> None:
        self._woken.clear()
        if self._stopping.is_set():
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), self._settings.poll_s)

    async def _process(self, claim: Claim) -> None:
        """Render one job to its end or until the claim is lost, as a span of the trace that the job's row names."""
        job = claim.job
        logs.about(job.job_id)
        self._record_queue_wait(job)
        with tracing.span(
            "render",
            job.traceparent,
            kind=tracing.SpanKind.CONSUMER,
            video_id=job.job_id,
            attempt=job.attempt,
            first_segment=job.next_segment,
            num_frames=job.num_frames,
        ) as span:
            await self._process_traced(claim, span)

    def _record_queue_wait(self, job: Job) -> None:
        """Record how long the job was queued, the first time that it starts."""
        if (
            job.fence == 1 and job.started_at is not None
        ):  # a released attempt keeps its number; the fence counts claims
            self._meters.job_queue.observe(max(0.0, job.started_at - job.created_at))
            queued = tracing.begin("queue", job.traceparent, start_s=job.created_at, video_id=job.job_id)
            tracing.end(queued, max(job.created_at, job.started_at))

    async def _process_traced(self, claim: Claim, span: tracing.Span) -> None:
        log.info("job started: attempt %d from segment %d", claim.job.attempt, claim.job.next_segment)
        progress = Progress()
        rendering = asyncio.create_task(self._render(claim, progress))
        lease = asyncio.create_task(self._keep_claim(claim, progress))
        try:
            await asyncio.wait((rendering, lease), return_when=asyncio.FIRST_COMPLETED)
            if rendering.done():
                await rendering
                log.info("job completed")
            else:
                await lease
        except FencedError as error:
            log.info("claim lost: %s", error)
            tracing.fail(span, error)
        except EmotiveTalkError as error:
            log.info("job failed: %s", error)
            tracing.fail(span, error)
            await self._fail(claim, JobError(error.code, str(error)))
        except asyncio.CancelledError:
            log.info("job released")
            await asyncio.shield(asyncio.to_thread(_end_claim, self._jobs.release, claim))
            raise
        except Exception as error:
            log.exception("job failed")
            tracing.fail(span, error)
            message = f"rendering failed: {type(error).__name__}. Try again; if it persists, ask the operator."
            await self._fail(claim, JobError("internal", message))
        finally:
            for task in (rendering, lease):
                task.cancel()
            await asyncio.gather(rendering, lease, return_exceptions=True)

    async def _render(self, claim: Claim, progress: Progress) -> None:
        rendering = JobRendering(
            claim,
            self._jobs,
            self._replica_calls,
            self._make_plans,
            self._settings,
            self._slots,
            self._call_size,
            self._meters,
            progress,
        )
        await rendering.run()

    async def _fail(self, claim: Claim, error: JobError) -> None:
        if await asyncio.to_thread(_end_claim, partial(self._jobs.fail, error=error), claim):
            self._meters.jobs_ended.add(1, JobStatus.FAILED.value)

    async def _keep_claim(self, claim: Claim, progress: Progress) -> None:
        """Renew the claim and record the progress. Raises FencedError as soon as it is lost, usually because the job was cancelled."""
        changed = self._changed[claim.job.job_id] = asyncio.Event()
        try:
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), self._settings.renew_s)
                changed.clear()
                job = await asyncio.to_thread(self._jobs.renew, claim, progress.work_done)
                if job.status is not JobStatus.IN_PROGRESS:
                    raise FencedError(job.job_id, f"it is {job.status}")
        finally:
            if self._changed.get(claim.job.job_id) is changed:  # unless a later claim has replaced it
                del self._changed[claim.job.job_id]


def _end_claim(end: Callable[[Claim], Job], claim: Claim) -> bool:
    """End a claim. Returns False if it was lost already."""
    try:
        end(claim)
    except FencedError as error:
        log.info("claim was lost already: %s", error)
        return False
    return True
