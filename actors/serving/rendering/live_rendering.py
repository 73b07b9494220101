"""Render one live call: run its graph while the speech arrives, and give its fragments in order."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from fractions import Fraction
from typing import Any

from emotivetalk.actors.serving.config import LiveSettings
from emotivetalk.actors.serving.gateway.live_session import LiveFragment, LiveHeader, SpeechSamples
from emotivetalk.actors.serving.observing import tracing
from emotivetalk.actors.serving.observing.meters import Meters
from emotivetalk.actors.serving.rendering.graph import FinishTask, Kind, MotionTask, RenderGraph, RenderTask
from emotivetalk.actors.serving.rendering.graph_runner import GraphRunner
from emotivetalk.actors.serving.rendering.live_lag import LagLimits, LagMeter
from emotivetalk.actors.serving.rendering.live_plan import LivePlan
from emotivetalk.actors.serving.rendering.live_speech import SpeechBuffer
from emotivetalk.actors.serving.rendering.replica_calls import LiveReplicaCalls
from emotivetalk.actors.serving.replicas.messages import (
    FinishedLiveSegment,
    LiveCue,
    LiveFinishCall,
    LiveMotionCall,
    LivePortrait,
    RenderCall,
)
from emotivetalk.media.fragments import GrowingAudio, SoundPackets
from emotivetalk.models.emotion import EmotionTrack
from emotivetalk.request import SamplingSettings, VideoRequest
from emotivetalk.timebase import FRAME_RATE_HZ, SAMPLES_PER_FRAME

CHECK_S = 0.5
"""Interval at which the lag is checked while no fragment is finished."""
FADE_FRAMES = math.ceil(EmotionTrack.fade_s * FRAME_RATE_HZ)


class LiveRendering:
    """The rendering of one live call; `VideoCalls` for its graph runner.

    V-AID's blocks wait for their speech, and everything else follows from the blocks. The fragments of a call that keeps up
    depend on the speech and on when the emotion changed, never on message boundaries or on the speed of rendering. A call
    that falls behind takes fewer steps and drops frames (`live_lag.py`).

    Args:
        speech: grows while the call lasts. This class trims what is no longer needed.
        cues: emotion changes, likewise.
    """

    def __init__(
        self,
        live_id: str,
        header: LiveHeader,
        portrait: LivePortrait,
        speech: SpeechBuffer,
        cues: list[LiveCue],
        plan: LivePlan,
        replica_calls: LiveReplicaCalls,
        settings: LiveSettings,
        meters: Meters,
        lag: LagMeter,
        lag_limits: LagLimits,
    ) -> None:
        self._live_id, self._portrait, self._speech, self._cues = live_id, portrait, speech, cues
        self._plan, self._replica_calls, self._settings, self._meters = plan, replica_calls, settings, meters
        self._request = VideoRequest(
            num_samples=plan.video.num_frames * SAMPLES_PER_FRAME,
            **dict(SamplingSettings.of(header.settings)),
        )
        self._lag, self._lag_limits = lag, lag_limits
        self._num_steps: dict[int, int] = {}  # by segment
        self._audio = GrowingAudio()
        self._num_encoded_samples = 0
        self._sound: dict[int, SoundPackets] = {}  # by segment
        self._started_at = time.perf_counter()

    async def fragments(self) -> AsyncGenerator[LiveFragment, None]:
        """Yield the fragments in order, as they are finished. Close the generator to cancel the calls in flight.

        Raises:
            OverloadError: code "live_too_slow": the lag has reached its limit.
        """
        settings = self._settings
        limits: dict[Kind, int] = {
            "vaid": 1,
            "ethd": settings.ethd_in_flight,
            "decoder": settings.decoder_in_flight,
        }
        pending: asyncio.Future[FinishedLiveSegment | None] | None = None
        async with aclosing(GraphRunner(self._graph, self, limits).segments()) as segments:
            try:
                while True:
                    pending = pending or asyncio.ensure_future(anext(segments, None))
                    await asyncio.wait({pending}, timeout=CHECK_S)
                    if pending.done():
                        segment, pending = pending.result(), None
                        if segment is None:
                            return
                        yield self._fragment(segment)
                    self._lag_limits.check(self._lag.lag_s)
            finally:
                if pending is not None:
                    pending.cancel()
                    await asyncio.wait({pending})

    def _fragment(self, segment: FinishedLiveSegment) -> LiveFragment:
        if segment.index == 0:
            self._meters.live_first_fragment.observe(time.perf_counter() - self._started_at)
        lag_s, num_steps = self._lag.lag_s, self._num_steps.pop(segment.index)
        self._meters.live_lag.observe(lag_s)
        is_full = num_steps == self._plan.video.num_steps
        num_shown = segment.num_frames - segment.num_dropped_frames
        self._meters.live_frames.add(num_shown, "full" if is_full else "fewer_steps")
        if segment.num_dropped_frames:  # Ray's counters refuse 0
            self._meters.live_frames.add(segment.num_dropped_frames, "dropped")
        return LiveFragment(
            segment.index,
            segment.start_frame,
            segment.num_frames,
            segment.data,
            lag_s,
            segment.num_dropped_frames,
            num_steps,
        )

    def _graph(self, first_segment: int) -> RenderGraph:
        return RenderGraph(
            self._plan.video,
            self._plan.expression,
            self._plan.needs,
            first_segment,
            self._settings.chunks_per_call,
            self._settings.segments_ahead,
            self._choose_steps,
        )

    def _choose_steps(self, segment: int) -> int:
        num_steps = self._lag_limits.num_steps(self._lag.lag_s, self._plan.video.num_steps)
        self._num_steps[segment] = num_steps
        return num_steps

    # ----------------------------------------------------------------------------------------------------- VideoCalls

    @property
    def num_segments(self) -> int | None:
        return self._plan.num_segments(self._speech.num_frames) if self._speech.is_over else None

    async def generate_motion(self, task: MotionTask, arguments: Sequence[Any]) -> Any | None:
        """Wait for the block's speech and generate the block.

        The speech of a block is a fixed range of samples, however much more has arrived.
        """
        plan, speech, block = self._plan, self._speech, task.block
        window = plan.speech_window(block)
        first, stop = window.start * SAMPLES_PER_FRAME, window.stop * SAMPLES_PER_FRAME
        await speech.wait_for(stop)
        if self.num_segments is not None and block >= self.num_segments:
            return None
        self._sound[block] = await self._encode_sound(block, min(stop, speech.num_samples))
        call = LiveMotionCall(
            portrait=self._portrait,
            cues=self._block_cues(block),
            block=block,
            lead=plan.lead,
            num_frames=plan.expression.num_frames,
            long_video=plan.expression.config,
            speech=speech.read(first, stop),
            first_sample=first + plan.lead * SAMPLES_PER_FRAME,
            settings=SamplingSettings.of(self._request),
            live_id=self._live_id,
            trace=tracing.traceparent(),
        )
        speech.trim(plan.speech_window(block + 1).start * SAMPLES_PER_FRAME)
        result = await self._replica_calls.generate_motion_live(call, arguments)
        self._meters.call_seconds.observe(result.receipt.seconds, "vaid", "live")
        return result.reference

    async def render(self, task: RenderTask, arguments: Sequence[Any]) -> Any:
        num_steps, request = self._num_steps[task.id.segment], self._request
        if num_steps != self._plan.video.num_steps:
            request = request.model_copy(update={"num_steps": num_steps})
        call = RenderCall(
            self._live_id,
            request,
            self._plan.video.num_frames,
            task.num_blocks,
            task.calls,
            task.tail,
            portrait=self._portrait,
            trace=tracing.traceparent(),
        )
        result = await self._replica_calls.render(call, arguments)
        self._meters.call_seconds.observe(result.receipt.seconds, "ethd", "live")
        self._meters.ethd_chunks.add(len(task.calls), "live")
        return result.reference

    async def finish(self, task: FinishTask, arguments: Sequence[Any]) -> FinishedLiveSegment:
        index, frames = task.id.segment, task.result.frames
        # The last segment's block waited for the end of the speech, so `num_frames` is final where it cuts a segment.
        stop = min(frames.stop, self._speech.num_frames)
        call = LiveFinishCall(
            live_id=self._live_id,
            portrait=self._portrait,
            index=index,
            result=task.result,
            ease=task.ease,
            tail=task.tail,
            num_frames=stop - frames.start,
            sound=self._sound.pop(index),
            is_last=index + 1 == self.num_segments,
            picture_frames=self._lag_limits.picture_frames(self._lag.lag_s),
            trace=tracing.traceparent(),
        )
        segment = await self._replica_calls.finish_live(call, arguments)
        self._lag.rendered(segment.num_frames)
        for stage, seconds in segment.timings.items():
            self._meters.call_seconds.observe(seconds, stage, "live")
        return segment

    async def _encode_sound(self, block: int, stop: int) -> SoundPackets:
        """Encode the speech up to sample `stop` and return the packets of the block's segment."""
        samples, self._num_encoded_samples = self._speech.read(self._num_encoded_samples, stop), stop
        is_end = self._speech.is_over and stop == self._speech.num_samples
        is_last = block + 1 == self.num_segments
        stop_s = None if is_last else Fraction(self._plan.stop(block), FRAME_RATE_HZ)
        return await asyncio.to_thread(_encode, self._audio, samples, is_end, stop_s)

    def _block_cues(self, block: int) -> tuple[LiveCue, ...]:
        """Return the emotion changes that affect a block, and drop those whose fade ended before it."""
        window = self._plan.motion_window(block)
        faded = [index for index, cue in enumerate(self._cues) if cue.frame + FADE_FRAMES <= window.start]
        del self._cues[: max(faded, default=0)]
        return tuple(cue for cue in self._cues if cue.frame < window.stop)


def _encode(audio: GrowingAudio, samples: SpeechSamples, is_end: bool, stop_s: Fraction | None) -> SoundPackets:
    """Append samples, the last ones if `is_end`, and take the packets up to `stop_s`."""
    audio.push(samples)
    if is_end:
        audio.finish()
    return audio.take(stop_s)
