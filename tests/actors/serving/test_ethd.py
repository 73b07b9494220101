"""The ETHD deployment: chunks of several videos are batched, and cancelled calls are skipped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.replicas.call_queue import CallQueue
from emotivetalk.actors.serving.replicas.ethd_worker import ETHDWorker
from emotivetalk.actors.serving.replicas.messages import BlockData, ChunkData, LivePortrait, Receipt, RenderCall
from emotivetalk.actors.serving.replicas.startup import ComputeThreads
from emotivetalk.models.frame_decoder import FrameDecoder
from emotivetalk.models.long_video_plan import LongVideoConfig, LongVideoPlan
from emotivetalk.request import VideoRequest
from tests.models import debug

NUM_FRAMES = 24


def portrait(seed: int) -> LivePortrait:
    pixels = np.random.default_rng(seed).integers(0, 256, (debug.IMAGE_SIZE, debug.IMAGE_SIZE, 3), np.uint8)
    return LivePortrait(debug.IMAGE_SIZE, pixels.tobytes())


def block(seed: int) -> BlockData:
    random = np.random.default_rng(seed)
    lip = random.standard_normal((NUM_FRAMES, debug.DIM_LIP)).astype(np.float32)
    expression = random.standard_normal((NUM_FRAMES, debug.DIM_EXPRESSION)).astype(np.float32)
    return BlockData(0, lip, expression, expression[0])


def first_calls(plan: LongVideoPlan, seed: int, job_id: str = "") -> list[tuple[RenderCall, Sequence[BlockData]]]:
    """Return the calls of a video's first step, each of one chunk. All carry the portrait; the default `job_id` is a live call's."""
    request = VideoRequest(num_samples=NUM_FRAMES * 640, seed=seed)
    return [
        (
            RenderCall(job_id or f"live_{seed}", request, NUM_FRAMES, 1, (one,), portrait=portrait(seed)),
            (block(seed),),
        )
        for one in plan.segment(0).calls_of(0)
    ]


def test_chunks_of_several_videos_are_batched(tmp_path: Path):
    pipeline = debug.pipeline()
    sizes: list[int] = []
    pipeline.ethd.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    frame_decoder, artifacts = FrameDecoder(pipeline.vae), ArtifactStore(str(tmp_path))
    plan = pipeline.latent_sampler.plan(NUM_FRAMES)
    requests = [call for seed in (1, 2, 3) for call in first_calls(plan, seed)]
    assert len(requests) >= 6

    alone = [ETHDWorker(pipeline.latent_sampler, frame_decoder, artifacts).render([one])[0] for one in requests]
    assert set(sizes) == {1}
    sizes.clear()
    together = ETHDWorker(pipeline.latent_sampler, frame_decoder, artifacts, chunks_at_once=4).render(requests)
    assert sizes[0] == 4 and sum(sizes) == len(requests)
    for one, other in zip(alone, together, strict=True):
        assert one.chunks.keys() == other.chunks.keys()
        for key, chunk in one.chunks.items():
            assert_allclose(other.chunks[key], chunk, atol=1e-4)
    # The videos differ, so equality means something.
    assert np.abs(next(iter(alone[0].chunks.values())) - next(iter(alone[-1].chunks.values()))).max() > 0.1


class BlockingWorker:
    """Stands in for the network: records the videos whose calls are computed, and blocks each until `may_end` is released."""

    chunks_at_once = 1

    def __init__(self) -> None:
        self.computed: list[str] = []
        self.started = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def render(self, requests: Sequence[tuple[RenderCall, Sequence[BlockData]]]) -> list[ChunkData]:
        self.computed += [call.job_id for call, _ in requests]
        self.started.release()
        assert self.may_end.acquire(timeout=20)
        return [ChunkData({}) for _ in requests]


def blocking_queue(threads: int) -> tuple[CallQueue, BlockingWorker]:
    worker = BlockingWorker()
    return CallQueue(worker, ComputeThreads.of_chunks(threads, "cpu")), worker  # type: ignore[arg-type]


async def render(queue: CallQueue, call: RenderCall) -> Receipt:
    return (await queue.render(call, (block(0),)))[1]


async def wait_until_started(worker: BlockingWorker) -> None:
    assert await asyncio.to_thread(worker.started.acquire, True, 20)


def render_call(job_id: str, is_live: bool = False, urgency: tuple[int, float] = (0, 0.0)) -> RenderCall:
    one = LongVideoPlan(LongVideoConfig(8, 3, 2), NUM_FRAMES, 1).segment(0).calls[0]
    request = VideoRequest(num_samples=NUM_FRAMES * 640)
    face = portrait(0) if is_live else None
    return RenderCall(job_id, request, NUM_FRAMES, 1, (one,), portrait=face, urgency=urgency)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_cancelled_call_is_skipped_unless_it_has_started(threads: int):
    queue, worker = blocking_queue(threads)

    async def run() -> None:
        cancelled = [asyncio.create_task(render(queue, render_call("cancelled"))) for _ in range(5)]
        for _ in range(threads):
            await wait_until_started(worker)
        wanted = asyncio.create_task(render(queue, render_call("wanted")))
        await asyncio.sleep(0)
        for task in cancelled:
            task.cancel()
        worker.may_end.release(threads + 1)
        assert (await wanted).num_chunks == 1

    asyncio.run(run())
    assert worker.computed == ["cancelled"] * threads + ["wanted"]


def test_calls_are_computed_by_urgency_live_ones_first():
    queue, worker = blocking_queue(1)

    async def run() -> None:
        tasks = [asyncio.create_task(render(queue, render_call("first")))]
        await wait_until_started(worker)
        for call in (
            render_call("row", urgency=(1, 0.0)),
            render_call("long", urgency=(0, 9.0)),
            render_call("short", urgency=(0, 5.0)),
            render_call("live", is_live=True),
        ):
            tasks.append(asyncio.create_task(render(queue, call)))
            await asyncio.sleep(0)
        worker.may_end.release(5)
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert worker.computed == ["first", "live", "short", "long", "row"]


def test_an_error_fails_only_the_call_that_caused_it():
    queue, worker = blocking_queue(1)
    batch_sizes: list[int] = []

    def failing(requests: Sequence[tuple[RenderCall, Sequence[BlockData]]]) -> list[ChunkData]:
        batch_sizes.append(len(requests))
        if any(call.job_id == "bad" for call, _ in requests):
            raise ArithmeticError("no memory")
        return [ChunkData({}) for _ in requests]

    worker.render, worker.chunks_at_once = failing, 3  # type: ignore[method-assign]

    async def run() -> None:
        bad, *good = (asyncio.create_task(render(queue, render_call(name))) for name in ("bad", "good", "good"))
        for one in good:
            assert (await one).num_chunks == 1
        with pytest.raises(ArithmeticError, match="no memory"):
            await bad

    asyncio.run(run())
    assert batch_sizes == [3, 1, 1, 1]
