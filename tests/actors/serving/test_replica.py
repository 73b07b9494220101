"""The compute threads of a replica: how many calls run at once, and detection of a call that hangs."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
import torch

from emotivetalk.actors.errors import ServingError
from emotivetalk.actors.serving.replicas.startup import ComputeThreads


@pytest.mark.parametrize(("device", "num_calls_at_once", "threads_per_call"), [("cpu", 3, 1), ("cuda", 1, 3)])
def test_the_device_decides_how_many_calls_share_the_threads(
    device: str, num_calls_at_once: int, threads_per_call: int
):
    threads = ComputeThreads.of_chunks(3, device)
    barrier = threading.Barrier(num_calls_at_once)

    def work() -> int:
        barrier.wait(timeout=10)  # breaks unless this many calls run at once
        return torch.get_num_threads()

    async def run() -> list[int]:
        return await asyncio.gather(*(threads.run(work) for _ in range(2 * num_calls_at_once)))

    assert asyncio.run(run()) == [threads_per_call] * 2 * num_calls_at_once


def test_a_call_that_hangs_is_detected_while_others_end():
    threads, may_end = ComputeThreads(1, at_once=2, stuck_s=0.2), threading.Event()

    async def run() -> None:
        hanging = asyncio.create_task(threads.run(may_end.wait))
        for _ in range(5):
            await threads.run(time.sleep, 0.06)
        with pytest.raises(ServingError, match=r"more than 0\.2 s"):
            threads.check()
        may_end.set()
        await hanging
        threads.check()

    asyncio.run(run())
