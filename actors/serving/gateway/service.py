"""The service behind HTTP and gRPC.

Each transport turns a message into a `Submission`, and the errors of the service into its own status
(`gateway/errors.py`). The service does not render: it writes jobs to the job store and files to the artifact store, and
reads results from there.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from emotivetalk.actors.errors import (
    ArtifactStoreError,
    JobNotFoundError,
    OverloadError,
    QueueFullError,
    TooManyJobsError,
    UnauthorizedError,
    VideoCancelledError,
    VideoFailedError,
    VideoNotReadyError,
)
from emotivetalk.actors.serving.batches.service import BatchService, stored_folder
from emotivetalk.actors.serving.gateway.admission import Admission
from emotivetalk.actors.serving.gateway.http.playlist import playlist_text
from emotivetalk.actors.serving.gateway.live_session import LiveHeader
from emotivetalk.actors.serving.gateway.rate_limit import TokenBucket
from emotivetalk.actors.serving.gateway.settings import GatewaySettings
from emotivetalk.actors.serving.gateway.watching import JobWatcher
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
from emotivetalk.actors.serving.jobs.files import JobFiles
from emotivetalk.actors.serving.jobs.records import Outlook
from emotivetalk.actors.serving.jobs.store import Job, JobPage, JobStatus, JobStore, Segment
from emotivetalk.actors.serving.observing import logs
from emotivetalk.actors.serving.threads import in_thread
from emotivetalk.errors import InputError, InvalidRequestError
from emotivetalk.media.fragments import first_frame_jpeg
from emotivetalk.media.image import load_image
from emotivetalk.request import Emotion, ImageEmotion, InputSettings, VideoEmotion, VideoRequest, checked

__all__ = ["Caller", "Content", "Intake", "ServedModel", "Source", "Submission", "Upload", "VideoService"]

JOB_ID = re.compile(r"video_[0-9a-f]{32}")
READ_BYTES = 1 << 18
RETRY_AFTER_S = 5.0
MAX_WAITING = 16  # requests that may wait for each process that checks inputs
IO_THREADS = 16
READY_S = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Content:
    """A finished video: artifact path, size in bytes, and a strong ETag with its quotes."""

    path: str
    size: int
    etag: str


class VideoService:
    """Creates, reports, streams and removes videos. Blocking calls run in threads.

    All methods that take a job's id raise JobNotFoundError, also if the job belongs to another caller. An instance belongs
    to one event loop; instances in several processes share their stores.

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
        self._watcher = JobWatcher(jobs, settings.poll_s)
        self.batches = BatchService(jobs, artifacts, settings.batches, self._io)

    def close(self) -> None:
        """Finish the work of the threads and end them."""
        self._watcher.close()
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

    async def thumbnail(self, caller: Caller, job_id: str) -> bytes:
        """Return a JPEG of the video's first frame.

        Raises:
            VideoNotReadyError: no segment is published yet.
            VideoFailedError, VideoCancelledError: there is none.
        """
        job = await self.get(caller, job_id)
        if job.next_segment == 0:
            check_not_lost(job)
            raise VideoNotReadyError(job.job_id, job.status, job.progress)
        first = (await in_thread(self._io, self.jobs.segments, job.job_id))[0]
        data = await self._read(JobFiles(self.artifacts, job.job_id).init) + await self._read(first.path)
        return await in_thread(self._io, first_frame_jpeg, data)

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
        return await in_thread(self._io, self.jobs.get, checked_id(job_id), caller.name)

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

    # --------------------------------------------------------------------------------------------- progress, content

    async def watch(self, caller: Caller, job_id: str) -> AsyncGenerator[Job, None]:
        """Yield the job now and whenever its status, frames or progress change, until it has ended."""
        last: tuple[JobStatus, int, int] | None = None
        async with aclosing(self._watcher.states(checked_id(job_id), caller.name)) as states:
            async for job in states:
                if (job.status, job.frames_done, job.progress) != last:
                    last = (job.status, job.frames_done, job.progress)
                    yield job

    async def segments(self, caller: Caller, job_id: str, first: int = 0) -> AsyncGenerator[Segment, None]:
        """Yield segments from index `first` on as they are published, up to the last one of a completed video.

        Raises:
            VideoFailedError, VideoCancelledError: no more segments will come.
        """
        async with aclosing(self._watcher.published(checked_id(job_id), caller.name)) as states:
            async for job, published in states:
                while first < len(published):
                    yield published[first]
                    first += 1
                check_not_lost(job)

    async def stream(self, caller: Caller, job_id: str, first_segment: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the video while it is being made: the initialisation segment, then each fragment from `first_segment` on.

        From segment 0 on, the concatenation is the finished file.

        Raises:
            VideoFailedError, VideoCancelledError: the rest will not come.
        """
        is_first = True
        async with aclosing(self.segments(caller, job_id, first_segment)) as segments:
            async for segment in segments:
                if is_first:
                    is_first = False
                    yield await self._read(JobFiles(self.artifacts, job_id).init)
                yield await self._read(segment.path)

    async def wait_for_segment(self, caller: Caller, job_id: str, timeout_s: float) -> None:
        """Wait until the first segment is published, or for `timeout_s`.

        Raises:
            VideoFailedError, VideoCancelledError: no segment will come.
        """
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(timeout_s),
                aclosing(self._watcher.states(checked_id(job_id), caller.name)) as states,
            ):
                async for job in states:
                    check_not_lost(job)
                    if job.next_segment > 0:
                        return

    async def content(self, caller: Caller, job_id: str) -> Content:
        """Locate the finished video.

        Raises:
            VideoNotReadyError: it is not finished yet.
            VideoFailedError, VideoCancelledError: it will not be finished.
        """
        job = await self.get(caller, job_id)
        check_not_lost(job)
        if job.result is None:
            raise VideoNotReadyError(job.job_id, job.status, job.progress)
        size = await in_thread(self._io, self.artifacts.size, job.result)
        return Content(job.result, size, f'"{job.job_id}-{job.completed_at:.0f}"')

    async def read(self, content: Content, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `start` to `stop` (exclusive; None is the end), in pieces of at most 256 KiB."""
        stop = content.size if stop is None else min(stop, content.size)
        for at in range(start, stop, READ_BYTES):
            yield await in_thread(self._io, self.artifacts.read_range, content.path, at, min(at + READ_BYTES, stop))

    async def init_segment(self, caller: Caller, job_id: str) -> bytes:
        """Return the head of the stream (ftyp and moov).

        Raises:
            VideoNotReadyError: no segment is published yet.
        """
        job = await self.get(caller, job_id)
        if job.next_segment == 0:
            raise VideoNotReadyError(job.job_id, job.status, job.progress)
        return await self._read(JobFiles(self.artifacts, job.job_id).init)

    async def segment(self, caller: Caller, job_id: str, index: int) -> bytes:
        """Return a published fragment.

        Raises:
            InputError: code "segment_not_found": no segment with this index is published.
        """
        job = await self.get(caller, job_id)
        found = await in_thread(self._io, self.jobs.segments, job.job_id, index) if index < job.next_segment else []
        if not found or found[0].index != index:
            raise InputError(
                "segment_not_found", f"video {job.job_id} has no segment {index} yet", "Read the playlist again."
            )
        return await self._read(found[0].path)

    async def playlist(self, caller: Caller, job_id: str) -> str:
        """Return the HLS playlist of the published segments: EVENT while it grows, VOD when the video is complete.

        Its URIs, `init.mp4` and `segments/<index>.m4s`, are relative to the playlist's own. It is empty before the first
        segment; players read a playlist that grows again by themselves.

        Raises:
            VideoFailedError, VideoCancelledError: the rest will not come.
        """
        job = await self.get(caller, job_id)
        check_not_lost(job)
        segments = await in_thread(self._io, self.jobs.segments, job.job_id)
        return playlist_text(segments, job.status is JobStatus.COMPLETED, self.settings.hls_target_s)

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

    async def _read(self, path: str) -> bytes:
        return await in_thread(self._io, self.artifacts.read, path)


def checked_id(job_id: str) -> str:
    """Return a well-formed id, and add it to the log's context.

    Raises:
        JobNotFoundError: it is malformed (NUL bytes, megabytes), and must not reach a database.
    """
    if not JOB_ID.fullmatch(job_id):
        raise JobNotFoundError(job_id if len(job_id) <= 64 and job_id.isprintable() else "with this id")
    logs.about(job_id)
    return job_id


def check_not_lost(job: Job) -> None:
    """Raise VideoFailedError or VideoCancelledError if the job failed or was cancelled."""
    if job.status is JobStatus.FAILED:
        error = job.error
        raise VideoFailedError(
            job.job_id, error.code if error else "", error.message if error else "the reason is unknown"
        )
    if job.status is JobStatus.CANCELLED:
        raise VideoCancelledError(job.job_id)


def is_loopback(peer: str | None) -> bool:
    """Return True if a connection comes from this machine; False if its address is unknown."""
    try:
        address = ipaddress.ip_address(peer or "")
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
