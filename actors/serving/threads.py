"""Blocking work off the event loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


async def in_thread(
    executor: Executor | None, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Run a function in a thread and wait for its end in any case.

    If the awaiting task is cancelled, the cancellation is raised after the thread has ended, so that a resource of the
    function (a temporary folder, a transaction) is never taken away while it runs. `executor` None is asyncio's own.
    """
    call = partial(contextvars.copy_context().run, function, *args, **kwargs)
    future = asyncio.get_running_loop().run_in_executor(executor, call)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        future.exception()  # retrieved, because asyncio logs an exception that nobody retrieves
        raise cancelled
    return future.result()
