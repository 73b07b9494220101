"""Follow jobs for all streams of a process with one poll of the job store."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from emotivetalk.actors.errors import JobNotFoundError
from emotivetalk.actors.serving.jobs.store import Job, JobStore, Segment
from emotivetalk.actors.serving.threads import in_thread

log = logging.getLogger(__name__)


@dataclass
class _Followed:
    """A job that streams wait on.

    Attributes:
        job: its last state; None before the first look, and if it does not exist.
        segments: its published segments, if a stream wants them.
        version: number of states seen.
        is_new: the next look comes at once and reports the job even if its state is unchanged.
    """

    job: Job | None = None
    segments: list[Segment] = field(default_factory=list)
    with_segments: bool = False
    error: Exception | None = None
    version: int = 0
    is_new: bool = True
    num_streams: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, job: Job | None, segments: list[Segment], error: Exception | None) -> None:
        """Record a state and wake the streams."""
        self.job, self.error, self.is_new = job, error, False
        self.segments += segments
        self.version += 1
        self.changed.set()
        self.changed = asyncio.Event()


class JobWatcher:
    """Looks at all jobs that streams follow, every `poll_s` seconds, in a thread of its own.

    The cost grows with the number of jobs that change, not with the number of streams. An instance belongs to one event
    loop.
    """

    def __init__(self, jobs: JobStore, poll_s: float) -> None:
        self._jobs, self._poll_s = jobs, poll_s
        self._thread = ThreadPoolExecutor(1, "gateway-watch")
        self._followed: dict[str, _Followed] = {}
        self._polling: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    async def states(self, job_id: str, owner: str) -> AsyncGenerator[Job, None]:
        """Yield the job's state now and whenever it has changed, up to the final one. A slow reader skips states.

        Raises:
            JobNotFoundError: the job does not exist (any more), or belongs to another owner.
            JobStoreError: the job store cannot be used.
        """
        with self._following(job_id, with_segments=False) as followed:
            async for job in _states(followed, job_id, owner):
                yield job

    async def published(self, job_id: str, owner: str) -> AsyncGenerator[tuple[Job, list[Segment]], None]:
        """Yield states as `states` does, each with all segments published until then. The list is shared: copy it."""
        with self._following(job_id, with_segments=True) as followed:
            async for job in _states(followed, job_id, owner):
                yield job, followed.segments

    @contextmanager
    def _following(self, job_id: str, *, with_segments: bool) -> Iterator[_Followed]:
        followed = self._followed.setdefault(job_id, _Followed())
        followed.num_streams += 1
        if with_segments and not followed.with_segments:
            followed.with_segments = followed.is_new = True
        if followed.is_new:
            self._wake.set()
        if self._polling is None or self._polling.done():
            # An empty context: log lines of the poll do not carry the id of the video that came first.
            self._polling = asyncio.get_running_loop().create_task(self._poll(), context=contextvars.Context())
        try:
            yield followed
        finally:
            followed.num_streams -= 1
            if not followed.num_streams:
                self._followed.pop(job_id, None)

    async def _poll(self) -> None:
        """Look at the followed jobs until there are none. New ones are looked at at once, the others at their time."""
        due_at = 0.0
        while self._followed:
            self._wake.clear()
            is_due = time.monotonic() >= due_at
            looked_at = {name: one for name, one in self._followed.items() if is_due or one.is_new}
            if is_due:
                due_at = time.monotonic() + self._poll_s
            await self._look(looked_at)
            try:
                async with asyncio.timeout(max(0.0, due_at - time.monotonic())):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _look(self, followed: Mapping[str, _Followed]) -> None:
        known = {name: None if one.is_new else one.job for name, one in followed.items()}
        num_segments = {name: len(one.segments) for name, one in followed.items() if one.with_segments}
        try:
            changes, segments = await in_thread(self._thread, self._read, known, num_segments)
        except Exception as error:  # noqa: BLE001 every stream raises it
            log.warning("the followed videos cannot be read: %s", error)
            for one in followed.values():
                one.tell(None, [], error)
            return
        for name, job in changes.items():
            one = followed[name]
            if one.is_new or job is not None or one.job is not None:
                one.tell(job, segments.get(name, []), None)

    def _read(
        self, known: Mapping[str, Job | None], num_segments: Mapping[str, int]
    ) -> tuple[dict[str, Job | None], dict[str, list[Segment]]]:
        """Return the jobs that have changed, and their new segments."""
        changes = self._jobs.changes(known)  # before the segments: those of a completed job are all published
        return changes, {
            name: self._jobs.segments(name, num_segments[name])
            for name, job in changes.items()
            if job is not None and name in num_segments and job.next_segment > num_segments[name]
        }


async def _states(followed: _Followed, job_id: str, owner: str) -> AsyncGenerator[Job, None]:
    seen = 0 if followed.is_new else followed.version - 1
    while True:
        while followed.version == seen or followed.is_new:
            await followed.changed.wait()
        seen = followed.version
        if followed.error is not None:
            raise followed.error
        job = followed.job
        if job is None or job.owner != owner:
            raise JobNotFoundError(job_id)
        yield job
        if job.status.is_terminal:
            return
