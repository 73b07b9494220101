"""The ETHD deployment: chunks of any videos go through the network together, and nothing cancelled is computed."""

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
    chance = np.random.default_rng(seed)
    lip = chance.standard_normal((NUM_FRAMES, debug.DIM_LIP)).astype(np.float32)
    expression = chance.standard_normal((NUM_FRAMES, debug.DIM_EXPRESSION)).astype(np.float32)
    return BlockData(0, lip, expression, expression[0])


def first_calls(plan: LongVideoPlan, seed: int, job_id: str = "") -> list[tuple[RenderCall, Sequence[BlockData]]]:
    """The calls of a video's first step, each of one chunk; without `job_id` they carry the portrait along."""
    request = VideoRequest(num_samples=NUM_FRAMES * 640, seed=seed)
    return [
        (
            RenderCall(job_id or f"live_{seed}", request, NUM_FRAMES, 1, (one,), portrait=portrait(seed)),
            (block(seed),),
        )
        for one in plan.segment(0).calls_of(0)
    ]


def test_chunks_of_several_videos_go_through_the_network_together(tmp_path: Path):
    pipeline = debug.pipeline()
    sizes: list[int] = []
    pipeline.ethd.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    frame_decoder, artifacts = FrameDecoder(pipeline.vae), ArtifactStore(str(tmp_path))
    plan = pipeline.latent_sampler.plan(NUM_FRAMES)
    requests = [call for seed in (1, 2, 3) for call in first_calls(plan, seed)]
    assert len(requests) >= 6

    apart = [ETHDWorker(pipeline.latent_sampler, frame_decoder, artifacts).render([one])[0] for one in requests]
    assert set(sizes) == {1}
    sizes.clear()
    together = ETHDWorker(pipeline.latent_sampler, frame_decoder, artifacts, chunks_at_once=4).render(requests)
    assert sizes[0] == 4 and sum(sizes) == len(requests)
    for one, other in zip(apart, together, strict=True):
        assert one.chunks.keys() == other.chunks.keys()
        for key, chunk in one.chunks.items():
            assert_allclose(other.chunks[key], chunk, atol=1e-4)
    # Not because all videos were alike.
    assert np.abs(next(iter(apart[0].chunks.values())) - next(iter(apart[-1].chunks.values()))).max() > 0.1


class Slow:
    """Instead of the network: notes which videos' calls are computed, and takes until `go_on`."""

    chunks_at_once = 1

    def __init__(self) -> None:
        self.computed: list[str] = []
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)

    def render(self, requests: Sequence[tuple[RenderCall, Sequence[BlockData]]]) -> list[ChunkData]:
        self.computed += [call.job_id for call, _ in requests]
        self.begun.release()
        assert self.go_on.acquire(timeout=20)
        return [ChunkData({}) for _ in requests]


def slow_queue(threads: int) -> tuple[CallQueue, Slow]:
    slow = Slow()
    return CallQueue(slow, ComputeThreads.of_chunks(threads, "cpu")), slow  # type: ignore[arg-type]


async def ask(queue: CallQueue, call: RenderCall) -> Receipt:
    return (await queue.render(call, (block(0),)))[1]


async def computing(slow: Slow) -> None:
    assert await asyncio.to_thread(slow.begun.acquire, True, 20)


def call_of(job_id: str, is_live: bool = False) -> RenderCall:
    one = LongVideoPlan(LongVideoConfig(8, 3, 2), NUM_FRAMES, 1).segment(0).calls[0]
    request = VideoRequest(num_samples=NUM_FRAMES * 640)
    return RenderCall(job_id, request, NUM_FRAMES, 1, (one,), portrait=portrait(0) if is_live else None)


@pytest.mark.parametrize("threads", [1, 2])
def test_of_a_cancelled_video_only_the_steps_that_run_are_computed(threads: int):
    queue, slow = slow_queue(threads)

    async def run() -> None:
        cancelled = [asyncio.create_task(ask(queue, call_of("cancelled"))) for _ in range(5)]
        for _ in range(threads):
            await computing(slow)
        wanted = asyncio.create_task(ask(queue, call_of("wanted")))
        await asyncio.sleep(0)
        for task in cancelled:
            task.cancel()
        slow.go_on.release(threads + 1)
        assert (await wanted).num_chunks == 1

    asyncio.run(run())
    assert slow.computed == ["cancelled"] * threads + ["wanted"]


def test_live_calls_go_first():
    queue, slow = slow_queue(1)

    async def run() -> None:
        tasks = [asyncio.create_task(ask(queue, call_of("first")))]
        await computing(slow)
        for name, is_live in (("stored", False), ("live", True)):
            tasks.append(asyncio.create_task(ask(queue, call_of(name, is_live))))
            await asyncio.sleep(0)
        slow.go_on.release(3)
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert slow.computed == ["first", "live", "stored"]


def test_what_the_network_raises_is_its_calls_and_nobody_elses():
    queue, slow = slow_queue(1)
    together: list[int] = []

    def failing(requests: Sequence[tuple[RenderCall, Sequence[BlockData]]]) -> list[ChunkData]:
        together.append(len(requests))
        if any(call.job_id == "bad" for call, _ in requests):
            raise ArithmeticError("no memory")
        return [ChunkData({}) for _ in requests]

    slow.render, slow.chunks_at_once = failing, 3  # type: ignore[method-assign]

    async def run() -> None:
        bad, *good = (asyncio.create_task(ask(queue, call_of(name))) for name in ("bad", "good", "good"))
        for one in good:
            assert (await one).num_chunks == 1
        with pytest.raises(ArithmeticError, match="no memory"):
            await bad

    asyncio.run(run())
    assert together == [3, 1, 1, 1]
