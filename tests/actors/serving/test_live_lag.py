"""Live calls that fall behind: how the lag is measured, and what a call does about it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from typing import Any

import av
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from emotivetalk.actors.errors import OverloadError
from emotivetalk.actors.serving.config import LiveSettings
from emotivetalk.actors.serving.gateway.errors import answer_to, public_error
from emotivetalk.actors.serving.gateway.live_session import LiveFragment
from emotivetalk.actors.serving.observing.meters import InRegistry, Meters
from emotivetalk.actors.serving.rendering.live_engine import LiveRenderer
from emotivetalk.actors.serving.rendering.live_lag import LagLimits, LagMeter
from emotivetalk.actors.serving.rendering.replica_calls import CallResult
from emotivetalk.actors.serving.replicas.messages import FinishedLiveSegment, LiveFinishCall, RenderCall
from emotivetalk.errors import InputError
from emotivetalk.request import VideoSettings
from tests.actors.serving.test_live_engine import (
    CALLER,
    FRAME,
    CallOutput,
    LiveSetup,
    LocalReplicaCalls,
    decode,
    header,
    live,  # noqa: F401 a fixture
    run_call,
    send_speech,
)

LIMITS = LagLimits(fewer_steps_s=4.0, drop_frames_s=7.0, end_s=9.0)
# A segment of the debug pipeline needs 1.6 s of speech, and the speech lasts 1.9 s.
SOON = {"fewer_steps_lag_s": 1.6, "drop_frames_lag_s": 3.2, "end_lag_s": 4.8}


class Clock:
    """A clock that only tests move."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_call_at_real_time_pace_lags_by_what_is_not_rendered() -> None:
    clock = Clock()
    meter = LagMeter(clock)
    assert meter.lag_s == 0
    for _ in range(50):
        clock.now_s += 0.1
        meter.received(1600)
    assert meter.lag_s == pytest.approx(5.0)
    meter.rendered(50)
    assert meter.lag_s == pytest.approx(3.0)
    clock.now_s += 60  # nothing is spoken meanwhile
    assert meter.lag_s == pytest.approx(3.0)
    meter.rendered(100)
    assert meter.lag_s == 0  # never negative


def test_speech_that_arrives_early_is_not_due_before_its_time() -> None:
    clock = Clock()
    meter = LagMeter(clock)
    for _ in range(50):  # ten seconds at once
        meter.received(3200)
    assert meter.lag_s == pytest.approx(0.2)
    clock.now_s += 4.81
    assert meter.lag_s == pytest.approx(5.0)
    meter.rendered(5 * 25)
    assert meter.lag_s == 0


def test_steps_fall_then_frames_are_dropped_then_the_call_ends() -> None:
    lags = [0.0, 3.9, 4.0, 5.4, 6.5, 8.9]
    assert [LIMITS.num_steps(lag_s, 3) for lag_s in lags] == [3, 3, 2, 1, 1, 1]
    assert [LIMITS.num_steps(lag_s, 8) for lag_s in lags] == [8, 8, 7, 4, 1, 1]
    assert [LIMITS.num_steps(lag_s, 1) for lag_s in lags] == [1] * 6
    assert LagLimits(4.0, 4.0, 9.0, min_steps=2).num_steps(4.0, 3) == 2
    assert [LIMITS.picture_frames(lag_s) for lag_s in [0.0, 6.9, 7.0, 7.9, 8.0, 9.0]] == [1, 1, 2, 2, 4, 4]
    LIMITS.check(8.9)
    with pytest.raises(OverloadError) as raised:
        LIMITS.check(9.0)
    assert raised.value.code == "live_too_slow" and public_error(raised.value) is raised.value
    assert answer_to(raised.value).grpc == "RESOURCE_EXHAUSTED" and raised.value.retry_after_s > 0


def test_limits_follow_from_the_buffer_unless_they_are_given() -> None:
    assert LagLimits.of(LiveSettings(), 2.4) == LagLimits(5.0, 7.0, 9.5)
    assert LagLimits.of(LiveSettings(buffer_s=3.0), 2.4) == LagLimits(2.4, 2.4, 3.4)
    given = LiveSettings(fewer_steps_lag_s=3.0, drop_frames_lag_s=4.0, end_lag_s=20.0, min_steps=2)
    assert LagLimits.of(given, 2.4) == LagLimits(3.0, 4.0, 20.0, 2)
    for wrong in ({"fewer_steps_lag_s": 1.0}, {"drop_frames_lag_s": 4.0}, {"end_lag_s": 6.0}):
        with pytest.raises(InputError) as raised:
            LagLimits.of(LiveSettings(**wrong), 2.4)
        assert raised.value.code == "live_lag_invalid"


class SlowReplicaCalls:
    """The deployments' work, with a clock that each call moves. Records the steps of segments."""

    def __init__(self, calls: LocalReplicaCalls, clock: Clock, seconds_per_segment: float) -> None:
        self._calls, self._clock, self._seconds = calls, clock, seconds_per_segment
        self.generate_motion_live = calls.generate_motion_live
        self.steps: dict[int, set[int]] = {}
        self.stuck = False

    async def render(self, call: RenderCall, references: Sequence[Any]) -> CallResult:
        if self.stuck:
            self._clock.now_s += self._seconds
            await asyncio.Event().wait()
        assert call.request.num_steps is not None
        self.steps.setdefault(call.calls[0].id.segment, set()).add(call.calls[0].id.step)
        assert max(one.id.step for one in call.calls) < call.request.num_steps
        return await self._calls.render(call, references)

    async def finish_live(self, call: LiveFinishCall, references: Sequence[Any]) -> FinishedLiveSegment:
        segment = await self._calls.finish_live(call, references)
        self._clock.now_s += self._seconds
        return segment


def slow_renderer(
    live: LiveSetup,  # noqa: F811
    seconds_per_segment: float,
    **settings: Any,
) -> tuple[LiveRenderer, SlowReplicaCalls]:
    renderer, calls = live.renderer(segments_ahead=1, **settings)
    slow = SlowReplicaCalls(calls, clock := Clock(), seconds_per_segment)
    renderer.replica_calls, renderer.clock = slow, clock
    return renderer, slow


def samples_of(output: CallOutput) -> tuple[list[int], int]:
    """Return the durations of the file's pictures, frames, and where the last one ends."""
    with av.open(io.BytesIO(output.file)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        frames = [round(packet.duration * stream.time_base * 25) for packet in packets if packet.duration is not None]
        starts = [round((packet.pts or 0) * stream.time_base * 25) for packet in packets]
    assert starts == [sum(frames[:index]) for index in range(len(frames))]  # no gaps, no overlaps
    return frames, sum(frames)


def many(speech: np.ndarray, repeats: int) -> np.ndarray:
    return np.tile(speech[: 48 * FRAME], repeats)


def test_a_call_that_keeps_up_is_unchanged_and_tells_its_lag(live: LiveSetup) -> None:  # noqa: F811
    renderer, _ = live.renderer()
    reference = run_call(renderer, send_speech(live.speech, (1600,)))
    renderer, slow = slow_renderer(live, 0.0, **SOON)
    registry = CollectorRegistry()
    renderer.meters = Meters(InRegistry(registry))
    output = run_call(renderer, send_speech(live.speech, (1600,)))
    assert output.fragments == reference.fragments
    assert all((one.lag_s, one.num_dropped_frames, one.num_steps) == (0.0, 0, 2) for one in output.fragments)
    assert slow.steps == {index: {0, 1} for index in range(4)}
    assert registry.get_sample_value("emotivetalk_live_lag_seconds_count") == 4
    assert registry.get_sample_value("emotivetalk_live_frames_total", {"kind": "full"}) == 48
    assert registry.get_sample_value("emotivetalk_live_frames_total", {"kind": "dropped"}) is None  # Ray refuses a 0


def test_a_call_that_falls_behind_takes_fewer_steps_then_drops_frames_then_ends(live: LiveSetup) -> None:  # noqa: F811
    renderer, slow = slow_renderer(live, 1.6, **SOON, buffer_s=10.0)
    registry = CollectorRegistry()
    renderer.meters = Meters(InRegistry(registry))
    fragments: list[LiveFragment] = []

    async def run() -> CallOutput:
        session = renderer()
        try:
            output = CallOutput(
                await session.open(CALLER, header(settings=VideoSettings(seed=3, num_steps=2))), fragments
            )
            await send_speech(many(live.speech, 5), (3200,))(session)
            with pytest.raises(OverloadError) as raised:
                async for fragment in session.fragments():
                    fragments.append(fragment)
            assert raised.value.code == "live_too_slow"
            return output
        finally:
            await session.close()

    output = asyncio.run(run())
    lags = [one.lag_s for one in fragments]
    assert lags == sorted(lags) and lags[-1] >= SOON["end_lag_s"] > lags[-2]
    assert fragments[0].num_steps == 2 and fragments[0].num_dropped_frames == 0
    assert {one.num_steps for one in fragments} == {2, 1}
    for before, one in zip(fragments, fragments[1:]):  # decided when the fragment before was finished
        assert one.num_steps == (2 if before.lag_s < SOON["fewer_steps_lag_s"] else 1)
        assert (one.num_dropped_frames > 0) == (before.lag_s >= SOON["drop_frames_lag_s"])
    assert any(one.num_dropped_frames for one in fragments)
    assert slow.steps[0] == {0, 1} and slow.steps[len(fragments) - 1] == {0}

    durations, num_frames = samples_of(output)
    assert num_frames == sum(one.num_frames for one in fragments)  # the time line has every frame
    num_dropped = sum(one.num_dropped_frames for one in fragments)
    assert len(durations) == num_frames - num_dropped and max(durations) >= 2
    pictures, sound = decode(output.file)
    assert len(pictures) == len(durations)
    assert abs(len(sound) / 48_000 - num_frames / 25) < 0.1  # the sound goes on beneath them
    counts = [registry.get_sample_value("emotivetalk_live_frames_total", {"kind": k}) for k in ("full", "dropped")]
    assert counts == [sum(one.num_frames for one in fragments if one.num_steps == 2), num_dropped]
    assert renderer.num_calls == 0


def test_a_call_that_recovers_takes_all_its_steps_again(live: LiveSetup) -> None:  # noqa: F811
    renderer, slow = slow_renderer(live, 1.6, **SOON)

    async def run() -> list[LiveFragment]:
        session = renderer()
        await session.open(CALLER, header())
        await send_speech(many(live.speech, 2), (3200,))(session)
        fragments = []
        async for fragment in session.fragments():
            fragments.append(fragment)
            if fragment.num_steps == 1:
                slow._seconds = 0.0  # the machine has time again
        await session.close()
        return fragments

    fragments = asyncio.run(run())
    assert {one.num_steps for one in fragments} == {1, 2} and fragments[-1].num_steps == 2
    assert fragments[-1].lag_s < SOON["fewer_steps_lag_s"]


def test_a_call_without_any_fragment_ends_too(live: LiveSetup) -> None:  # noqa: F811
    renderer, slow = slow_renderer(live, 60.0, **SOON)
    slow.stuck = True
    with pytest.raises(OverloadError) as raised:
        run_call(renderer, send_speech(many(live.speech, 4), (3200,)))
    assert raised.value.code == "live_too_slow"
