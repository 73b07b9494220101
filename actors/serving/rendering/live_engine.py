"""Live rendering on the deployments that render jobs: V-AID, ETHD and the decoder, by reference.

A call's clip is walked as the graph of a job is (`actors/serving/rendering/graph.py`), over a plan without an end
(`actors/serving/rendering/live_plan.py`). V-AID's blocks wait until their speech is there; all else follows from them. The gateway
holds the speech that is still to be heard, references, and fragments until they are sent. What comes back depends on
what was said and when the emotion changed, never on how it was cut into messages, nor on how fast it is rendered.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import UInt8

from emotivetalk.actors.errors import OverloadError, ServingError
from emotivetalk.actors.serving.config import LiveSettings
from emotivetalk.actors.serving.gateway.live_session import LiveEmotion, LiveFragment, LiveHeader, LiveStarted, Speech
from emotivetalk.actors.serving.intake.submission import Caller, ServedModel
from emotivetalk.actors.serving.observing import logs, tracing
from emotivetalk.actors.serving.observing.meters import Meters
from emotivetalk.actors.serving.rendering.graph import Kind, RenderGraph, Task
from emotivetalk.actors.serving.rendering.live_plan import LivePlan
from emotivetalk.actors.serving.rendering.replica_calls import CallFailedError, LiveReplicaCalls, LostResultError, Made
from emotivetalk.actors.serving.replicas.messages import (
    LiveCue,
    LiveFinishCall,
    LiveFinished,
    LiveMotionCall,
    LivePortrait,
    Receipt,
    RenderCall,
)
from emotivetalk.errors import InputError
from emotivetalk.media.fragments import GrowingAudio, SoundPackets, init_segment
from emotivetalk.media.provenance import Provenance
from emotivetalk.models.emotion import EmotionTrack
from emotivetalk.request import SamplingSettings, VideoRequest
from emotivetalk.timebase import FRAME_RATE_HZ, SAMPLES_PER_FRAME

RETRY_AFTER_S = 10.0
FADE_FRAMES = math.ceil(EmotionTrack.fade_s * FRAME_RATE_HZ)

log = logging.getLogger(__name__)

PreparePortrait = Callable[[Caller, LiveHeader], Awaitable[UInt8[np.ndarray, "side side 3"]]]
"""Checks and frames the portrait; raises InputError, or OverloadError."""

MakePlan = Callable[[int | None], LivePlan]
"""The plan of a call in so many steps, or in the checkpoint's."""


class LiveRenderer:
    """Makes the sessions of one gateway, as many at the same time as it has places: a `LiveEngine`.

    Args:
        software: name and version of this program, for the file's metadata.
        meters: where calls and stages are counted; None: nowhere.

    Raises:
        InputError: nothing would ever be rendered, since the buffer holds less than a segment needs.
    """

    def __init__(
        self,
        stages: LiveReplicaCalls,
        make_plan: MakePlan,
        prepare: PreparePortrait,
        model: ServedModel,
        software: str,
        settings: LiveSettings,
        meters: Meters | None = None,
    ) -> None:
        self.meters = meters or Meters()
        self.stages, self.make_plan, self.prepare = stages, make_plan, prepare
        self.model, self.software, self.settings = model, software, settings
        self.calls_of: Counter[str] = Counter()  # by the caller's name
        needed_s = make_plan(None).wanted(0) / FRAME_RATE_HZ
        if settings.buffer_s < needed_s:
            raise InputError(
                "live_buffer_short",
                f"live.buffer_s is {settings.buffer_s:g}, but a segment needs {needed_s:g} s of speech",
                "Raise it, or lower live.segment_chunks or live.look_ahead_frames.",
            )

    def __call__(self) -> RenderedSession:
        return RenderedSession(self)

    @property
    def num_calls(self) -> int:
        return self.calls_of.total()

    def take_place(self, caller: Caller) -> None:
        """For one more call, until `leave_place`.

        Raises:
            OverloadError: there is none left, or the caller has as many as it may.
        """
        if self.num_calls >= self.settings.max_calls:
            raise OverloadError(
                "live_full", f"all {self.settings.max_calls} places for live video are taken", RETRY_AFTER_S
            )
        if self.calls_of[caller.name] >= caller.limits.max_live_calls:
            raise OverloadError(
                "too_many_live_calls",
                f"you have {caller.limits.max_live_calls} live calls, which is the limit limits.max_live_calls",
                RETRY_AFTER_S,
            )
        self.calls_of[caller.name] += 1
        self.meters.live_sessions.add(1)

    def leave_place(self, caller: Caller) -> None:
        """The caller's call has ended."""
        self.calls_of -= Counter([caller.name])  # names without calls are forgotten
        self.meters.live_sessions.add(-1)


class HeardSpeech:
    """The speech of a call, as far as it is still needed. Samples count from the clip's begin."""

    def __init__(self) -> None:
        self._pieces: list[Speech] = []
        self._first = 0
        self._changed = asyncio.Event()
        self.num_samples = 0
        self.is_over = False

    @property
    def num_frames(self) -> int:
        """Which the speech so far begins; the last one may be heard in part."""
        return -(-self.num_samples // SAMPLES_PER_FRAME)

    def push(self, samples: Speech) -> None:
        """What is said next."""
        self._pieces.append(samples)
        self.num_samples += len(samples)
        self._changed.set()

    def finish(self) -> None:
        """Nothing more will be said."""
        self.is_over = True
        self._changed.set()

    async def until(self, num_samples: int) -> None:
        """Wait until so much was said, or the speech is over."""
        while self.num_samples < num_samples and not self.is_over:
            self._changed.clear()
            await self._changed.wait()

    def stretch(self, start: int, stop: int) -> Speech:
        """What was said from one sample to another, as far as it was."""
        self._pieces = [np.concatenate(self._pieces)] if self._pieces else []
        whole = self._pieces[0] if self._pieces else np.zeros(0, np.float32)
        assert start >= self._first, "forgotten already"
        return whole[start - self._first : max(start, stop) - self._first]

    def forget(self, before: int) -> None:
        """Nobody will ask for what was said before this sample."""
        rest = self.stretch(min(max(before, self._first), self.num_samples), self.num_samples)
        self._first = self.num_samples - len(rest)
        self._pieces = [rest.copy()]


@dataclass(frozen=True)
class _Outcome:
    """What became of a task: a reference to its result, or a fragment; or neither, since the speech ended before it."""

    task: Task
    reference: Any = None
    fragment: LiveFinished | None = None
    is_needless: bool = False


class RenderedSession:
    """One live call: a `LiveSession`."""

    def __init__(self, renderer: LiveRenderer) -> None:
        self._renderer = renderer
        self._live_id = f"live_{uuid.uuid4().hex}"
        self._speech = HeardSpeech()
        self._cues: list[LiveCue] = []
        self._given: asyncio.Queue[LiveFragment | Exception | None] = asyncio.Queue()
        self._walking: asyncio.Task[None] | None = None
        self._placed: Caller | None = None  # who has the place that it takes

    async def open(self, caller: Caller, header: LiveHeader) -> LiveStarted:
        renderer = self._renderer
        renderer.take_place(caller)
        self._placed = caller
        logs.about(self._live_id)
        pixels = await renderer.prepare(caller, header)
        height, width = pixels.shape[:2]
        tags = Provenance(renderer.model.checkpoint, header.settings.seed, renderer.software).tags()
        init = await asyncio.to_thread(init_segment, width, height, tags=tags)
        self._cues = [LiveCue(0, header.emotion)]
        walk = _Walk(renderer, self._live_id, header, LivePortrait(width, pixels.tobytes()), self._speech, self._cues)
        self._walking = asyncio.create_task(self._run(walk))
        log.info("live call begun", extra={"owner": caller.name})
        return LiveStarted(self._live_id, width, height, init)

    async def push_audio(self, samples: Speech) -> None:
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
        while (given := await self._given.get()) is not None:
            if isinstance(given, Exception):
                raise given
            yield given

    async def close(self) -> None:
        try:
            if self._walking is not None:
                self._walking.cancel()
                await asyncio.wait([self._walking])
                frames = self._speech.num_frames
                log.info("live call ended after %d frames of speech", frames)
        finally:
            if self._placed is not None:
                self._renderer.leave_place(self._placed)
                self._placed = None

    async def _run(self, walk: _Walk) -> None:
        """To the end of the speech; how it ends is told by `fragments`."""
        try:
            async for fragment in walk.fragments():
                self._given.put_nowait(fragment)
            self._given.put_nowait(None)
        except (LostResultError, CallFailedError) as error:
            log.warning("live call failed: %s", error)
            ended = ServingError("live_ended", "the rendering ended before the speech", "Begin another call.")
            ended.__cause__ = error
            self._given.put_nowait(ended)
        except Exception as error:  # noqa: BLE001 whatever it was, it is the front door's
            self._given.put_nowait(error)


class _Walk:
    """The work of one call.

    Args:
        speech, cues: grow while it works; it lets go of what is over.
    """

    def __init__(
        self,
        renderer: LiveRenderer,
        live_id: str,
        header: LiveHeader,
        portrait: LivePortrait,
        speech: HeardSpeech,
        cues: list[LiveCue],
    ) -> None:
        settings = renderer.settings
        self._stages, self._settings, self._meters = renderer.stages, settings, renderer.meters
        self._live_id, self._portrait, self._speech, self._cues = live_id, portrait, speech, cues
        self._plan = plan = renderer.make_plan(header.settings.num_steps)
        self._graph = RenderGraph(
            plan.video,
            plan.expression,
            plan.needs,
            chunks_per_call=settings.chunks_per_call,
            segments_ahead=settings.segments_ahead,
        )
        self._request = VideoRequest(
            num_samples=plan.video.num_frames * SAMPLES_PER_FRAME,
            **dict(SamplingSettings.of(header.settings)),
        )
        self._audio = GrowingAudio()
        self._num_encoded = 0
        self._sound: dict[int, SoundPackets] = {}
        self._finished: dict[int, LiveFinished] = {}
        self._next = 0
        self._begun = time.perf_counter()

    async def fragments(self) -> AsyncIterator[LiveFragment]:
        """The fragments in order, as they are made."""
        limits: dict[Kind, int] = {
            "vaid": 1,
            "ethd": self._settings.ethd_in_flight,
            "decoder": self._settings.decoder_in_flight,
        }
        in_flight: Counter[Kind] = Counter()
        running: set[asyncio.Task[_Outcome]] = set()
        done: set[asyncio.Task[_Outcome]] = set()
        try:
            while not self._is_done:
                for kind, limit in limits.items():
                    while in_flight[kind] < limit and (task := self._graph.take(kind)) is not None:
                        in_flight[kind] += 1
                        running.add(asyncio.create_task(self._do(task)))
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for outcome in [task.result() for task in done]:
                    if outcome.is_needless:  # and so is every block after it: V-AID's place stays taken
                        continue
                    in_flight[outcome.task.id.kind] -= 1
                    self._graph.finish(outcome.task, outcome.reference)
                    if outcome.fragment is not None:
                        self._finished[outcome.fragment.index] = outcome.fragment
                while (made := self._finished.pop(self._next, None)) is not None:
                    if self._next == 0:
                        self._meters.live_first_fragment.observe(time.perf_counter() - self._begun)
                    self._next += 1
                    yield LiveFragment(made.index, made.start_frame, made.num_frames, made.data)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, *done, return_exceptions=True)  # several may have failed at once

    @property
    def _num_segments(self) -> int | None:
        """None while nobody knows."""
        return self._plan.num_segments(self._speech.num_frames) if self._speech.is_over else None

    @property
    def _is_done(self) -> bool:
        return self._next == self._num_segments

    def _note(self, made: Made, stage: str) -> None:
        if isinstance(made.answer, Receipt):
            self._meters.call_seconds.observe(made.answer.seconds, stage, "live")

    async def _do(self, task: Task) -> _Outcome:
        if task.id.kind == "vaid":
            return await self._generate_motion(task)
        if task.id.kind == "decoder":
            return await self._finish(task)
        call = RenderCall(
            self._live_id,
            self._request,
            self._plan.video.num_frames,
            task.blocks,
            task.calls,
            task.before,
            portrait=self._portrait,
            trace=tracing.traceparent(),
        )
        made = await self._stages.render(call, self._graph.results(task))
        self._note(made, "ethd")
        self._meters.ethd_chunks.add(len(task.calls), "live")
        return _Outcome(task, made.reference)

    async def _generate_motion(self, task: Task) -> _Outcome:
        """A block, once its speech is there. What of the speech belongs to it does not depend on what else is there."""
        plan, speech = self._plan, self._speech
        heard = plan.heard(task.block)
        first, wanted = heard.start * SAMPLES_PER_FRAME, heard.stop * SAMPLES_PER_FRAME
        await speech.until(wanted)
        if self._num_segments is not None and task.block >= self._num_segments:
            return _Outcome(task, is_needless=True)
        stop = min(wanted, speech.num_samples)
        samples, self._num_encoded = speech.stretch(self._num_encoded, stop), stop
        is_end = speech.is_over and stop == speech.num_samples
        is_last = task.block + 1 == self._num_segments
        stop_s = None if is_last else Fraction(plan.stop(task.block), FRAME_RATE_HZ)
        self._sound[task.block] = await asyncio.to_thread(_encode, self._audio, samples, is_end, stop_s)
        call = LiveMotionCall(
            portrait=self._portrait,
            cues=self._cues_of(task.block),
            block=task.block,
            lead=plan.lead,
            num_frames=plan.expression.num_frames,
            long_video=plan.expression.config,
            speech=speech.stretch(first, wanted),
            first_sample=first + plan.lead * SAMPLES_PER_FRAME,
            seed=self._request.seed,
            emotion_strength=self._request.emotion_strength,
            live_id=self._live_id,
            trace=tracing.traceparent(),
        )
        speech.forget(plan.heard(task.block + 1).start * SAMPLES_PER_FRAME)
        made = await self._stages.generate_motion_live(call, self._graph.results(task))
        self._note(made, "vaid")
        return _Outcome(task, made.reference)

    async def _finish(self, task: Task) -> _Outcome:
        assert task.result is not None
        index, frames = task.id.segment, task.result.frames
        # The last segment's block waited until the speech was over; behind the end there is nothing to show.
        stop = min(frames.stop, self._speech.num_frames)
        call = LiveFinishCall(
            live_id=self._live_id,
            portrait=self._portrait,
            index=index,
            result=task.result,
            ease=task.ease,
            before=task.before,
            num_frames=stop - frames.start,
            sound=self._sound.pop(index),
            is_last=index + 1 == self._num_segments,
            trace=tracing.traceparent(),
        )
        made = await self._stages.finish_live(call, self._graph.results(task))
        for stage, seconds in (made.timings or {}).items():
            self._meters.call_seconds.observe(seconds, stage, "live")
        return _Outcome(task, fragment=made)

    def _cues_of(self, block: int) -> tuple[LiveCue, ...]:
        """The emotions of the frames that V-AID sees in a block; earlier ones are forgotten."""
        seen = self._plan.seen(block)
        faded = [index for index, cue in enumerate(self._cues) if cue.frame + FADE_FRAMES <= seen.start]
        del self._cues[: max(faded, default=0)]
        return tuple(cue for cue in self._cues if cue.frame < seen.stop)


def _encode(audio: GrowingAudio, samples: Speech, is_end: bool, stop_s: Fraction | None) -> SoundPackets:
    """The sound up to a time, of which these samples are the last that are needed."""
    audio.push(samples)
    if is_end:
        audio.finish()
    return audio.take(stop_s)
