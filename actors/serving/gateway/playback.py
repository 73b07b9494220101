"""Delivery of videos, finished or in progress: changes of their state, streams, HLS, files and thumbnails."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from contextlib import aclosing, suppress
from dataclasses import dataclass

from emotivetalk.actors.errors import JobNotFoundError, VideoCancelledError, VideoFailedError, VideoNotReadyError
from emotivetalk.actors.serving.gateway.http.playlist import playlist_text
from emotivetalk.actors.serving.gateway.watching import JobWatcher
from emotivetalk.actors.serving.intake.submission import Caller
from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore, read_pieces
from emotivetalk.actors.serving.jobs.files import JobFiles
from emotivetalk.actors.serving.jobs.store import Job, JobStatus, JobStore, Segment
from emotivetalk.actors.serving.observing import logs
from emotivetalk.actors.serving.threads import in_thread
from emotivetalk.errors import InputError
from emotivetalk.media.fragments import first_frame_jpeg

JOB_ID = re.compile(r"video_[0-9a-f]{32}")


@dataclass(frozen=True)
class Content:
    """A finished video: artifact path, size in bytes, and a strong ETag with its quotes."""

    path: str
    size: int
    etag: str


class Playback:
    """Reads videos from the job store and the artifact store. Blocking calls run in threads.

    All methods that take a job's id raise JobNotFoundError, also if the job belongs to another caller. An instance belongs
    to one event loop.

    Args:
        io: runs the blocking calls.
        poll_s: seconds between two looks at the jobs that are watched.
        hls_target_s: upper bound on the length of a segment in a playlist, in seconds.
    """

    def __init__(
        self, jobs: JobStore, artifacts: ArtifactStore, io: Executor, *, poll_s: float, hls_target_s: float
    ) -> None:
        self._jobs, self._artifacts, self._io, self._hls_target_s = jobs, artifacts, io, hls_target_s
        self._watcher = JobWatcher(jobs, poll_s)

    def close(self) -> None:
        """Stop watching jobs."""
        self._watcher.close()

    async def job(self, caller: Caller, job_id: str) -> Job:
        """Return the job's current state."""
        return await in_thread(self._io, self._jobs.get, checked_id(job_id), caller.name)

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
                    yield await self._read(JobFiles(self._artifacts, job_id).init)
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
        job = await self.job(caller, job_id)
        check_not_lost(job)
        if job.result is None:
            raise VideoNotReadyError(job.job_id, job.status, job.progress)
        size = await in_thread(self._io, self._artifacts.size, job.result)
        return Content(job.result, size, f'"{job.job_id}-{job.completed_at:.0f}"')

    def read(self, content: Content, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `start` to `stop` (exclusive; None is the end), in pieces of at most 256 KiB."""
        stop = content.size if stop is None else min(stop, content.size)
        return read_pieces(self._io, self._artifacts, content.path, start, stop)

    async def init_segment(self, caller: Caller, job_id: str) -> bytes:
        """Return the head of the stream (ftyp and moov).

        Raises:
            VideoNotReadyError: no segment is published yet.
        """
        job = await self.job(caller, job_id)
        if job.next_segment == 0:
            raise VideoNotReadyError(job.job_id, job.status, job.progress)
        return await self._read(JobFiles(self._artifacts, job.job_id).init)

    async def segment(self, caller: Caller, job_id: str, index: int) -> bytes:
        """Return a published fragment.

        Raises:
            InputError: code "segment_not_found": no segment with this index is published.
        """
        job = await self.job(caller, job_id)
        found = await in_thread(self._io, self._jobs.segments, job.job_id, index) if index < job.next_segment else []
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
        job = await self.job(caller, job_id)
        check_not_lost(job)
        segments = await in_thread(self._io, self._jobs.segments, job.job_id)
        return playlist_text(segments, job.status is JobStatus.COMPLETED, self._hls_target_s)

    async def thumbnail(self, caller: Caller, job_id: str) -> bytes:
        """Return a JPEG of the video's first frame.

        Raises:
            VideoNotReadyError: no segment is published yet.
            VideoFailedError, VideoCancelledError: there is none.
        """
        job = await self.job(caller, job_id)
        if job.next_segment == 0:
            check_not_lost(job)
            raise VideoNotReadyError(job.job_id, job.status, job.progress)
        first = (await in_thread(self._io, self._jobs.segments, job.job_id))[0]
        data = await self._read(JobFiles(self._artifacts, job.job_id).init) + await self._read(first.path)
        return await in_thread(self._io, first_frame_jpeg, data)

    async def _read(self, path: str) -> bytes:
        return await in_thread(self._io, self._artifacts.read, path)


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
