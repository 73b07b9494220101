"""Sessions of live calls: admission, the portrait, incoming speech and emotions, outgoing fragments.

A live call runs on the deployments that render jobs, over an open-ended plan (`live_plan.py`, `live_rendering.py`). The
gateway holds the speech that V-AID still needs, references to results, and the fragments that wait to be sent.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
from jaxtyping import UInt8

from emotivetalk.actors.errors import OverloadError, ServingError
from emotivetalk.actors.serving.config import LiveSettings
from emotivetalk.actors.serving.gateway.live_session import (
    LiveEmotion,
    LiveFragment,
    LiveHeader,
    LiveStarted,
    SpeechSamples,
)
from emotivetalk.actors.serving.intake.submission import Caller, ServedModel
from emotivetalk.actors.serving.observing import logs
from emotivetalk.actors.serving.observing.meters import Meters
from emotivetalk.actors.serving.rendering.live_lag import LagLimits, LagMeter
from emotivetalk.actors.serving.rendering.live_plan import LivePlan
from emotivetalk.actors.serving.rendering.live_rendering import LiveRendering
from emotivetalk.actors.serving.rendering.live_speech import SpeechBuffer
from emotivetalk.actors.serving.rendering.replica_calls import CallFailedError, LiveReplicaCalls, LostResultError
from emotivetalk.actors.serving.replicas.messages import LiveCue, LivePortrait
from emotivetalk.errors import InputError
from emotivetalk.media.fragments import init_segment
from emotivetalk.media.provenance import Provenance
from emotivetalk.timebase import FRAME_RATE_HZ

RETRY_AFTER_S = 10.0

log = logging.getLogger(__name__)

PreparePortrait = Callable[[Caller, LiveHeader], Awaitable[UInt8[np.ndarray, "side side 3"]]]
"""Checks and crops the portrait. Raises InputError or OverloadError."""

MakePlan = Callable[[int | None], LivePlan]
"""Plan of a call in this many steps, or in the checkpoint's default."""


class LiveRenderer:
    """The live calls of one gateway: a `LiveEngine` that bounds how many there are.

    Args:
        software: name and version of this program, for the file's metadata.
        meters: where to count calls and stages; None counts nothing.
        clock: returns seconds, for the lag.

    Raises:
        InputError: the buffer is shorter than the speech that one segment needs, so no call could produce a frame; or the
            limits on the lag are not in order.
    """

    def __init__(
        self,
        replica_calls: LiveReplicaCalls,
        make_plan: MakePlan,
        prepare_portrait: PreparePortrait,
        model: ServedModel,
        software: str,
        settings: LiveSettings,
        meters: Meters | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.meters = meters or Meters()
        self.replica_calls, self.make_plan, self.prepare_portrait = replica_calls, make_plan, prepare_portrait
        self.model, self.software, self.settings = model, software, settings
        self.clock = clock
        self._calls_by_caller: Counter[str] = Counter()
        plan = make_plan(None)
        # The first segment may be shorter than the others.
        num_frames = max(plan.num_speech_frames(0), plan.num_speech_frames(1) - plan.stop(0))
        needed_s = num_frames / FRAME_RATE_HZ
        if settings.buffer_s < needed_s:
            raise InputError(
                "live_buffer_short",
                f"live.buffer_s is {settings.buffer_s:g}, but a segment needs {needed_s:g} s of speech",
                "Raise it, or lower live.segment_chunks or live.look_ahead_frames.",
            )
        self.lag_limits = LagLimits.of(settings, needed_s)

    def __call__(self) -> RenderedSession:
        return RenderedSession(self)

    @property
    def num_calls(self) -> int:
        """Number of live calls in progress."""
        return self._calls_by_caller.total()

    def admit(self, caller: Caller) -> None:
        """Count one more call, until `dismiss`.

        Raises:
            OverloadError: the gateway or the caller has reached its limit.
        """
        if self.num_calls >= self.settings.max_calls:
            raise OverloadError(
                "live_full", f"all {self.settings.max_calls} places for live video are taken", RETRY_AFTER_S
            )
        if self._calls_by_caller[caller.name] >= caller.limits.max_live_calls:
            raise OverloadError(
                "too_many_live_calls",
                f"you have {caller.limits.max_live_calls} live calls, which is the limit limits.max_live_calls",
                RETRY_AFTER_S,
            )
        self._calls_by_caller[caller.name] += 1
        self.meters.live_sessions.add(1)

    def dismiss(self, caller: Caller) -> None:
        """Count one call less."""
        self._calls_by_caller -= Counter([caller.name])  # removes callers that have none left
        self.meters.live_sessions.add(-1)


class RenderedSession:
    """One live call: a `LiveSession`."""

    def __init__(self, renderer: LiveRenderer) -> None:
        self._renderer = renderer
        self._live_id = f"live_{uuid.uuid4().hex}"
        self._speech = SpeechBuffer()
        self._lag = LagMeter(renderer.clock)
        self._cues: list[LiveCue] = []
        self._outgoing: asyncio.Queue[LiveFragment | Exception | None] = asyncio.Queue()
        self._running: asyncio.Task[None] | None = None
        self._admitted: Caller | None = None

    async def open(self, caller: Caller, header: LiveHeader) -> LiveStarted:
        renderer = self._renderer
        renderer.admit(caller)
        self._admitted = caller
        logs.about(self._live_id)
        pixels = await renderer.prepare_portrait(caller, header)
        height, width = pixels.shape[:2]
        tags = Provenance(renderer.model.checkpoint, header.settings.seed, renderer.software).tags()
        init = await asyncio.to_thread(init_segment, width, height, tags=tags)
        self._cues = [LiveCue(0, header.emotion)]
        rendering = LiveRendering(
            self._live_id,
            header,
            LivePortrait(width, pixels.tobytes()),
            self._speech,
            self._cues,
            renderer.make_plan(header.settings.num_steps),
            renderer.replica_calls,
            renderer.settings,
            renderer.meters,
            self._lag,
            renderer.lag_limits,
        )
        self._running = asyncio.create_task(self._run(rendering))
        log.info("live call started", extra={"owner": caller.name})
        return LiveStarted(self._live_id, width, height, init)

    async def push_audio(self, samples: SpeechSamples) -> None:
        self._lag.received(len(samples))
        self._speech.push(samples)

    async def change_emotion(self, emotion: LiveEmotion) -> None:
        frame, last = self._speech.num_frames, self._cues[-1]
        if last.frame == frame:
            self._cues.pop()
        if not self._cues or self._cues[-1].emotion != emotion:
            self._cues.append(LiveCue(frame, emotion))

    async def finish(self) -> None:
        self._speech.finish()

    async def fragments(self) -> AsyncIterator[LiveFragment]:
        while (item := await self._outgoing.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    async def close(self) -> None:
        try:
            if self._running is not None:
                self._running.cancel()
                await asyncio.wait([self._running])
                log.info("live call ended after %d frames of speech", self._speech.num_frames)
        finally:
            if self._admitted is not None:
                self._renderer.dismiss(self._admitted)
                self._admitted = None

    async def _run(self, rendering: LiveRendering) -> None:
        """Render to the end of the speech. `fragments` raises what fails here."""
        try:
            async for fragment in rendering.fragments():
                self._outgoing.put_nowait(fragment)
            self._outgoing.put_nowait(None)
        except (LostResultError, CallFailedError) as error:
            log.warning("live call failed: %s", error)
            ended = ServingError("live_ended", "the rendering ended before the speech", "Begin another call.")
            ended.__cause__ = error
            self._outgoing.put_nowait(ended)
        except Exception as error:  # noqa: BLE001 `fragments` raises it
            self._outgoing.put_nowait(error)
