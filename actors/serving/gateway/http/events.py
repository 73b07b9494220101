"""Progress as server-sent events (the EventSource of browsers)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from emotivetalk.actors.errors import JobNotFoundError
from emotivetalk.actors.serving.gateway.http.schemas import Video, VideoDeleted
from emotivetalk.actors.serving.gateway.service import Caller, VideoService
from emotivetalk.actors.serving.jobs.store import Job


def event_id(job: Job) -> str:
    """Return the id of a job's state, which is the same on every gateway."""
    return f"{job.attempt}-{job.frames_done}-{job.progress}-{job.status.value}"


async def job_events(
    service: VideoService, caller: Caller, job_id: str, last_id: str | None
) -> AsyncGenerator[str, None]:
    """Yield events "progress" and finally "completed", "failed", "cancelled" or "deleted", with comments in between.

    Args:
        last_id: id of the last event that the client received (Last-Event-ID), which is not repeated.
    """
    states = service.playback.watch(caller, job_id)
    pending: asyncio.Future[Job] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(states))
            done, _ = await asyncio.wait({pending}, timeout=service.settings.heartbeat_s)
            if not done:
                yield ": heartbeat\n\n"
                continue
            try:
                job = pending.result()
            except StopAsyncIteration:
                return
            except JobNotFoundError:
                yield f"event: deleted\ndata: {VideoDeleted(id=job_id).model_dump_json()}\n\n"
                return
            pending = None
            if event_id(job) != last_id:
                name = job.status.value if job.status.is_terminal else "progress"
                data = Video.of(job, service.model.name).model_dump_json()
                yield f"event: {name}\nid: {event_id(job)}\ndata: {data}\n\n"
    finally:
        if pending is not None and not pending.done():
            pending.cancel()
            await asyncio.wait({pending})
        await states.aclose()
