"""Calls to the replicas over Ray Serve's handles: by reference, and sent again when a replica dies."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ray import ObjectRef
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    RayError,
    RaySystemError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from emotivetalk.actors.errors import ServingError
from emotivetalk.actors.serving.observing.meters import Meters
from emotivetalk.actors.serving.replicas.messages import (
    FinishCall,
    FinishedLiveSegment,
    FinishedSegment,
    LiveFinishCall,
    LiveMotionCall,
    MotionCall,
    Receipt,
    RenderCall,
)
from emotivetalk.errors import EmotiveTalkError

log = logging.getLogger(__name__)

Result = TypeVar("Result")

REPLICA_ERRORS = (
    ActorDiedError,
    ActorUnavailableError,
    RayActorError,
    NodeDiedError,
    WorkerCrashedError,
    RaySystemError,
    GetTimeoutError,
    BackPressureError,
    DeploymentUnavailableError,
)
"""The call did not end, and the call itself is not the cause: it may be sent again."""
UNKNOWN_ERROR_ATTEMPTS = 2  # a call that fails with any other error is sent again this many times
MAX_DELAY_S = 8.0


class LostResultError(ServingError):
    """Results that a call reads were lost with the node that held them."""


class CallFailedError(ServingError):
    """A call failed in every attempt."""


@dataclass(frozen=True)
class CallResult:
    """A reference to a call's result in the object store, and the receipt of the replica."""

    reference: Any
    receipt: Receipt


class ReplicaCalls(Protocol):
    """The calls of jobs to the three deployments. `references` lead to the results that a call reads."""

    async def generate_motion(self, call: MotionCall, references: Sequence[Any]) -> CallResult: ...

    async def render(self, call: RenderCall, references: Sequence[Any]) -> CallResult: ...

    async def finish(self, call: FinishCall, references: Sequence[Any]) -> FinishedSegment: ...

    async def assemble(self, job_id: str, fragments: Sequence[str]) -> str: ...


class LiveReplicaCalls(Protocol):
    """The calls of live video to the same deployments."""

    async def generate_motion_live(self, call: LiveMotionCall, references: Sequence[Any]) -> CallResult: ...

    async def render(self, call: RenderCall, references: Sequence[Any]) -> CallResult: ...

    async def finish_live(self, call: LiveFinishCall, references: Sequence[Any]) -> FinishedLiveSegment: ...


class ServeReplicaCalls:
    """`ReplicaCalls` and `LiveReplicaCalls` over Ray Serve's handles.

    Args:
        attempts: how often to send a call whose replica dies.
        delay_s: delay before the second attempt. It doubles with each attempt, up to `MAX_DELAY_S`.
        ethd_in_flight: maximum number of concurrent ETHD calls that the caller makes; one thread waits for each.
        meters: where to count repeated calls; None counts nothing.
    """

    def __init__(
        self,
        vaid: DeploymentHandle,
        ethd: DeploymentHandle,
        decoder: DeploymentHandle,
        attempts: int = 20,
        delay_s: float = 0.1,
        ethd_in_flight: int = 64,
        meters: Meters | None = None,
    ) -> None:
        self._vaid, self._ethd = vaid.options(stream=True), ethd.options(stream=True)
        self._decoder = decoder
        self._attempts, self._delay_s = attempts, delay_s
        self._meters = meters or Meters()
        self._threads = ThreadPoolExecutor(ethd_in_flight + 16, "replica-calls")  # each job has a few V-AID calls

    async def generate_motion(self, call: MotionCall, references: Sequence[ObjectRef]) -> CallResult:
        return await self._retry("vaid", lambda: self._by_reference(self._vaid.generate_motion, call, references))

    async def generate_motion_live(self, call: LiveMotionCall, references: Sequence[ObjectRef]) -> CallResult:
        return await self._retry("vaid", lambda: self._by_reference(self._vaid.generate_motion_live, call, references))

    async def render(self, call: RenderCall, references: Sequence[ObjectRef]) -> CallResult:
        return await self._retry("ethd", lambda: self._by_reference(self._ethd.render, call, references))

    async def finish(self, call: FinishCall, references: Sequence[ObjectRef]) -> FinishedSegment:
        return await self._retry("decoder", lambda: _by_value(self._decoder.finish, call, *references))

    async def finish_live(self, call: LiveFinishCall, references: Sequence[ObjectRef]) -> FinishedLiveSegment:
        return await self._retry("decoder", lambda: _by_value(self._decoder.finish_live, call, *references))

    async def assemble(self, job_id: str, fragments: Sequence[str]) -> str:
        return await self._retry("decoder", lambda: _by_value(self._decoder.assemble, job_id, fragments))

    async def _retry(self, stage: str, send: Callable[[], Awaitable[Result]]) -> Result:
        """Send a call until it succeeds.

        Raises:
            EmotiveTalkError: the replica rejected the inputs.
            LostResultError: the arguments are lost, so another attempt would fail too.
            CallFailedError: the last attempt failed.
        """
        delay_s = self._delay_s
        for attempt in range(1, self._attempts + 1):
            try:
                return await send()
            except RayError as error:
                cause = error.cause if isinstance(error, RayTaskError) else error
                if isinstance(cause, EmotiveTalkError):
                    raise cause from None
                if isinstance(cause, ObjectLostError):
                    raise LostResultError("result_lost", str(cause).splitlines()[0], "It is made again.") from error
                is_replica_error = isinstance(cause, REPLICA_ERRORS)
                if attempt == self._attempts or not (is_replica_error or attempt <= UNKNOWN_ERROR_ATTEMPTS):
                    lines = str(cause).strip().splitlines() or [""]
                    raise CallFailedError(
                        "render_failed",
                        f"a call failed {attempt} times, at last with {type(cause).__name__}: {lines[-1]}",
                        "Look at the replicas' logs; retry the job when they are well.",
                    ) from error
                log.warning("call sent again: %s", type(cause).__name__)
            except REPLICA_ERRORS as error:
                if attempt == self._attempts:
                    raise CallFailedError(
                        "render_failed",
                        f"no replica took a call in {attempt} attempts: {type(error).__name__}",
                        "Look at the deployments' status; retry the job when they are well.",
                    ) from error
                log.warning("call sent again: %s", type(error).__name__)
            self._meters.calls_repeated.add(1, stage)
            await asyncio.sleep(delay_s * (0.5 + random.random()))
            delay_s = min(MAX_DELAY_S, 2 * delay_s)
        raise AssertionError("the last attempt returns or raises")

    async def _by_reference(
        self, method: Any, call: MotionCall | LiveMotionCall | RenderCall, references: Sequence[ObjectRef]
    ) -> CallResult:
        """Send a call whose method yields its result and then a receipt, and fetch only the receipt.

        A thread reads the generator: `__next__` blocks until there is a reference, whereas `__anext__` also fetches the
        value (Ray 2.60).
        """
        loop = asyncio.get_running_loop()
        response = method.remote(call, *references)
        try:
            results = await response._to_object_ref_gen()
            result = await loop.run_in_executor(self._threads, next, results, None)
            receipt = await loop.run_in_executor(self._threads, next, results, None)
            if result is None:
                raise AssertionError("a call yields two results, or an error")
            if receipt is None:
                await result  # a single item is always an error
                raise AssertionError("a call that succeeds yields two results")
            return CallResult(result, await receipt)
        except asyncio.CancelledError:
            response.cancel()
            raise


async def _by_value(method: Any, *arguments: Any) -> Any:
    """Send a call and fetch its result."""
    response = method.remote(*arguments)
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise
