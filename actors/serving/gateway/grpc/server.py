"""The gRPC server: proto/emotivetalk/v1 over the service that HTTP uses too.

Ray Serve's gRPC proxy has no health service, no TLS and no choice of host. So each gateway replica runs this server;
replicas on one machine share the port (SO_REUSEPORT).
"""

# ruff: noqa: N802 the .proto file names the methods of a servicer

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from emotivetalk.actors.serving.gateway.grpc import live as grpc_live
from emotivetalk.actors.serving.gateway.grpc.batches import BatchServicer
from emotivetalk.actors.serving.gateway.grpc.guard import CALLER, Guard
from emotivetalk.actors.serving.gateway.grpc.messages import read_order, read_status, video_message
from emotivetalk.actors.serving.gateway.grpc.uploads import receive_files, receive_header
from emotivetalk.actors.serving.gateway.live_session import LiveEngine, LiveLimits
from emotivetalk.actors.serving.gateway.service import VideoService
from emotivetalk.actors.serving.gateway.upload_clock import upload_clock
from emotivetalk.actors.serving.jobs.store import Job
from emotivetalk.actors.serving.observing.meters import Meters
from emotivetalk.errors import EmotiveTalkError, InputError
from emotivetalk.wire import batches_pb2, batches_pb2_grpc
from emotivetalk.wire import videos_pb2 as pb
from emotivetalk.wire import videos_pb2_grpc as pb_grpc

SERVICE_NAMES = tuple(
    service.full_name
    for proto in (pb.DESCRIPTOR, batches_pb2.DESCRIPTOR)
    for service in proto.services_by_name.values()
)
PART_BYTES = 1 << 16
MAX_MESSAGE_BYTES = 9_000_000  # a live header with its portrait is the largest
HEALTH_PERIOD_S = 5.0

_OPTIONS: list[tuple[str, int]] = [
    ("grpc.so_reuseport", 1),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16_384),
    ("grpc.max_concurrent_streams", 256),  # per connection
    # The window of a call stays at 64 KiB, two seconds of live speech. gRPC would widen it to megabytes for a fast client,
    # which would then be minutes ahead before it is held back.
    ("grpc.http2.bdp_probe", 0),
    # The calls of a client that vanished end within a minute and a half.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Clients may ping every ten seconds, and are disconnected if they ping more often.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
]

HealthServicer = health.aio.HealthServicer  # pyright: ignore[reportAttributeAccessIssue] # set at run time

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: the server's certificate chain and its private key."""

    certificate: Path
    key: Path


class VideoServicer(pb_grpc.VideoServiceServicer):
    """The servicer of VideoService. It raises the service's errors; `Guard` translates them.

    Ending a call does not affect jobs; only the work of GenerateLive ends with its call.
    """

    def __init__(self, service: VideoService, live: LiveEngine | None, live_limits: LiveLimits) -> None:
        self._service = service
        self._live = live
        self._live_limits = live_limits

    def _message(self, job: Job) -> pb.Video:
        return video_message(job, self._service.model.name)

    async def CreateVideo(
        self, requests: AsyncIterator[pb.CreateVideoRequest], context: grpc.aio.ServicerContext
    ) -> pb.CreateVideoResponse:
        caller = CALLER.get()
        self._service.admit(caller)
        async with upload_clock(self._service.settings) as clock:
            header = await receive_header(requests)
            if not header.idempotency_key:  # with a key it may be an existing video, which needs no capacity
                await self._service.check_capacity(caller)
            async with self._service.upload_folder() as folder:
                max_bytes = caller.limits.max_upload_bytes
                submission = await receive_files(header, requests, folder, max_bytes, clock.received)
                clock.stop()  # checking the inputs has its own limit
                job, is_new = await self._service.create(
                    caller, submission, idempotency_key=header.idempotency_key or None
                )
        return pb.CreateVideoResponse(video=self._message(job), created=is_new)

    async def GetVideo(self, request: pb.GetVideoRequest, context: grpc.aio.ServicerContext) -> pb.GetVideoResponse:
        caller = CALLER.get()
        self._service.admit(caller)
        return pb.GetVideoResponse(video=self._message(await self._service.get(caller, request.id)))

    async def ListVideos(
        self, request: pb.ListVideosRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListVideosResponse:
        caller = CALLER.get()
        self._service.admit(caller)
        page = await self._service.list(
            caller,
            limit=request.limit if request.HasField("limit") else 20,
            after=request.after or None,
            order=read_order(request.order),
            status=read_status(request.status),
        )
        return pb.ListVideosResponse(videos=[self._message(job) for job in page.jobs], has_more=page.has_more)

    async def WatchVideo(
        self, request: pb.WatchVideoRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.WatchVideoResponse]:
        caller = CALLER.get()
        self._service.admit(caller)
        async with aclosing(self._service.playback.watch(caller, request.id)) as jobs:
            async for job in jobs:
                yield pb.WatchVideoResponse(video=self._message(job))

    async def StreamVideo(
        self, request: pb.StreamVideoRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.StreamVideoResponse]:
        caller = CALLER.get()
        self._service.admit(caller)
        if request.first_segment < 0:
            raise InputError(
                "request_invalid", f"first_segment is {request.first_segment}; the first segment is 0", "Count from 0."
            )
        async with aclosing(self._service.playback.stream(caller, request.id, request.first_segment)) as pieces:
            async for piece in pieces:
                for start in range(0, len(piece), PART_BYTES):
                    yield pb.StreamVideoResponse(data=piece[start : start + PART_BYTES])

    async def CancelVideo(
        self, request: pb.CancelVideoRequest, context: grpc.aio.ServicerContext
    ) -> pb.CancelVideoResponse:
        caller = CALLER.get()
        self._service.admit(caller)
        return pb.CancelVideoResponse(video=self._message(await self._service.cancel(caller, request.id)))

    async def DeleteVideo(
        self, request: pb.DeleteVideoRequest, context: grpc.aio.ServicerContext
    ) -> pb.DeleteVideoResponse:
        caller = CALLER.get()
        self._service.admit(caller)
        job = await self._service.delete(caller, request.id)
        return pb.DeleteVideoResponse(id=job.job_id)

    async def GenerateLive(
        self, requests: AsyncIterator[pb.GenerateLiveRequest], context: grpc.aio.ServicerContext
    ) -> None:
        caller = CALLER.get()
        self._service.admit(caller)
        if self._live is None:
            raise InputError("live_unavailable", "this service renders no live video", "Create a video instead.")
        await grpc_live.generate(self._live(), caller, requests, context.write, self._live_limits)


class GrpcServer:
    """A running server, made by `start_grpc_server`.

    Attributes:
        port: the port that it listens on.
    """

    def __init__(self, server: grpc.aio.Server, port: int, service: VideoService, health_servicer: Any) -> None:
        self.port = port
        self._server = server
        self._service = service
        self._health = health_servicer
        self._is_ready: bool | None = None
        self._checking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start taking calls."""
        await self._check_health()  # before the first call
        await self._server.start()
        self._checking = asyncio.create_task(self._keep_checking())

    async def stop(self, grace_s: float = 10.0) -> None:
        """Refuse new calls, and end the running ones after `grace_s` seconds."""
        if self._checking is not None:
            self._checking.cancel()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    async def wait(self) -> None:
        """Wait until the server is stopped."""
        await self._server.wait_for_termination()

    async def _keep_checking(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_PERIOD_S)
            await self._check_health()

    async def _check_health(self) -> None:
        """Update the health service for load balancers: NOT_SERVING while the stores cannot be used."""
        is_ready = True
        try:
            await self._service.ready()
        except EmotiveTalkError as error:
            is_ready = False
            if self._is_ready is not False:
                log.warning("not ready: %s", error)
        except Exception:
            is_ready = False
            log.exception("the stores could not be checked")
        if is_ready != self._is_ready:
            states = health_pb2.HealthCheckResponse
            for name in ("", *SERVICE_NAMES):
                await self._health.set(name, states.SERVING if is_ready else states.NOT_SERVING)
        self._is_ready = is_ready


async def start_grpc_server(
    service: VideoService,
    host: str,
    port: int,
    *,
    tls: TlsFiles | None = None,
    live: LiveEngine | None = None,
    live_limits: LiveLimits | None = None,
    meters: Meters | None = None,
) -> GrpcServer:
    """Start a server that takes gRPC calls until `GrpcServer.stop`.

    Args:
        host: an IP address or name to bind to, such as "127.0.0.1" or "::1".
        port: 0 chooses a free one.
        tls: None leaves the connection unencrypted; then use tokens only on loopback or behind a proxy.
        live: makes a session for each GenerateLive; None refuses those calls.
        meters: counters of calls; None counts nothing.

    Raises:
        EmotiveTalkError: code "grpc_port": the address cannot be bound; code "grpc_tls": the PEM files cannot be used.
    """
    health_servicer = HealthServicer()
    open_services = (health.SERVICE_NAME, reflection.SERVICE_NAME)
    server = grpc.aio.server(
        interceptors=[Guard(service, open_services, meters or Meters())],
        options=_OPTIONS,
        maximum_concurrent_rpcs=service.settings.max_open,
    )
    pb_grpc.add_VideoServiceServicer_to_server(VideoServicer(service, live, live_limits or LiveLimits()), server)
    batches_pb2_grpc.add_BatchServiceServicer_to_server(BatchServicer(service), server)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection((*SERVICE_NAMES, *open_services), server)
    credentials = None if tls is None else _credentials(tls)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError as error:
        raise EmotiveTalkError(
            "grpc_port", f"gRPC cannot listen on {address} ({error})", "Choose another port."
        ) from error
    started = GrpcServer(server, bound, service, health_servicer)
    await started.start()
    log.info("gRPC listens on %s:%d", host, bound)
    return started


def _credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    try:
        # gRPC itself reports only that it cannot bind to the port.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key)
        pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
    except OSError as error:  # includes SSLError
        raise EmotiveTalkError(
            "grpc_tls",
            f"the TLS files {str(tls.certificate)!r} and {str(tls.key)!r} cannot be used ({error.strerror or error})",
            "Give PEM files of a certificate chain and of its private key, without a passphrase.",
        ) from error
    return grpc.ssl_server_credentials([pair])
