"""Replicas' threads: so many calls side by side, none left waiting, none that is stuck unseen."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
import torch

from emotivetalk.actors.errors import ServingError
from emotivetalk.actors.serving.replicas.startup import ComputeThreads


@pytest.mark.parametrize(("device", "at_once", "each"), [("cpu", 3, 1), ("cuda", 1, 3)])
def test_threads_of_chunks(device: str, at_once: int, each: int):
    threads = ComputeThreads.of_chunks(3, device)
    together = threading.Barrier(at_once)

    def work() -> int:
        together.wait(timeout=10)  # breaks unless so many calls run side by side
        return torch.get_num_threads()

    async def run() -> list[int]:
        return await asyncio.gather(*(threads.run(work) for _ in range(2 * at_once)))

    assert asyncio.run(run()) == [each] * 2 * at_once


def test_a_call_that_hangs_is_seen_beside_others_that_end():
    threads, go_on = ComputeThreads(1, at_once=2, stuck_s=0.2), threading.Event()

    async def run() -> None:
        hanging = asyncio.create_task(threads.run(go_on.wait))
        for _ in range(5):
            await threads.run(time.sleep, 0.06)
        with pytest.raises(ServingError, match=r"more than 0\.2 s"):
            threads.check()
        go_on.set()
        await hanging
        threads.check()

    asyncio.run(run())
