"""The HTTP application: OpenAI's `/v1/videos`, with events, streams and playlists in addition.

It needs no Ray: `serve.ingress` wraps the application, and uvicorn runs it alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from emotivetalk.actors.errors import OverloadError
from emotivetalk.actors.serving.gateway.errors import answer_to, error_type, public_error, retry_after_s
from emotivetalk.actors.serving.gateway.http import openapi
from emotivetalk.actors.serving.gateway.http.access import (
    CountedCaller,
    KnownCaller,
    ServiceDependency,
    StreamingCaller,
    authenticated,
)
from emotivetalk.actors.serving.gateway.http.batches import batches, files
from emotivetalk.actors.serving.gateway.http.compatibility import compatibility
from emotivetalk.actors.serving.gateway.http.edge import Edge
from emotivetalk.actors.serving.gateway.http.events import event_id, job_events
from emotivetalk.actors.serving.gateway.http.ranges import part_of
from emotivetalk.actors.serving.gateway.http.schemas import (
    JOB_EXAMPLE,
    ApiError,
    ErrorBody,
    Health,
    Video,
    VideoDeleted,
    VideoList,
)
from emotivetalk.actors.serving.gateway.http.uploads import read_submission
from emotivetalk.actors.serving.gateway.playback import check_not_lost
from emotivetalk.actors.serving.gateway.service import VideoService
from emotivetalk.actors.serving.gateway.settings import GatewaySettings
from emotivetalk.actors.serving.jobs.store import Job, JobStatus
from emotivetalk.actors.serving.observing.job_metrics import JobCollector, metrics_page
from emotivetalk.actors.serving.observing.meters import InRegistry, Meters
from emotivetalk.errors import EmotiveTalkError, InputError, InvalidRequestError

POLL_AFTER_MS = 500
FOREVER = {"cache-control": "private, max-age=31536000, immutable"}
HLS = "application/vnd.apple.mpegurl"

log = logging.getLogger(__name__)

Result = TypeVar("Result")
JobId = Annotated[str, Path(description="The video's id.", examples=[JOB_EXAMPLE])]


def http_app(
    service_provider: Callable[[], VideoService],
    settings: GatewaySettings,
    version: str = "1",
    meters: Meters | None = None,
) -> FastAPI:
    """Make the application.

    Args:
        service_provider: returns the service; called at each request, so the app can be made before the service.
        meters: counters of requests; None counts them at `/metrics`, beside the jobs.
    """
    registry = CollectorRegistry()
    meters = meters or Meters(InRegistry(registry))
    # FastAPI's own spans would duplicate those of `Edge`, with one for each poll.
    app = FastAPI(title="EmotiveTalk", version=version, redoc_url=None, telemetry={"tracing": False})
    app.state.service_provider = service_provider
    app.state.meters = meters
    app.openapi = lambda: openapi.openapi_document(app)
    app.add_middleware(Edge, meters=meters)
    app.add_exception_handler(EmotiveTalkError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_router)
    app.add_exception_handler(ClientDisconnect, _answer_disconnected)
    app.add_exception_handler(Exception, _answer_error)
    app.include_router(compatibility)  # first: its fixed paths would be ids of videos
    app.include_router(videos)
    app.include_router(files)
    app.include_router(batches)
    app.include_router(_operator_routes(settings, registry))
    return app


# ------------------------------------------------------------------------------------------------------- the videos

videos = APIRouter(prefix="/v1/videos", tags=["videos"])


@videos.post(
    "",
    response_model=Video,
    responses=openapi.errors(404, 408, 413, 415, 422, 507),
    openapi_extra={"requestBody": openapi.create_body()},
)
async def create_video(
    request: Request,
    response: Response,
    service: ServiceDependency,
    caller: CountedCaller,
    idempotency_key: Annotated[
        str | None, Header(description="1 to 255 characters. The same key and request give the same video for a day.")
    ] = None,
) -> Video:
    """Create a video from a portrait, speech and an emotion."""
    if idempotency_key is None:  # with a key it may be an existing video, which needs no capacity
        await service.check_capacity(caller)
    async with service.upload_folder() as folder:
        submission = await read_submission(request, folder, caller, service.settings)
        job, is_new = await unless_gone(request, service.create(caller, submission, idempotency_key=idempotency_key))
    if not is_new:
        response.headers["idempotent-replayed"] = "true"
    return _video(job, service, response)


@videos.get("", response_model=VideoList, responses=openapi.errors(404))
async def list_videos(
    service: ServiceDependency,
    caller: CountedCaller,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(description="The last id of the page before.")] = None,
    order: Annotated[Literal["asc", "desc"], Query(description="By time of creation.")] = "desc",
    status: Annotated[JobStatus | None, Query(description="Only videos with this status.")] = None,
) -> VideoList:
    """List your videos by time of creation."""
    page = await service.list(caller, limit=limit, after=after, order=order, status=status)
    data = [Video.of(job, service.model.name) for job in page.jobs]
    return VideoList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=page.has_more,
    )


@videos.get("/{video_id}", response_model=Video, responses=openapi.errors(404))
async def get_video(response: Response, service: ServiceDependency, caller: CountedCaller, video_id: JobId) -> Video:
    """Get a video's status and progress, and when it will probably be finished."""
    job = await service.get(caller, video_id)
    if not job.status.is_terminal:
        response.headers["openai-poll-after-ms"] = str(POLL_AFTER_MS)
    return Video.of(job, service.model.name, await service.outlook(job))


@videos.delete("/{video_id}", response_model=VideoDeleted, responses=openapi.errors(404))
async def delete_video(service: ServiceDependency, caller: CountedCaller, video_id: JobId) -> VideoDeleted:
    """Cancel a video and remove it with its files."""
    return VideoDeleted(id=(await service.delete(caller, video_id)).job_id)


@videos.post("/{video_id}/cancel", response_model=Video, responses=openapi.errors(404))
async def cancel_video(response: Response, service: ServiceDependency, caller: CountedCaller, video_id: JobId) -> Video:
    """Cancel a video and keep its record. One that has ended does not change."""
    return _video(await service.cancel(caller, video_id), service, response)


_CONTENT = {
    200: {"description": "The MP4.", "content": {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}},
    206: {"description": "The requested range.", "content": {"video/mp4": {}}},
    304: {"description": "The client's copy is current."},
}


@videos.get("/{video_id}/content", response_class=Response, responses=_CONTENT | openapi.errors(404, 409, 416))
async def download_video(
    request: Request,
    service: ServiceDependency,
    caller: CountedCaller,
    video_id: JobId,
    variant: Annotated[
        Literal["video", "thumbnail"], Query(description="The finished video, or a JPEG of its first frame.")
    ] = "video",
) -> Response:
    """Download the finished video, or a range of it; or a picture of it as soon as there is one."""
    if variant == "thumbnail":
        picture = await service.playback.thumbnail(caller, video_id)
        return Response(picture, headers={"cache-control": "private, max-age=86400"}, media_type="image/jpeg")
    content = await service.playback.content(caller, video_id)
    part = part_of(request.headers, content.size, content.etag)
    headers = part.headers | {
        "cache-control": "private, no-cache",
        "content-disposition": f'inline; filename="{video_id}.mp4"',
    }
    if part.status == 304:
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        return Response(status_code=part.status, headers=headers, media_type="video/mp4")
    pieces = service.playback.read(content, part.start, part.stop)
    return StreamingResponse(pieces, part.status, headers, media_type="video/mp4")


videos.add_api_route(
    "/{video_id}/content",
    download_video,
    methods=["HEAD"],
    name="head_content",
    operation_id="head_content",
    summary="The headers of the finished video.",
    response_class=Response,
    responses={200: {"description": "As for GET, without the body."}} | openapi.errors(404, 409, 416),
)


@videos.get(
    "/{video_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {"description": "Server-sent events.", "content": {"text/event-stream": {"schema": openapi.EVENT}}},
        204: {"description": "The client has received the last event and need not reconnect."},
    }
    | openapi.errors(404),
)
async def watch_video(
    service: ServiceDependency,
    caller: StreamingCaller,
    video_id: JobId,
    last_event_id: Annotated[
        str | None, Header(description="Id of the last event that a reconnecting client received.")
    ] = None,
) -> Response:
    """Follow a video's progress: events `progress`, then `completed`, `failed`, `cancelled` or `deleted`."""
    job = await service.get(caller, video_id)
    if job.status.is_terminal and last_event_id == event_id(job):
        return Response(status_code=204)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    events = job_events(service, caller, video_id, last_event_id)
    return StreamingResponse(_closing(events), headers=headers, media_type="text/event-stream")


@videos.get(
    "/{video_id}/stream",
    response_class=StreamingResponse,
    responses={200: {"description": "Fragmented MP4.", "content": {"video/mp4": {}}}} | openapi.errors(404, 409),
)
async def stream_video(service: ServiceDependency, caller: StreamingCaller, video_id: JobId) -> Response:
    """Stream a video while it is being made, as fragmented MP4, which is also the finished file.

    The stream waits for frames that are not rendered yet. If the video fails, the response is cut off.
    """
    check_not_lost(await service.get(caller, video_id))
    fragments = service.playback.stream(caller, video_id)
    return StreamingResponse(_closing(fragments), headers={"cache-control": "no-store"}, media_type="video/mp4")


@videos.get(
    "/{video_id}/playlist.m3u8",
    response_class=Response,
    responses={200: {"description": "An HLS media playlist.", "content": {HLS: {"schema": {"type": "string"}}}}}
    | openapi.errors(404, 409),
)
async def play_video(service: ServiceDependency, caller: KnownCaller, video_id: JobId) -> Response:
    """Get the HLS playlist of a video, while it is being made and afterwards.

    It waits a few seconds for the first segment and is empty if there is none yet.
    """
    await service.playback.wait_for_segment(caller, video_id, service.settings.playlist_wait_s)
    playlist = await service.playback.playlist(caller, video_id)
    return Response(playlist, headers={"cache-control": "no-cache"}, media_type=HLS)


@videos.get(
    "/{video_id}/init.mp4",
    response_class=Response,
    responses={200: {"description": "ftyp and moov.", "content": {"video/mp4": {}}}} | openapi.errors(404, 409),
)
async def get_init(service: ServiceDependency, caller: KnownCaller, video_id: JobId) -> Response:
    """Get the initialisation segment of the playlist."""
    return Response(await service.playback.init_segment(caller, video_id), headers=FOREVER, media_type="video/mp4")


@videos.get(
    "/{video_id}/segments/{index}.m4s",
    response_class=Response,
    responses={200: {"description": "moof and mdat.", "content": {"video/mp4": {}}}} | openapi.errors(404),
)
async def get_segment(
    service: ServiceDependency, caller: KnownCaller, video_id: JobId, index: Annotated[int, Path(ge=0, le=10_000_000)]
) -> Response:
    """Get a segment of the playlist."""
    return Response(await service.playback.segment(caller, video_id, index), headers=FOREVER, media_type="video/mp4")


def _video(job: Job, service: VideoService, response: Response) -> Video:
    if not job.status.is_terminal:
        response.headers["openai-poll-after-ms"] = str(POLL_AFTER_MS)  # for create_and_poll of OpenAI's client
    return Video.of(job, service.model.name)


async def _closing(pieces: Any) -> AsyncIterator[Any]:
    """Close the generator at once when the response ends, also if the client disconnected."""
    async with aclosing(pieces):
        async for piece in pieces:
            yield piece


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Do the work, and cancel it if the client disconnects.

    Raises:
        ClientDisconnect: the client disconnected.
    """
    doing = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not doing.done():
            doing.cancel()
            await asyncio.wait({doing})
    if doing.cancelled():
        raise ClientDisconnect
    return doing.result()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


# -------------------------------------------------------------------------------------------------------- operation


def _operator_routes(settings: GatewaySettings, registry: CollectorRegistry) -> APIRouter:
    router = APIRouter(tags=["operation"])
    collected: list[VideoService] = []

    @router.get("/healthz", response_model=Health)
    async def healthz() -> Health:
        """Check that the process answers."""
        return Health(status="ok")

    @router.get("/readyz", response_model=Health, responses=openapi.errors(507))
    async def readyz(service: ServiceDependency) -> Health:
        """Check that videos can be created: the job store answers and the artifact store is writable."""
        await service.ready()
        return Health(status="ready")

    @router.get(
        "/metrics",
        response_class=Response,
        dependencies=[] if settings.open_metrics else [Depends(authenticated)],
        responses={200: {"description": "Prometheus' text format.", "content": {"text/plain": {}}}} | openapi.errors(),
    )
    async def metrics(service: ServiceDependency) -> Response:
        """Get the metrics: jobs by status, and their waiting and rendering times."""
        if not collected:
            registry.register(JobCollector(service.jobs))
            collected.append(service)
        return Response(await asyncio.to_thread(metrics_page, registry), media_type=CONTENT_TYPE_LATEST)

    return router


# ----------------------------------------------------------------------------------------------------------- errors


def _answer(status: int, error: EmotiveTalkError, headers: dict[str, str], field: str | None = None) -> JSONResponse:
    body = ErrorBody(
        error=ApiError(
            code=_encodable(error.code),
            message=_encodable(str(error)),
            remedy=_encodable(error.remedy),
            type=error_type(status),
            param=None if field is None else _encodable(field),
        )
    )
    return JSONResponse(body.model_dump(), status, headers)


def _encodable(text: str) -> str:
    """Replace lone surrogates, which JSON can carry in and UTF-8 cannot carry out."""
    return text.encode("utf-8", "replace").decode()


async def _answer_error(request: Request, error: Exception) -> Response:
    status = answer_to(error).http
    if isinstance(error, OverloadError):
        request.app.state.meters.refused.add(1, error.code)
    if status >= 500 and isinstance(error, EmotiveTalkError):  # the server logs all other exceptions
        log.error("request failed: %s", error, extra={"code": error.code})
    headers = dict(getattr(error, "headers", {}))
    seconds = retry_after_s(error)
    if seconds is not None:
        headers["retry-after"] = str(seconds)
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return _answer(status, public_error(error), headers, getattr(error, "field", None))


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:])
    return await _answer_error(request, InvalidRequestError(field, first["msg"]))


async def _answer_router(request: Request, error: Exception) -> Response:
    """Answer the router's own errors: unknown path or method."""
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    refusal = InputError(codes.get(error.status_code, "request_invalid"), str(error.detail), "See /openapi.json.")
    return _answer(error.status_code, refusal, dict(error.headers or {}))


async def _answer_disconnected(request: Request, error: Exception) -> Response:
    """Return nginx's status for a client that disconnected, for log and metrics."""
    return Response(status_code=499)
