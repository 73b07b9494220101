"""ETHD as a deployment: chunks advance by a step, whatever video they are of (`models/latent_sampler.py`)."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.jobs.files import JobFiles, live_portrait
from emotivetalk.actors.serving.observing import logs, tracing
from emotivetalk.actors.serving.replicas.messages import BlockData, ChunkData, LivePortrait, Receipt, RenderCall
from emotivetalk.actors.serving.replicas.startup import ComputeThreads, start_replica, worker_name
from emotivetalk.actors.serving.replicas.vaid import as_block
from emotivetalk.models.diffusion import Guidance, euler_step
from emotivetalk.models.ethd import Conditions
from emotivetalk.models.face_mask import FaceRegion
from emotivetalk.models.frame_decoder import FrameDecoder
from emotivetalk.models.latent_sampler import LatentSampler, PortraitConditions, stack
from emotivetalk.models.long_video import blend, gather_input
from emotivetalk.models.long_video_plan import CallId
from emotivetalk.models.motion_generator import join
from emotivetalk.models.pipeline import load_pipeline

LATENTS_KEPT = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Chunk:
    """One chunk, ready for the network: its input, its noise level and the next, its conditions."""

    id: CallId
    x: Tensor
    sigma: Tensor
    following: Tensor
    conditions: Conditions

    @property
    def kind(self) -> tuple[int, ...]:
        """Chunks of one kind can be stacked."""
        return tuple(self.x.shape)


class ETHDWorker:
    """The work, without Ray: a call is a pure function of its arguments.

    Args:
        chunks_at_once: how many chunks go through the network together, of one call or of several videos'.
    """

    def __init__(
        self,
        latent_sampler: LatentSampler,
        frame_decoder: FrameDecoder,
        artifacts: ArtifactStore,
        chunks_at_once: int = 1,
    ) -> None:
        self._latent_sampler, self._frame_decoder, self._artifacts = latent_sampler, frame_decoder, artifacts
        self.chunks_at_once = chunks_at_once
        self._latent = lru_cache(maxsize=LATENTS_KEPT)(self._encode)

    @torch.no_grad()
    def render(self, requests: Sequence[tuple[RenderCall, Sequence[BlockData | ChunkData]]]) -> list[ChunkData]:
        """The chunks of all these calls, one step on; with each call, the results that it gathers from."""
        prepared = [self._prepare(call, results) for call, results in requests]
        every = [chunk for chunks in prepared for chunk in chunks]
        made: dict[int, Tensor] = {}
        for kind in {chunk.kind: None for chunk in every}:
            alike = [chunk for chunk in every if chunk.kind == kind]
            for first in range(0, len(alike), self.chunks_at_once):
                batch = alike[first : first + self.chunks_at_once]
                made |= {id(chunk): result for chunk, result in zip(batch, self._step(batch), strict=True)}
        return [ChunkData({chunk.id: made[id(chunk)].cpu().numpy() for chunk in chunks}) for chunks in prepared]

    def _step(self, batch: Sequence[_Chunk]) -> Tensor:
        x, sigma, following = (
            torch.stack(column) for column in zip(*((c.x, c.sigma, c.following) for c in batch), strict=True)
        )
        conditions = stack([chunk.conditions for chunk in batch])
        x0 = self._latent_sampler.denoise(x, sigma, conditions, Guidance())
        return euler_step(x, x0, sigma, following)

    def _prepare(self, call: RenderCall, data: Sequence[BlockData | ChunkData]) -> list[_Chunk]:
        latent_sampler, device = self._latent_sampler, self._latent_sampler.ethd.device
        blocks = [block for block in data[: call.num_blocks] if isinstance(block, BlockData)]
        results = {
            key: torch.from_numpy(chunk.copy()).to(device)
            for one in data[call.num_blocks :]
            if isinstance(one, ChunkData)
            for key, chunk in one.chunks.items()
        }
        portrait_conditions = self._portrait_conditions(call, blocks)
        motion_at = partial(join, [as_block(block) for block in blocks])
        sigmas = latent_sampler.sigmas(call.request.num_steps)
        noise = latent_sampler.noise(portrait_conditions, call.request.seed)
        tail = self._tail(call, results)
        chunks = []
        for one in call.calls:
            step = one.id.step
            x = gather_input(one, results, tail, noise, sigmas[step])
            conditions = latent_sampler.conditions(portrait_conditions, motion_at, call.num_frames, one.frames)
            chunks.append(_Chunk(one.id, x, sigmas[step], sigmas[step + 1], conditions))
        return chunks

    def _tail(self, call: RenderCall, results: dict[CallId, Tensor]) -> Tensor | None:
        if call.before is not None:
            return blend(call.before, results)
        if call.before_path is not None and any(one.pinned for one in call.calls):
            return (
                JobFiles(self._artifacts, call.job_id).read_tail(call.before_path).to(self._latent_sampler.ethd.device)
            )
        return None

    def _portrait_conditions(self, call: RenderCall, blocks: Sequence[BlockData]) -> PortraitConditions:
        latent = self._latent(call.job_id, call.portrait)
        reference = torch.from_numpy(blocks[0].expression_reference.copy())
        return PortraitConditions(latent, reference, FaceRegion().mask(*latent.shape[-2:]))

    def _encode(self, job_id: str, portrait: LivePortrait | None) -> Tensor:
        if portrait is not None:
            return self._frame_decoder.reference_latent(live_portrait(portrait))
        return self._frame_decoder.reference_latent(JobFiles(self._artifacts, job_id).portrait())


@dataclass(frozen=True)
class _Waiting:
    call: RenderCall
    data: Sequence[BlockData | ChunkData]
    answer: asyncio.Future[tuple[ChunkData, Receipt]]


class CallQueue:
    """Calls that wait for their turn at the network. Those of live videos come first: somebody looks on.

    Calls that wait while others compute go next, together where the worker's `chunks_at_once` allows it. One that was
    cancelled meanwhile is left out, so a cancelled video frees the replica after the step that it is in.
    """

    def __init__(self, worker: ETHDWorker, threads: ComputeThreads) -> None:
        self._worker, self._threads = worker, threads
        self._waiting: list[_Waiting] = []
        self._runners: list[asyncio.Task[None]] = []

    async def render(self, call: RenderCall, data: Sequence[BlockData | ChunkData]) -> tuple[ChunkData, Receipt]:
        """The call's chunks, one step on."""
        waiting = _Waiting(call, data, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._runners = [runner for runner in self._runners if not runner.done()]
        if len(self._runners) < self._threads.at_once:
            # It works for whoever comes, not for the video that woke it: neither its logs nor its trace.
            self._runners.append(asyncio.create_task(self._run(), context=contextvars.Context()))
        try:
            return await waiting.answer
        finally:
            waiting.answer.cancel()

    async def _run(self) -> None:
        while batch := self._next_batch():
            await self._answer(batch)

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        start = time.perf_counter()
        try:
            made = await self._threads.run(self._worker.render, [(one.call, one.data) for one in batch])
        except Exception as error:  # noqa: BLE001 whatever it was, it is the callers'
            if len(batch) > 1:  # whose it is shows when each goes alone
                for one in batch:
                    await self._answer([one])
            elif not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            return
        seconds, num_chunks = time.perf_counter() - start, sum(len(one.call.calls) for one in batch)
        for one, chunks in zip(batch, made, strict=True):
            if not one.answer.done():
                share = seconds * len(one.call.calls) / num_chunks
                one.answer.set_result((chunks, Receipt(worker_name(), share, num_chunks)))

    def _next_batch(self) -> list[_Waiting]:
        """The calls that waited longest and are still wanted, as many as go through the network at once."""
        wanted = [one for one in self._waiting if not one.answer.done()]
        self._waiting = sorted(wanted, key=lambda one: one.call.portrait is None)
        batch: list[_Waiting] = []
        while self._waiting and (
            not batch or sum(len(one.call.calls) for one in [*batch, self._waiting[0]]) <= self._worker.chunks_at_once
        ):
            batch.append(self._waiting.pop(0))
        return batch


class ETHDReplica:
    """The deployment: `render` yields the chunks, which stay in the object store, and then their receipt.

    Args:
        threads: on a CPU, calls that compute side by side, each with one of PyTorch's threads.
    """

    def __init__(
        self, checkpoint: str, artifacts: str, device: str = "cpu", threads: int = 1, chunks_at_once: int = 1
    ) -> None:
        start_replica("ETHD")
        self._threads = ComputeThreads.of_chunks(threads, device)
        pipeline = load_pipeline(Path(checkpoint), device, parts=("ethd", "scheduler", "vae"))
        worker = ETHDWorker(
            pipeline.latent_sampler, FrameDecoder(pipeline.vae), ArtifactStore(artifacts), chunks_at_once
        )
        self._queue = CallQueue(worker, self._threads)

    async def render(self, call: RenderCall, *data: BlockData | ChunkData) -> AsyncGenerator[ChunkData | Receipt, None]:
        """The call's chunks, one step on."""
        logs.about(call.job_id)
        at = {"video_id": call.job_id, "segment": call.calls[0].id.segment, "step": call.calls[0].id.step}
        with tracing.span("ETHD", call.trace, kind=tracing.SpanKind.SERVER, chunks=len(call.calls), **at) as span:
            chunks, receipt = await self._queue.render(call, data)
            span.set_attributes({"computed_s": receipt.seconds, "chunks_together": receipt.num_chunks})
        log.debug(
            "step %d of segment %d: %.3f s for %d chunks", at["step"], at["segment"], receipt.seconds, len(call.calls)
        )
        yield chunks
        yield receipt

    async def check_health(self) -> None:
        """Raises if computing has not come to an end for long."""
        self._threads.check()
