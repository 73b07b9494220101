"""The loop that turns the rows of batches into jobs, a bounded number at a time, and collects their videos.

Any gateway may run it: a batch is worked on by the one that holds its lease, and another continues where that one stops. A
row's video has an idempotency key made of batch and row, so no row gets two.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from emotivetalk.actors.errors import FencedError, JobNotFoundError, OverloadError
from emotivetalk.actors.serving.batches.lines import ManifestError, read_rows, split_line
from emotivetalk.actors.serving.batches.results import write_results
from emotivetalk.actors.serving.batches.service import BatchService, content_path
from emotivetalk.actors.serving.gateway.settings import GatewaySettings
from emotivetalk.actors.serving.intake.submission import Caller, Submission
from emotivetalk.actors.serving.jobs.batch_records import Batch, BatchClaim, BatchRow, BatchStatus, RowStatus
from emotivetalk.actors.serving.jobs.records import Job, JobStatus
from emotivetalk.actors.serving.jobs.store import JobStore
from emotivetalk.errors import EmotiveTalkError, InputError
from emotivetalk.timebase import FRAME_RATE_HZ

log = logging.getLogger(__name__)

BATCHES_AT_ONCE = 4
_ROWS_PER_INSERT = 1000
_ENDED_AT_ONCE = 50


class Videos(Protocol):
    """The part of `VideoService` that batches use."""

    jobs: JobStore
    batches: BatchService
    settings: GatewaySettings

    async def create(
        self, caller: Caller, submission: Submission, *, idempotency_key: str | None = None, batch_id: str | None = None
    ) -> tuple[Job, bool]: ...

    async def cancel(self, caller: Caller, job_id: str) -> Job: ...

    def upload_folder(self) -> AbstractAsyncContextManager[Path]: ...


class Front(Protocol):
    """How a front door reads a request and writes a video."""

    def check_body(self, body: dict[str, Any]) -> object:
        """Raise EmotiveTalkError if the body of `POST /v1/videos` is invalid."""
        ...

    def submission(self, body: dict[str, Any], folder: Path) -> Submission:
        """Return the body as a submission, with inline files written to the folder."""
        ...

    def describe(self, job: Job) -> dict[str, Any]:
        """Return the JSON of a video."""
        ...


class BatchRunner:
    """Claims batches and runs at most `BATCHES_AT_ONCE` of them at a time, each in an asyncio task.

    Args:
        worker: name of this runner in its claims.
    """

    def __init__(self, videos: Videos, front: Front, worker: str) -> None:
        self._videos, self._front, self._worker = videos, front, worker
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Work until cancelled; then release the claimed batches."""
        store = self._videos.batches.store
        try:
            while True:
                try:
                    while len(self._running) < BATCHES_AT_ONCE and (
                        claim := await asyncio.to_thread(store.claim, self._worker)
                    ):
                        task = asyncio.create_task(BatchRun(claim, self._videos, self._front).run())
                        self._running.add(task)
                        task.add_done_callback(self._running.discard)
                except EmotiveTalkError as error:
                    log.warning("batches cannot be claimed: %s", error)
                await asyncio.sleep(self._videos.settings.batches.poll_s)
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)


class BatchRun:
    """The work on one claimed batch, up to its end or until the claim is lost."""

    def __init__(self, claim: BatchClaim, videos: Videos, front: Front) -> None:
        self._claim, self._videos, self._front = claim, videos, front
        self._store, self._service = videos.batches.store, videos.batches
        self._settings = videos.settings.batches
        self._batch_id = claim.batch.batch_id
        owner = claim.batch.owner
        self._caller = Caller(owner, videos.settings.limits_of(owner))
        self._submitting: dict[int, asyncio.Task[None]] = {}
        self._wait_until = 0.0
        self._is_stopping = False

    async def run(self) -> None:
        """Work on the batch. Errors of the stores release it, so that it is taken up again."""
        work, lease = asyncio.create_task(self._work()), asyncio.create_task(self._keep_claim())
        try:
            await asyncio.wait((work, lease), return_when=asyncio.FIRST_COMPLETED)
            await (work if work.done() else lease)
        except FencedError as error:
            log.info("claim lost: %s", error)
        except asyncio.CancelledError:
            await asyncio.shield(self._release())
            raise
        except Exception:
            log.exception("batch %s stopped; it is tried again", self._batch_id)  # after its lease: no tight loop
        finally:
            tasks = [work, lease, *self._submitting.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _release(self) -> None:
        with suppress(EmotiveTalkError):
            await asyncio.to_thread(self._store.release, self._claim)

    async def _keep_claim(self) -> None:
        while True:
            await asyncio.sleep(self._videos.jobs.lease_s / 3)
            await asyncio.to_thread(self._store.renew, self._claim)

    async def _work(self) -> None:
        batch = await asyncio.to_thread(self._store.renew, self._claim)
        if batch.status is BatchStatus.VALIDATING and not await asyncio.to_thread(self._validate, batch):
            return
        while True:
            batch = await asyncio.to_thread(self._store.renew, self._claim)
            if batch.status is BatchStatus.CANCELLING:
                await self._stop_rows("batch_cancelled", "the batch was cancelled")
            elif batch.status is BatchStatus.IN_PROGRESS and self._videos.jobs.clock() > batch.expires_at:
                await self._stop_rows("batch_expired", "the batch's completion_window ended")
            await asyncio.to_thread(self._collect, batch)
            if batch.status is BatchStatus.IN_PROGRESS:
                await self._submit_rows()
            if batch.status is BatchStatus.FINALIZING or await self._is_done():
                await asyncio.to_thread(self._finalize)
                return
            await asyncio.sleep(self._settings.poll_s)

    # ------------------------------------------------------------------------------------------------------- validating

    def _validate(self, batch: Batch) -> bool:
        """Read the manifest into rows. A manifest that cannot be used ends the batch, and gives False."""
        self._store.clear_rows(self._claim)
        try:
            manifest = self._store.file(batch.input_file_id, batch.owner)
            pending: list[BatchRow] = []
            with self._service.artifacts.open(content_path(manifest)) as file:
                for row in read_rows(
                    file,
                    self._batch_id,
                    self._front.check_body,
                    max_rows=self._settings.max_rows,
                    max_line_bytes=self._videos.settings.max_body_mb * 1_000_000,
                ):
                    pending.append(row)
                    if len(pending) == _ROWS_PER_INSERT:
                        self._store.add_rows(self._claim, pending)
                        pending = []
            self._store.add_rows(self._claim, pending)
        except InputError as error:
            reason = {"code": error.code, "message": str(error), "line": None, "param": None}
            if isinstance(error, ManifestError):
                reason["line"] = error.line
            self._store.clear_rows(self._claim)
            self._store.set_status(self._claim, BatchStatus.FAILED, errors=[reason])
            return False
        begun = self._store.begin(self._claim)
        log.info("batch %s has %d rows, %d of them broken", self._batch_id, begun.num_total, begun.num_failed)
        return True

    # ------------------------------------------------------------------------------------------------------------- rows

    async def _submit_rows(self) -> None:
        """Begin to submit rows until as many as allowed are with the director."""
        self._submitting = {index: task for index, task in self._submitting.items() if not task.done()}
        loop = asyncio.get_running_loop()
        if loop.time() < self._wait_until or len(self._submitting) >= self._settings.rows_preparing:
            return
        num_submitted = await asyncio.to_thread(self._store.count_rows, self._batch_id, RowStatus.SUBMITTED)
        room = self._settings.rows_ahead - num_submitted - len(self._submitting)
        rows = await asyncio.to_thread(self._store.pending_rows, self._batch_id, max(0, room) + len(self._submitting))
        waiting = [row for row in rows if row.index not in self._submitting]
        # Each task takes every n-th row, so that preparing goes on without waiting for the next poll.
        lanes = self._settings.rows_preparing - len(self._submitting)
        for lane in range(lanes):
            if share := waiting[lane::lanes]:
                self._submitting[share[0].index] = asyncio.create_task(self._submit_each(share))

    async def _submit_each(self, rows: list[BatchRow]) -> None:
        for row in rows:
            if self._is_stopping or not await self._submit(row):
                return

    async def _submit(self, row: BatchRow) -> bool:
        """Create the row's video, or record why it cannot be made. Returns False to try again later."""
        fail: Callable[..., None] = partial(self._store.fail_row, self._claim, row)
        try:
            manifest = await asyncio.to_thread(self._store.file, self._claim.batch.input_file_id)
            data = await asyncio.to_thread(
                self._service.artifacts.read_range, content_path(manifest), row.start, row.stop
            )
            async with self._videos.upload_folder() as folder:
                _, body = split_line(data.decode("utf-8-sig"))
                submission = await asyncio.to_thread(self._front.submission, body, folder)
                job, _ = await self._videos.create(
                    self._caller,
                    submission,
                    idempotency_key=f"{self._batch_id}-{row.index}",
                    batch_id=self._batch_id,
                )
            await asyncio.to_thread(self._store.submit_row, self._claim, row, job.job_id)
        except FencedError:
            raise
        except OverloadError as error:
            self._wait_until = asyncio.get_running_loop().time() + (error.retry_after_s or 1.0)
            return False
        except InputError as error:
            await asyncio.to_thread(fail, error.code, str(error))
        except EmotiveTalkError as error:
            log.warning("batch %s: row %d is tried again: %s", self._batch_id, row.line, error)
            self._wait_until = asyncio.get_running_loop().time() + 5.0
            return False
        except Exception:
            log.exception("batch %s: row %d cannot be submitted", self._batch_id, row.line)
            await asyncio.to_thread(fail, "internal", "the service cannot make this video; the reason is in its log.")
        return True

    def _collect(self, batch: Batch) -> None:
        """Record the results of videos that have ended."""
        for row, job in self._store.ended_rows(self._batch_id, _ENDED_AT_ONCE):
            if job is None:
                self._store.fail_row(self._claim, row, "video_deleted", "the video was deleted before the batch ended.")
            elif job.status is JobStatus.COMPLETED and job.result is not None:
                self._store.complete_row(
                    self._claim,
                    row,
                    attempts=job.attempt,
                    video_s=job.num_frames / FRAME_RATE_HZ,
                    device_s=job.device_s or 0.0,
                    sha256=self._sha256(job.result),
                )
            elif job.error is not None:
                self._store.fail_row(self._claim, row, job.error.code, job.error.message, job.attempt)
            elif batch.status is BatchStatus.CANCELLING:
                self._store.fail_row(self._claim, row, "batch_cancelled", "the batch was cancelled.", job.attempt)
            elif self._videos.jobs.clock() > batch.expires_at:
                self._store.fail_row(
                    self._claim, row, "batch_expired", "the batch's completion_window ended.", job.attempt
                )
            else:
                self._store.fail_row(self._claim, row, "video_cancelled", "the video was cancelled.", job.attempt)

    def _sha256(self, path: str) -> str:
        digest = hashlib.sha256()
        with self._service.artifacts.open(path) as file:
            while data := file.read(1 << 20):
                digest.update(data)
        return digest.hexdigest()

    async def _stop_rows(self, code: str, reason: str) -> None:
        """End all rows: those without a video fail, and the videos of the others are cancelled."""
        self._is_stopping = True
        await asyncio.gather(
            *self._submitting.values()
        )  # not cancelled: a video may be created without its row's knowledge
        self._submitting = {}
        await asyncio.to_thread(self._store.fail_pending_rows, self._claim, code, f"{reason}.")
        for job_id in await asyncio.to_thread(self._store.unfinished_jobs, self._batch_id):
            with suppress(JobNotFoundError):
                await self._videos.cancel(self._caller, job_id)

    async def _is_done(self) -> bool:
        for status in (RowStatus.PENDING, RowStatus.SUBMITTED):
            if await asyncio.to_thread(self._store.count_rows, self._batch_id, status):
                return False
        return not any(not task.done() for task in self._submitting.values())

    # -------------------------------------------------------------------------------------------------------- finishing

    def _finalize(self) -> None:
        """Write the files of results, and end the batch."""
        batch = self._store.renew(self._claim)
        if batch.status is BatchStatus.IN_PROGRESS:
            batch = self._store.set_status(self._claim, BatchStatus.FINALIZING)
        results = write_results(batch, self._service, self._videos.jobs, self._front.describe)
        status = BatchStatus.COMPLETED
        if batch.cancelling_at is not None:
            status = BatchStatus.CANCELLED
        elif results.has_expired_rows:
            status = BatchStatus.EXPIRED
        self._store.set_status(
            self._claim, status, output_file_id=results.output_file_id, error_file_id=results.error_file_id
        )
        log.info("batch %s %s: %d of %d rows", self._batch_id, status.value, batch.num_completed, batch.num_total)
