"""What the replicas share: how they start, threads for the work, off the event loop, and a name."""

from __future__ import annotations

import asyncio
import contextvars
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

import torch

from emotivetalk.actors.errors import ServingError
from emotivetalk.actors.serving.observing import tracing
from emotivetalk.actors.serving.observing.logs import log_with_serve

STUCK_S = 300.0

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class ComputeThreads:
    """Runs what a replica computes, so many at a time; what waits does not slow down what computes.

    Args:
        threads: PyTorch's, for each operation.
        at_once: how many calls compute side by side.
        stuck_s: after so long in one call the replica is taken to be broken.
    """

    def __init__(self, threads: int, at_once: int = 1, stuck_s: float = STUCK_S) -> None:
        torch.set_num_threads(threads)
        self.at_once = at_once
        self._pool = ThreadPoolExecutor(at_once, "compute", initializer=partial(torch.set_num_threads, threads))
        self._stuck_s = stuck_s
        self._since: dict[int, float] = {}

    @classmethod
    def of_chunks(cls, threads: int, device: str) -> ComputeThreads:
        """For work on many chunks: on a CPU one thread for each of several, which is faster than several for each."""
        return cls(1, threads) if device == "cpu" else cls(threads)

    async def run(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """The function's result. Who is cancelled while it waits for its turn is never computed.

        It computes in the caller's context: what it logs is about the caller's video.
        """
        context, call = contextvars.copy_context(), partial(self._timed, partial(function, *args, **kwargs))
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: context.run(call))

    def check(self) -> None:
        """Raises ServingError if a call has been running for too long."""
        since = min(self._since.copy().values(), default=None)
        if since is not None and time.monotonic() - since > self._stuck_s:
            raise ServingError(
                "replica_stuck", f"a call has been computing for more than {self._stuck_s:g} s", "Restart the replica."
            )

    def _timed(self, function: Callable[[], Result]) -> Result:
        thread = threading.get_ident()
        self._since[thread] = time.monotonic()
        try:
            return function()
        finally:
            del self._since[thread]


def start_replica(part: str) -> None:
    """What each deployment does first: its log lines go where Serve's go, its spans where the environment says."""
    log_with_serve()
    tracing.configure(part, worker_name())


def worker_name() -> str:
    """Host and process: which replica, for logs and leases."""
    return f"{socket.gethostname()}:{os.getpid()}"
