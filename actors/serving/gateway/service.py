"""The service behind HTTP and gRPC.

Each transport turns a message into a `Submission`, and the errors of the service into its own status
(`gateway/errors.py`). The service does not render: it writes jobs to the job store and files to the artifact store, and
reads results from there.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from emotivetalk.actors.errors import (
    ArtifactStoreError,
    OverloadError,
    QueueFullError,
    TooManyJobsError,
    UnauthorizedError,
)
from emotivetalk.actors.serving.batches.service import BatchService, stored_folder
from emotivetalk.actors.serving.gateway.admission import Admission
from emotivetalk.actors.serving.gateway.live_session import LiveHeader
from emotivetalk.actors.serving.gateway.playback import Playback, checked_id
from emotivetalk.actors.serving.gateway.rate_limit import TokenBucket
from emotivetalk.actors.serving.gateway.settings import GatewaySettings
from emotivetalk.actors.serving.intake.preparation import Intake, PreparedPortraits, prepare_inputs, temporary_folder
from emotivetalk.actors.serving.intake.storage import store_job, store_remix
from emotivetalk.actors.serving.intake.submission import (
    Caller,
    ServedModel,
    Source,
    Submission,
    Upload,
    check_submission,
)
from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.jobs.batch_records import StoredFile
from emotivetalk.actors.serving.jobs.records import Outlook
from emotivetalk.actors.serving.jobs.store import Job, JobPage, JobStatus, JobStore
from emotivetalk.actors.serving.observing import logs
from emotivetalk.actors.serving.threads import in_thread
from emotivetalk.errors import InputError, InvalidRequestError
from emotivetalk.media.image import load_image
from emotivetalk.request import Emotion, ImageEmotion, InputSettings, VideoEmotion, VideoRequest, checked

__all__ = ["Caller", "Intake", "ServedModel", "Source", "Submission", "Upload", "VideoService"]

RETRY_AFTER_S = 5.0
MAX_WAITING = 16  # requests that may wait for each process that checks inputs
IO_THREADS = 16
READY_S = 2.0

log = logging.getLogger(__name__)


class VideoService:
    """Creates, reports and removes videos. Blocking calls run in threads.

    All methods that take a job's id raise JobNotFoundError, also if the job belongs to another caller. An instance belongs
    to one event loop; instances in several processes share their stores. `playback` delivers videos, `batches` holds
    files and batches.

    Args:
        on_change: called with the id of each job that was created, cancelled or deleted, so that the directors need not
            wait for their next poll.

    Raises:
        SettingsError: the tokens cannot be read, or no caller could be admitted.
    """

    def __init__(
        self,
        jobs: JobStore,
        artifacts: ArtifactStore,
        settings: GatewaySettings,
        model: ServedModel,
        tools: Intake | None = None,
        on_change: Callable[[str], None] = lambda job_id: None,
    ) -> None:
        self.jobs = jobs
        self.artifacts = artifacts
        self.settings = settings
        _ = settings.tokens  # read now, so that a deployment with invalid tokens fails at its start
        self.model = model
        self._tools, self._on_change = tools or Intake(), on_change
        self._portraits = PreparedPortraits()
        self._buckets: dict[str, TokenBucket] = {}
        self._preparing = asyncio.Semaphore(settings.max_preparing)
        self._num_waiting = 0
        self.admission = Admission(settings)
        self._ready_until = 0.0
        self._checking: asyncio.Task[None] | None = None
        self._health = ThreadPoolExecutor(2, "gateway-health")  # health checks wait behind nothing else
        self._io = ThreadPoolExecutor(IO_THREADS, "gateway-io")
        self._preparers = ThreadPoolExecutor(settings.max_preparing, "gateway-prepare")
        self.playback = Playback(jobs, artifacts, self._io, poll_s=settings.poll_s, hls_target_s=settings.hls_target_s)
        self.batches = BatchService(jobs, artifacts, settings.batches, self._io)

    def close(self) -> None:
        """Finish the work of the threads and end them."""
        self.playback.close()
        self._health.shutdown()
        self._io.shutdown()
        self._preparers.shutdown()

    # ------------------------------------------------------------------------------------------------------- access

    def authenticate(self, token: str | None, peer: str | None) -> Caller:
        """Return the caller of this bearer token. Call it before reading a body.

        Args:
            token: without the word "Bearer"; None if there was none.
            peer: remote address of the connection; anonymous callers must be on this machine.

        Raises:
            UnauthorizedError: the token is missing or unknown.
        """
        if token is not None and (name := self.settings.token_name(token)) is not None:
            return Caller(name, self.settings.limits_of(name))
        # Some clients always send a token. If the service has none, it is ignored.
        if self.settings.allow_anonymous and (token is None or not self.settings.tokens):
            if is_loopback(peer):
                return Caller("", self.settings.limits_of(""))
            raise UnauthorizedError("callers from other machines need a bearer token")
        raise UnauthorizedError()

    def admit(self, caller: Caller) -> None:
        """Count a request against the caller's rate.

        Raises:
            RateLimitedError: the rate is exceeded.
        """
        bucket = self._buckets.get(caller.name)
        if bucket is None:
            bucket = self._buckets[caller.name] = TokenBucket(caller.limits.requests_per_minute)
        bucket.take()

    async def check_capacity(self, caller: Caller) -> None:
        """Refuse a request that `create` would refuse, before its upload is read. `create` makes the final decision.

        Raises:
            QueueFullError, TooManyJobsError: with `retry_after_s`.
        """
        of_caller = await in_thread(self._io, partial(self.jobs.counts, caller.name, single=True))
        if (
            sum(count for status, count in of_caller.items() if not status.is_terminal)
            >= caller.limits.max_concurrent_jobs
        ):
            raise TooManyJobsError(caller.limits.max_concurrent_jobs, RETRY_AFTER_S)
        of_all = await in_thread(self._io, partial(self.jobs.counts, single=True))
        if of_all.get(JobStatus.QUEUED, 0) >= self.settings.max_queued:
            raise QueueFullError(self.settings.max_queued, RETRY_AFTER_S)

    def upload_folder(self) -> AbstractAsyncContextManager[Path]:
        """Make a private folder for one request's uploads, which is removed when the context ends."""
        return temporary_folder(self.settings, self._io)

    # --------------------------------------------------------------------------------------------------------- jobs

    async def create(
        self,
        caller: Caller,
        submission: Submission,
        *,
        idempotency_key: str | None = None,
        batch_id: str | None = None,
    ) -> tuple[Job, bool]:
        """Check and store the inputs, then write one job. A failure leaves nothing behind.

        A task that is cancelled before the job is written leaves nothing either; afterwards the job stays.

        Args:
            batch_id: the batch that the video is a row of.

        Returns:
            The job, and True if it is new (False: the same request came before under this key).

        Raises:
            InputError: an input is invalid, as for `emotivetalk generate`.
            IdempotencyConflictError: the key came with another request.
            QueueFullError, TooManyJobsError, OverloadError: try again after `retry_after_s`.
        """
        check_submission(submission, idempotency_key, self.settings, self.model)
        async with self.upload_folder() as folder:
            async with self._place_to_prepare():
                prepared = await prepare_inputs(
                    submission,
                    caller,
                    folder,
                    self.settings,
                    self.model,
                    self._preparers,
                    self._tools,
                    self.batches.fetch_file,
                    self._portraits,
                )
            job, is_new = await in_thread(
                self._io,
                store_job,
                submission,
                prepared,
                caller,
                idempotency_key,
                self.settings,
                self.model,
                self.jobs,
                self.artifacts,
                batch_id,
            )
        self._on_change(job.job_id)
        logs.about(job.job_id)
        log.info("job created" if is_new else "job requested again", extra={"owner": job.owner})
        return job, is_new

    async def remix(self, caller: Caller, job_id: str, emotion: Emotion | None, settings: Mapping[str, object]) -> Job:
        """Create a video with the portrait and speech of another one, and another emotion.

        Args:
            emotion: by label, text, track or speech; None is the portrait's own expression.
            settings: sampling settings that differ from the source's, such as its seed.

        Raises:
            InputError: the emotion needs a file.
            VideoFailedError, VideoCancelledError: the source has no inputs to be trusted.
            QueueFullError, TooManyJobsError: try again after `retry_after_s`.
        """
        if isinstance(emotion, ImageEmotion | VideoEmotion):
            raise InputError(
                "remix_needs_upload", f"a remix takes no {emotion.kind} of an emotion", "Create a new video with it."
            )
        source = await self.get(caller, job_id)
        before = VideoRequest.model_validate(source.request)
        request = checked(VideoRequest, **{**dict(before), "emotion": emotion, **settings})
        job = await in_thread(
            self._io, store_remix, source, request, caller, self.settings, self.model, self.jobs, self.artifacts
        )
        self._on_change(job.job_id)
        logs.about(job.job_id)
        log.info("job created as a remix of %s", source.job_id, extra={"owner": job.owner})
        return job

    async def create_character(self, caller: Caller, picture: Upload, name: str) -> StoredFile:
        """Store a picture that shows one face, under a name.

        Raises:
            InputError: as for a portrait.
        """
        async with self.upload_folder() as folder, self._place_to_prepare():
            await in_thread(
                self._preparers,
                partial(
                    self._tools.prepare_portrait,
                    picture.path,
                    folder,
                    image_size=self.model.image_size,
                    input_settings=InputSettings(),
                    limits=self.settings.media_limits(caller.name),
                    timeout_s=self.settings.prepare_timeout_s,
                    name=picture.name,
                ),
            )
        return await self.batches.create_file(caller, Upload(name, picture.path), "character")

    async def prepare_portrait(self, caller: Caller, header: LiveHeader) -> UInt8[np.ndarray, "side side 3"]:
        """Check and frame the portrait of a live call as `create` does. Nothing is stored.

        Raises:
            InputError: the portrait is invalid, as for `emotivetalk generate`.
            OverloadError: try again after `retry_after_s`.
        """
        async with self.upload_folder() as folder, self._place_to_prepare():
            upload = folder / "portrait"
            await in_thread(self._io, upload.write_bytes, header.portrait)
            prepared = await in_thread(
                self._preparers,
                self._tools.prepare_portrait,
                upload,
                folder,
                image_size=self.model.image_size,
                input_settings=InputSettings.of(header.settings),
                limits=self.settings.media_limits(caller.name),
                timeout_s=self.settings.prepare_timeout_s,
                name=header.portrait_name,
            )
            return await in_thread(self._io, load_image, prepared)

    @asynccontextmanager
    async def _place_to_prepare(self) -> AsyncIterator[None]:
        """Wait for one of the few processes that check inputs.

        Raises:
            OverloadError: too many requests wait.
        """
        if self._num_waiting >= MAX_WAITING * self.settings.max_preparing:
            raise OverloadError(
                "gateway_busy", f"{self._num_waiting} requests wait for their inputs to be checked", RETRY_AFTER_S
            )
        self._num_waiting += 1
        try:
            await self._preparing.acquire()
        finally:
            self._num_waiting -= 1
        try:
            yield
        finally:
            self._preparing.release()

    async def get(self, caller: Caller, job_id: str) -> Job:
        """Return the job's current state."""
        return await self.playback.job(caller, job_id)

    async def outlook(self, job: Job) -> Outlook | None:
        """Return when an unfinished job will probably end; None for one that has ended."""
        return None if job.status.is_terminal else await in_thread(self._io, self._outlook, job)

    def _outlook(self, job: Job) -> Outlook:
        is_queued = job.status is JobStatus.QUEUED
        num_before, frames = self.jobs.position(job) if is_queued else (None, 0)
        frames += job.num_frames - max(job.frames_done, int(job.num_frames * (job.work_done or 0.0)))
        speed = self.jobs.frames_per_second()
        return Outlook(num_before, round(frames / speed, 1) if speed else None)

    async def list(
        self,
        caller: Caller,
        *,
        limit: int = 20,
        after: str | None = None,
        order: Literal["asc", "desc"] = "desc",
        status: JobStatus | None = None,
    ) -> JobPage:
        """Return a page of the caller's jobs by time of creation, after the job with the id `after`.

        Raises:
            InputError: `limit` is not 1 to 100.
        """
        if not 1 <= limit <= 100:
            raise InvalidRequestError("limit", f"it is {limit}; the range is 1 to 100")
        if after is not None:
            checked_id(after)
        return await in_thread(
            self._io, self.jobs.list, caller.name, limit=limit, after=after, order=order, status=status
        )

    async def cancel(self, caller: Caller, job_id: str) -> Job:
        """Cancel the job. One that has ended does not change."""
        job = await in_thread(self._io, self.jobs.cancel, checked_id(job_id), caller.name)
        self._on_change(job.job_id)
        log.info("job cancelled", extra={"owner": job.owner})
        return job

    async def delete(self, caller: Caller, job_id: str) -> Job:
        """Cancel the job and remove its row and files."""
        before = await self.get(caller, job_id)
        job = await in_thread(self._io, self.jobs.delete, before.job_id, caller.name)
        self._on_change(job.job_id)
        log.info("job deleted", extra={"owner": job.owner})
        # A worker may still write files of a running job, so these wait for a later `sweep`.
        if before.status is not JobStatus.IN_PROGRESS:
            await in_thread(self._io, self._remove_files, job.job_id)
        return job

    async def sweep(self) -> int:
        """Remove expired jobs and the files of deleted ones. Call it regularly.

        Returns:
            The number of jobs whose files were removed.
        """
        return await in_thread(self._io, self._sweep)

    def _sweep(self) -> int:
        self.jobs.expire()
        self.batches.expire()
        return sum(self._remove_files(job_id) for job_id in self.jobs.pending_removals())

    def _remove_files(self, job_id: str) -> bool:
        """Return True on success; otherwise the job store keeps the job's id for the next sweep."""
        try:
            self.artifacts.remove(stored_folder(self.artifacts, job_id))
        except ArtifactStoreError as error:
            log.warning("files not removed: %s", error, extra={"video_id": job_id})
            return False
        self.jobs.record_removal(job_id)
        return True

    async def ready(self) -> None:
        """Raise EmotiveTalkError unless both stores can be used. A success is remembered for two seconds.

        Callers that come at the same time share one check.
        """
        if time.monotonic() < self._ready_until:
            return
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check_stores())
        await asyncio.shield(self._checking)

    async def check_jobs(self) -> None:
        """Raise JobStoreError unless the job store answers."""
        await in_thread(self._health, self.jobs.counts)

    async def _check_stores(self) -> None:
        await in_thread(self._health, self.jobs.check)
        await in_thread(self._health, self.artifacts.check)
        self._ready_until = time.monotonic() + READY_S


def is_loopback(peer: str | None) -> bool:
    """Return True if a connection comes from this machine; False if its address is unknown."""
    try:
        address = ipaddress.ip_address(peer or "")
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
