"""The Serve application: its deployments and how they are connected. `serve deploy` calls `build`.

    gateway   serves HTTP through Serve's proxy and gRPC itself; writes jobs, reads rows and artifacts; drives live calls
    director  claims jobs and drives V-AID, ETHD and decoder, by reference

`serve_configs/*.yaml` sets the number of replicas and their resources, under the deployments' names.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import math
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from emotivetalk.actors.errors import ServingError
from emotivetalk.actors.serving.batches.runner import BatchRunner
from emotivetalk.actors.serving.config import ServingConfig
from emotivetalk.actors.serving.gateway.grpc.server import GrpcServer, TlsFiles, start_grpc_server
from emotivetalk.actors.serving.gateway.http.app import http_app
from emotivetalk.actors.serving.gateway.http.batches import HttpFront
from emotivetalk.actors.serving.gateway.live_session import LiveLimits
from emotivetalk.actors.serving.gateway.service import ServedModel, VideoService
from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.jobs.store import JobStore
from emotivetalk.actors.serving.jobs.webhooks import WebhookSender
from emotivetalk.actors.serving.observing.meters import InRay, Meters
from emotivetalk.actors.serving.rendering.director import Director
from emotivetalk.actors.serving.rendering.live_engine import LiveRenderer
from emotivetalk.actors.serving.rendering.plans import CheckpointPlans
from emotivetalk.actors.serving.rendering.replica_calls import ServeReplicaCalls
from emotivetalk.actors.serving.replicas.decoder import DecoderReplica
from emotivetalk.actors.serving.replicas.ethd import ETHDReplica
from emotivetalk.actors.serving.replicas.startup import start_replica, worker_name
from emotivetalk.actors.serving.replicas.vaid import VAIDReplica
from emotivetalk.errors import InputError
from emotivetalk.media.checkpoints import checkpoint_id, find_checkpoint
from emotivetalk.timebase import FRAME_RATE_HZ

SWEEP_S = 60.0
GAUGES_S = 5.0
STUCK_AFTER_S = 60.0

# Replicas accept more calls than they compute, so that arguments arrive meanwhile; the director bounds their number.
# The shutdown timeout outlasts the longest call: decoding a segment, or a block of V-AID.
_COMPUTING: dict[str, Any] = {"graceful_shutdown_timeout_s": 120.0, "health_check_timeout_s": 60.0}
DEFAULTS: dict[str, dict[str, Any]] = {
    "gateway": {"max_ongoing_requests": 256, "graceful_shutdown_timeout_s": 30.0, "user_config": {}},
    "director": {"graceful_shutdown_timeout_s": 30.0, "user_config": {}},
    "VAID": {"max_ongoing_requests": 4, **_COMPUTING},
    "ETHD": {"max_ongoing_requests": 16, **_COMPUTING},
    "decoder": {"max_ongoing_requests": 8, **_COMPUTING},
}

log = logging.getLogger(__name__)


def job_store(config: ServingConfig) -> JobStore:
    """Open the job store of a configuration."""
    director = config.director
    return JobStore(
        config.jobs_url,
        lease_s=director.lease_s,
        max_attempts=director.max_attempts,
        retention_s=config.retention_s,
    )


class DirectorReplica:
    """The director as a deployment. It works from its start, without being called."""

    def __init__(
        self,
        config: ServingConfig,
        checkpoint: str,
        vaid: DeploymentHandle,
        ethd: DeploymentHandle,
        decoder: DeploymentHandle,
    ) -> None:
        start_replica("director")
        settings, meters = config.director, Meters(InRay())
        self._jobs = job_store(config)
        stages = ServeReplicaCalls(
            vaid, ethd, decoder, settings.call_attempts, ethd_in_flight=settings.calls_in_flight, meters=meters
        )
        worker = f"{worker_name()}:{uuid.uuid4().hex[:8]}"
        self._director = Director(self._jobs, stages, CheckpointPlans(Path(checkpoint)), settings, worker, meters)
        self._running: asyncio.Task[None] | None = None

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Start the work. Serve calls this once the replica's event loop runs."""
        if self._running is None:
            self._running = asyncio.create_task(self._director.run())

    async def look(self, job_id: str) -> None:
        """Take note of a change of this job, which the gateway reports."""
        self._director.look(job_id)

    async def check_health(self) -> None:
        """Raise ServingError if the director has ended or does not poll for jobs any more."""
        if self._running is None or self._running.done():
            raise ServingError("director_ended", "the director is not running", "See its log.")
        if self._director.idle_s > STUCK_AFTER_S:
            raise ServingError("director_stuck", "the director does not poll for jobs any more", "See its log.")

    async def __del__(self) -> None:
        """Release the claimed jobs. Serve calls this before it stops the replica."""
        self._director.stop()
        if self._running is not None:
            await asyncio.wait([self._running], timeout=10)


@serve.ingress()
class GatewayReplica:
    """The gateway as a deployment: HTTP comes through Serve's proxy, gRPC to a server of its own."""

    def __init__(
        self,
        config: ServingConfig,
        model: ServedModel,
        checkpoint: str,
        director: DeploymentHandle,
        vaid: DeploymentHandle,
        ethd: DeploymentHandle,
        decoder: DeploymentHandle,
    ) -> None:
        start_replica("gateway")
        self._config, self._meters = config, Meters(InRay())
        self._plans = CheckpointPlans(Path(checkpoint))
        self._handles = (vaid, ethd, decoder)
        self._jobs = job_store(config)
        self._service = VideoService(
            self._jobs, ArtifactStore(config.artifacts_url), config.gateway, model, on_change=self._notify
        )
        self._director, self._notifying = director, set[asyncio.Task[None]]()
        self._grpc: GrpcServer | None = None
        self._chores: list[asyncio.Task[None]] = []

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Start chores and the gRPC server. Serve calls this once the replica's event loop runs."""
        if self._chores:
            return
        config = self._config
        batches = BatchRunner(self._service, HttpFront(self._service.model.name), worker_name())
        self._chores = [asyncio.create_task(chore) for chore in (self._sweep(), self._report_gauges(), batches.run())]
        if config.gateway.secret() is not None:  # without a secret, requests with webhooks are refused
            sender = WebhookSender(self._jobs, config.gateway, self._service.model.name)
            self._chores.append(asyncio.create_task(sender.run()))
        grpc = config.grpc
        if grpc.port is not None:
            tls = None
            if grpc.certificate is not None and grpc.key is not None:
                tls = TlsFiles(grpc.certificate, grpc.key)
            live = config.live
            self._grpc = await start_grpc_server(
                self._service,
                grpc.host,
                grpc.port,
                tls=tls,
                live=self._live_renderer() if live.max_calls else None,
                live_limits=LiveLimits(live.buffer_s, live.clip_s, live.idle_s),
                meters=self._meters,
            )

    def _live_renderer(self) -> LiveRenderer:
        live = self._config.live
        calls = live.max_calls * live.ethd_in_flight
        stages = ServeReplicaCalls(*self._handles, live.call_attempts, ethd_in_flight=calls, meters=self._meters)
        make_plan = partial(
            self._plans.live,
            math.ceil(live.clip_s * FRAME_RATE_HZ),
            segment_chunks=live.segment_chunks,
            look_ahead_frames=live.look_ahead_frames,
        )
        service = self._service
        return LiveRenderer(stages, make_plan, service.prepare_portrait, service.model, _software(), live, self._meters)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the HTTP application. Serve calls this once the replica is constructed."""
        return http_app(lambda: self._service, self._config.gateway, _version(), self._meters)

    async def check_health(self) -> None:
        """Raise ServingError if the job store does not answer or a chore has ended."""
        await asyncio.to_thread(self._jobs.counts)
        for chore in self._chores:
            if chore.done():
                raise ServingError("gateway_chore_ended", f"{chore.get_coro()} has ended", "See the gateway's log.")

    def _notify(self, job_id: str) -> None:
        """Notify a director of a changed job, best effort: directors poll too."""

        async def notify() -> None:
            try:
                await self._director.look.remote(job_id)
            except Exception as error:  # noqa: BLE001 the director polls
                log.info("no director was notified: %s", type(error).__name__)

        task = asyncio.create_task(notify())
        self._notifying.add(task)
        task.add_done_callback(self._notifying.discard)

    async def _sweep(self) -> None:
        while True:
            try:
                await self._service.sweep()
            except Exception:
                log.exception("sweep failed; it is tried again")
            await asyncio.sleep(SWEEP_S)

    async def _report_gauges(self) -> None:
        while True:
            self._meters.say_again()
            await asyncio.sleep(GAUGES_S)

    async def __del__(self) -> None:
        """Stop chores and the gRPC server. Serve calls this before it stops the replica."""
        for chore in self._chores:
            chore.cancel()
        if self._grpc is not None:
            await self._grpc.stop(5.0)


def build(config: ServingConfig) -> Application:
    """Build the application. Serve parses the YAML's `args` into the configuration and applies its `deployments`."""
    return build_with(config, {})


def build_with(config: ServingConfig, options: Mapping[str, Mapping[str, Any]]) -> Application:
    """Build the application with options of `serve.deployment`, by the deployment's name."""
    unknown = sorted(set(options) - set(DEFAULTS))
    if unknown:
        raise InputError(
            "deployment_unknown",
            f"there is no deployment {', '.join(unknown)}",
            f"The deployments are {', '.join(DEFAULTS)}.",
        )
    checkpoint = find_checkpoint(config.checkpoint)
    identity = checkpoint_id(checkpoint)
    model = ServedModel(config.model, identity, CheckpointPlans(checkpoint).image_size)
    path, software = str(checkpoint.resolve()), _software()
    store, device, threads = config.artifacts_url, config.device, config.threads

    def deployment(name: str, replica: type) -> Any:
        return serve.deployment(replica, name=name).options(**{**DEFAULTS[name], **options.get(name, {})})

    vaid = deployment("VAID", VAIDReplica).bind(path, store, device, threads)
    ethd = deployment("ETHD", ETHDReplica).bind(path, store, device, threads, config.chunks_at_once)
    decoder = deployment("decoder", DecoderReplica).bind(path, store, identity, software, device, threads)
    director = deployment("director", DirectorReplica).bind(config, path, vaid, ethd, decoder)
    return deployment("gateway", GatewayReplica).bind(config, model, path, director, vaid, ethd, decoder)


def _version() -> str:
    return importlib.metadata.version("emotivetalk")


def _software() -> str:
    return f"EmotiveTalk {_version()}"
