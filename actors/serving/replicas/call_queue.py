"""The queue of calls in front of ETHD, by urgency: live calls, single videos, rows of batches."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Sequence
from dataclasses import dataclass

from emotivetalk.actors.serving.replicas.ethd_worker import ETHDWorker
from emotivetalk.actors.serving.replicas.messages import BlockData, ChunkData, Receipt, RenderCall
from emotivetalk.actors.serving.replicas.startup import ComputeThreads, worker_name


@dataclass(frozen=True)
class _QueuedCall:
    call: RenderCall
    data: Sequence[BlockData | ChunkData]
    answer: asyncio.Future[tuple[ChunkData, Receipt]]


class CallQueue:
    """Queues calls while others compute. Live calls have priority, since a viewer waits for them; rows of batches come last.

    Queued calls run together as far as the worker's `chunks_at_once` allows. A call that is cancelled while queued is
    skipped, so a cancelled video frees the replica after the step that it is in.
    """

    def __init__(self, worker: ETHDWorker, threads: ComputeThreads) -> None:
        self._worker, self._threads = worker, threads
        self._queued: list[_QueuedCall] = []
        self.num_live_calls = 0  # queued or computed
        self._runners: list[asyncio.Task[None]] = []

    async def render(self, call: RenderCall, data: Sequence[BlockData | ChunkData]) -> tuple[ChunkData, Receipt]:
        """Advance the call's chunks by one step."""
        queued = _QueuedCall(call, data, asyncio.get_running_loop().create_future())
        self.num_live_calls += call.is_live
        self._queued.append(queued)
        self._runners = [runner for runner in self._runners if not runner.done()]
        if len(self._runners) < self._threads.at_once:
            # An empty context: the runner computes for every video, so it must not log or trace for this one.
            self._runners.append(asyncio.create_task(self._run(), context=contextvars.Context()))
        try:
            return await queued.answer
        finally:
            queued.answer.cancel()
            self.num_live_calls -= call.is_live

    async def _run(self) -> None:
        while batch := self._next_batch():
            await self._answer(batch)

    async def _answer(self, batch: Sequence[_QueuedCall]) -> None:
        start = time.perf_counter()
        try:
            results = await self._threads.run(self._worker.render, [(item.call, item.data) for item in batch])
        except Exception as error:  # noqa: BLE001 the caller raises it
            if len(batch) > 1:  # run each call alone to find the one that fails
                for item in batch:
                    await self._answer([item])
            elif not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            return
        seconds, num_chunks = time.perf_counter() - start, sum(len(item.call.calls) for item in batch)
        for item, chunks in zip(batch, results, strict=True):
            if not item.answer.done():
                share_s = seconds * len(item.call.calls) / num_chunks
                item.answer.set_result((chunks, Receipt(worker_name(), share_s, num_chunks)))

    def _next_batch(self) -> list[_QueuedCall]:
        """Take the next calls, up to `chunks_at_once` chunks: live ones, then by the urgency of their jobs."""
        pending = [item for item in self._queued if not item.answer.done()]
        self._queued = sorted(pending, key=lambda item: (not item.call.is_live, item.call.urgency))
        batch: list[_QueuedCall] = []
        num_chunks = 0
        while self._queued:
            num_chunks += len(self._queued[0].call.calls)
            if batch and num_chunks > self._worker.chunks_at_once:
                break
            batch.append(self._queued.pop(0))
        return batch
