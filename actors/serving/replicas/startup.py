"""Start-up, compute threads and name of a replica, shared by all deployments."""

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
    """Runs a replica's computations in threads, off the event loop.

    Args:
        threads: number of PyTorch threads of each computation.
        at_once: maximum number of concurrent computations.
        stuck_s: a replica whose computation takes longer is unhealthy.
    """

    def __init__(self, threads: int, at_once: int = 1, stuck_s: float = STUCK_S) -> None:
        torch.set_num_threads(threads)
        self.at_once = at_once
        self._pool = ThreadPoolExecutor(at_once, "compute", initializer=partial(torch.set_num_threads, threads))
        self._stuck_s = stuck_s
        self._since: dict[int, float] = {}

    @classmethod
    def of_chunks(cls, threads: int, device: str) -> ComputeThreads:
        """Threads for work on many chunks. On a CPU, several chunks by one thread each are faster than one by several."""
        return cls(1, threads) if device == "cpu" else cls(threads)

    async def run(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Run the function and return its result. A call that is cancelled while queued is skipped.

        The function runs in the caller's context, so that its log lines name the caller's video.
        """
        context, call = contextvars.copy_context(), partial(self._timed, partial(function, *args, **kwargs))
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: context.run(call))

    def check(self) -> None:
        """Raise ServingError if a computation has been running for longer than `stuck_s`."""
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
    """Send the replica's log lines where Serve's go, and its spans where the environment says."""
    log_with_serve()
    tracing.configure(part, worker_name())


def worker_name() -> str:
    """Return host and process of the replica, for logs and leases."""
    return f"{socket.gethostname()}:{os.getpid()}"
