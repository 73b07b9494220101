"""ETHD as a deployment: chunks of any videos advance by one step."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from pathlib import Path

from emotivetalk.actors.serving.autoscaling import LIVE_CALLS
from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.observing import logs, tracing
from emotivetalk.actors.serving.replicas.call_queue import CallQueue
from emotivetalk.actors.serving.replicas.ethd_worker import ETHDWorker
from emotivetalk.actors.serving.replicas.messages import BlockData, ChunkData, Receipt, RenderCall
from emotivetalk.actors.serving.replicas.startup import ComputeThreads, start_replica
from emotivetalk.models.frame_decoder import FrameDecoder
from emotivetalk.models.pipeline import load_pipeline

log = logging.getLogger(__name__)


class ETHDReplica:
    """The deployment. `render` yields the chunks, which stay in the object store, and then the receipt.

    Args:
        threads: on a CPU, the number of calls that compute concurrently, each with one PyTorch thread; on a GPU, the
            number of PyTorch threads.
        chunks_at_once: maximum number of chunks in one network call.
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
        """Advance the call's chunks by one step."""
        logs.about(call.job_id)
        segment, step, _ = call.calls[0].id
        with tracing.span(
            "ETHD",
            call.trace,
            kind=tracing.SpanKind.SERVER,
            chunks=len(call.calls),
            video_id=call.job_id,
            segment=segment,
            step=step,
        ) as span:
            chunks, receipt = await self._queue.render(call, data)
            span.set_attributes({"computed_s": receipt.seconds, "chunks_together": receipt.num_chunks})
        log.debug("step %d of segment %d: %.3f s for %d chunks", step, segment, receipt.seconds, len(call.calls))
        yield chunks
        yield receipt

    async def record_autoscaling_stats(self) -> dict[str, int]:
        """Report the live calls, which the job store does not know, to the autoscaling policy. Serve calls this."""
        return {LIVE_CALLS: self._queue.num_live_calls}

    async def check_health(self) -> None:
        """Raise ServingError if a computation hangs."""
        self._threads.check()
