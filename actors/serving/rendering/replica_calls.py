"""The director's way to the replicas: calls by reference over Ray Serve's handles, sent again when a replica dies."""

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
    Finished,
    LiveFinishCall,
    LiveFinished,
    LiveMotionCall,
    MotionCall,
    Receipt,
    RenderCall,
)
from emotivetalk.errors import EmotiveTalkError

log = logging.getLogger(__name__)

Result = TypeVar("Result")

DIED = (
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
"""The call never came to its end, through no fault of its own: it may be sent again."""


class LostResultError(ServingError):
    """Results that a call wants to read are gone with the node that held them."""


class CallFailedError(ServingError):
    """A call failed again and again."""


@dataclass(frozen=True)
class Made:
    """What a call made: a reference to it in the object store, and what its maker says of it."""

    reference: Any
    answer: Receipt | Finished


class LiveReplicaCalls(Protocol):
    """The same three deployments, as a live call sees them."""

    async def generate_motion_live(self, call: LiveMotionCall, references: Sequence[Any]) -> Made: ...

    async def render(self, call: RenderCall, references: Sequence[Any]) -> Made: ...

    async def finish_live(self, call: LiveFinishCall, references: Sequence[Any]) -> LiveFinished: ...


class ReplicaCalls(Protocol):
    """The three networks' deployments, as the director sees them. References go in, a reference comes out."""

    async def generate_motion(self, call: MotionCall, references: Sequence[Any]) -> Made: ...

    async def render(self, call: RenderCall, references: Sequence[Any]) -> Made: ...

    async def finish(self, call: FinishCall, references: Sequence[Any]) -> Made: ...

    async def assemble(self, job_id: str, fragments: Sequence[str]) -> str: ...


class ServeReplicaCalls:
    """Over Ray Serve's handles.

    Args:
        attempts: how often a call is sent whose replica dies, or which fails in a way that nobody foresaw.
        delay_s: before the second time; twice as long before the third, and so on, up to 8 s.
        slots: calls to ETHD at the same time, over all jobs of this director.
        meters: where it is counted that a call is sent again; None: nowhere.
    """

    def __init__(
        self,
        vaid: DeploymentHandle,
        ethd: DeploymentHandle,
        decoder: DeploymentHandle,
        attempts: int = 20,
        delay_s: float = 0.1,
        slots: int = 64,
        meters: Meters | None = None,
    ) -> None:
        self._vaid, self._ethd = vaid.options(stream=True), ethd.options(stream=True)
        self._decoder = decoder
        self._attempts, self._delay_s = attempts, delay_s
        self._meters = meters or Meters()
        self._slots = asyncio.Semaphore(slots)
        self._waiting = ThreadPoolExecutor(slots + 16, "waiting")  # of V-AID's calls there are a few for each job

    async def generate_motion(self, call: MotionCall, references: Sequence[ObjectRef]) -> Made:
        return await self._again("vaid", lambda: self._by_reference(self._vaid.generate_motion, call, references))

    async def render(self, call: RenderCall, references: Sequence[ObjectRef]) -> Made:
        async with self._slots:
            return await self._again("ethd", lambda: self._by_reference(self._ethd.render, call, references))

    async def finish(self, call: FinishCall, references: Sequence[ObjectRef]) -> Made:
        async def send() -> Made:
            response = self._decoder.finish.remote(call, *references)
            try:
                return Made(None, await response)
            except asyncio.CancelledError:
                response.cancel()
                raise

        return await self._again("decoder", send)

    async def generate_motion_live(self, call: LiveMotionCall, references: Sequence[ObjectRef]) -> Made:
        return await self._again("vaid", lambda: self._by_reference(self._vaid.generate_motion_live, call, references))

    async def finish_live(self, call: LiveFinishCall, references: Sequence[ObjectRef]) -> LiveFinished:
        async def send() -> LiveFinished:
            response = self._decoder.finish_live.remote(call, *references)
            try:
                return await response
            except asyncio.CancelledError:
                response.cancel()
                raise

        return await self._again("decoder", send)

    async def assemble(self, job_id: str, fragments: Sequence[str]) -> str:
        async def send() -> str:
            return await self._decoder.assemble.remote(job_id, fragments)

        return await self._again("decoder", send)

    async def _again(self, stage: str, send: Callable[[], Awaitable[Result]]) -> Result:
        """Send a call until it is done.

        Raises:
            EmotiveTalkError: what the callee says is wrong with the inputs.
            LostResultError: sending it again is of no use. CallFailedError: nor was it.
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
                if attempt == self._attempts or not (isinstance(cause, DIED) or attempt < 3):
                    said = str(cause).strip().splitlines()[-1] if str(cause).strip() else ""
                    raise CallFailedError(
                        "render_failed",
                        f"a call failed {attempt} times, at last with {type(cause).__name__}: {said}",
                        "Look at the replicas' logs; retry the job when they are well.",
                    ) from error
                log.warning("call sent again: %s", type(cause).__name__)
            except DIED as error:
                if attempt == self._attempts:
                    raise CallFailedError(
                        "render_failed",
                        f"no replica took a call in {attempt} attempts: {type(error).__name__}",
                        "Look at the deployments' status; retry the job when they are well.",
                    ) from error
                log.warning("call sent again: %s", type(error).__name__)
            self._meters.calls_repeated.add(1, stage)
            await asyncio.sleep(delay_s * (0.5 + random.random()))
            delay_s = min(8.0, 2 * delay_s)
        raise AssertionError("the last attempt returns or raises")

    async def _by_reference(
        self, method: Any, call: MotionCall | LiveMotionCall | RenderCall, references: Sequence[ObjectRef]
    ) -> Made:
        """Send a call whose method yields its result and then a receipt; only the receipt is fetched.

        The generator is asked in a thread: its `__next__` waits until there is a reference, whereas its `__anext__`
        also fetches what the reference leads to (Ray 2.60).
        """
        loop = asyncio.get_running_loop()
        response = method.remote(call, *references)
        try:
            results = await response._to_object_ref_gen()
            result = await loop.run_in_executor(self._waiting, next, results, None)
            receipt = await loop.run_in_executor(self._waiting, next, results, None)
            if result is None:
                raise AssertionError("a call gives two results, or an error")
            if receipt is None:
                await result  # nothing but an error comes alone
                raise AssertionError("a call that succeeds gives two results")
            return Made(result, await receipt)
        except asyncio.CancelledError:
            response.cancel()
            raise
