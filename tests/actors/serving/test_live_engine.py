"""Live calls on workers without Ray. The output depends on the speech and the emotions, not on how they arrive."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry

from emotivetalk.actors.errors import OverloadError, ServingError
from emotivetalk.actors.serving.config import LiveSettings
from emotivetalk.actors.serving.gateway.errors import answer_to
from emotivetalk.actors.serving.gateway.live_session import LiveEmotion, LiveFragment, LiveHeader, LiveStarted
from emotivetalk.actors.serving.gateway.settings import CallerLimits
from emotivetalk.actors.serving.intake.submission import Caller, ServedModel
from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.observing.meters import InRegistry, Meters
from emotivetalk.actors.serving.rendering.live_engine import LiveRenderer, RenderedSession
from emotivetalk.actors.serving.rendering.live_plan import LivePlan, live_plan
from emotivetalk.actors.serving.rendering.live_speech import SpeechBuffer
from emotivetalk.actors.serving.rendering.plans import CheckpointPlans
from emotivetalk.actors.serving.rendering.replica_calls import CallResult, LostResultError
from emotivetalk.actors.serving.replicas.decoder import DecoderWorker
from emotivetalk.actors.serving.replicas.ethd_worker import ETHDWorker
from emotivetalk.actors.serving.replicas.messages import (
    BlockData,
    FinishedLiveSegment,
    LiveFinishCall,
    LiveMotionCall,
    Receipt,
    RenderCall,
)
from emotivetalk.actors.serving.replicas.vaid import VAIDWorker, to_block
from emotivetalk.errors import InputError
from emotivetalk.media.checkpoints import find_checkpoint
from emotivetalk.media.fragments import ClipAudio, encode_audio, fragment
from emotivetalk.models.emotion import EmotionMapping
from emotivetalk.models.frame_decoder import FrameDecoder
from emotivetalk.models.motion_generator import join
from emotivetalk.models.pipeline import EmotiveTalkPipeline, MotionSequence
from emotivetalk.request import LabelEmotion, TextEmotion, VideoSettings
from tests.models import debug

CALLER = Caller("alice", CallerLimits())
HAPPY, SAD = LabelEmotion(emotion="happy"), LabelEmotion(emotion="sad")
FRAME = 640
RECEIPT = Receipt("here", 0.01, 1)
CONTEXT = 22


class LocalReplicaCalls:
    """The deployments' work in threads of this process. Records V-AID's blocks; raises `error` if it is set."""

    def __init__(self, pipeline: EmotiveTalkPipeline, artifacts: ArtifactStore) -> None:
        self.vaid = VAIDWorker(pipeline.motion_generator, artifacts)
        self.ethd = ETHDWorker(pipeline.latent_sampler, FrameDecoder(pipeline.vae), artifacts)
        self.decoder = DecoderWorker(FrameDecoder(pipeline.vae), artifacts, "debug", "test")
        self.blocks: list[BlockData] = []
        self.speech_lengths: list[int] = []
        self.num_started = self.num_cancelled = 0
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None

    async def generate_motion_live(self, call: LiveMotionCall, references: Sequence[Any]) -> CallResult:
        block = await asyncio.to_thread(self.vaid.generate_motion_live, call, references[0] if references else None)
        assert call.block == len(self.blocks)
        self.blocks.append(block)
        self.speech_lengths.append(len(call.speech))
        return CallResult(block, RECEIPT)

    async def render(self, call: RenderCall, references: Sequence[Any]) -> CallResult:
        self.num_started += 1
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.error is not None:
                raise self.error
            return CallResult((await asyncio.to_thread(self.ethd.render, [(call, references)]))[0], RECEIPT)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise

    async def finish_live(self, call: LiveFinishCall, references: Sequence[Any]) -> FinishedLiveSegment:
        return await asyncio.to_thread(self.decoder.finish_live, call, references)


def make_plan(pipeline: EmotiveTalkPipeline, look_ahead_frames: int | None = None) -> LivePlan:
    # Di-CTE's chunks are longer than the pipeline's, so the plan has a lead.
    return live_plan(pipeline.long_video, 2, 32, 4, 5, CONTEXT, 250, look_ahead_frames)


@dataclass
class LiveSetup:
    """A pipeline, a portrait and speech; makes renderers from them."""

    pipeline: EmotiveTalkPipeline
    folder: Path
    portrait: np.ndarray
    speech: np.ndarray

    def renderer(self, look_ahead_frames: int | None = None, **settings: Any) -> tuple[LiveRenderer, LocalReplicaCalls]:
        calls = LocalReplicaCalls(self.pipeline, ArtifactStore(str(self.folder)))
        plan = make_plan(self.pipeline, look_ahead_frames)

        async def prepare(caller: Caller, header: LiveHeader) -> np.ndarray:
            if header.portrait == b"broken":
                raise InputError("image_unreadable", "image 'me.png' is not an image", "Give a PNG or JPEG file.")
            return self.portrait

        model = ServedModel("debug", "debug@0", debug.IMAGE_SIZE)
        renderer = LiveRenderer(calls, lambda num_steps: plan, prepare, model, "test 1", LiveSettings(**settings))
        return renderer, calls


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> LiveSetup:
    random = np.random.default_rng(5)
    time_s = np.arange(30_400) / 16_000  # 48 frames, the last one incomplete
    speech = 0.4 * np.sin(2 * np.pi * (200 + 150 * time_s) * time_s) * np.sin(2 * np.pi * 3 * time_s)
    portrait = random.integers(0, 255, (debug.IMAGE_SIZE, debug.IMAGE_SIZE, 3), dtype=np.uint8)
    folder = tmp_path_factory.mktemp("live")
    pipeline = debug.pipeline()
    pipeline.register_to_config(segment_chunks=2)
    return LiveSetup(pipeline, folder, portrait, speech.astype(np.float32))


SendInput = Callable[[RenderedSession], Awaitable[None]]
"""Sends a call's speech and emotions."""


@dataclass
class CallOutput:
    """Everything that a call returned."""

    started: LiveStarted
    fragments: list[LiveFragment] = field(default_factory=list)

    @property
    def file(self) -> bytes:
        return self.started.init + b"".join(fragment.data for fragment in self.fragments)


def header(**fields: Any) -> LiveHeader:
    settings = VideoSettings(seed=3, num_steps=2)
    return LiveHeader(**{"portrait": b"me", "portrait_name": "me.png", "emotion": HAPPY, "settings": settings} | fields)


def run_call(renderer: LiveRenderer, send_input: SendInput, **fields: Any) -> CallOutput:
    """Run a whole call: `send_input` sends the speech while the fragments are received."""

    async def run() -> CallOutput:
        session = renderer()
        try:
            output = CallOutput(await session.open(CALLER, header(**fields)))
            sending = asyncio.create_task(send_input(session))
            output.fragments = [fragment async for fragment in session.fragments()]
            await sending
            return output
        finally:
            await session.close()

    output = asyncio.run(run())
    assert renderer.num_calls == 0
    return output


def send_speech(
    speech: np.ndarray, sizes: Sequence[int] = (), changes: dict[int, LiveEmotion] | None = None
) -> SendInput:
    """Return a function that sends the speech in pieces of these sizes, repeated. `changes` maps a number of samples sent to the emotion set there."""

    async def send_input(session: RenderedSession) -> None:
        num_sent, number = 0, 0
        while num_sent < len(speech):
            size = sizes[number % len(sizes)] if sizes else len(speech)
            stop = min([num_sent + size, *(at for at in changes or {} if at > num_sent)])
            if num_sent in (changes or {}):
                await session.change_emotion((changes or {})[num_sent])
            await session.push_audio(speech[num_sent:stop])
            num_sent, number = stop, number + 1
            await asyncio.sleep(0)
        await session.finish()

    return send_input


def decode(data: bytes) -> tuple[list[np.ndarray], np.ndarray]:
    with av.open(io.BytesIO(data)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(io.BytesIO(data)) as container:
        return pictures, np.concatenate([np.zeros(0), *(frame.to_ndarray()[0] for frame in container.decode(audio=0))])


@pytest.fixture(scope="module")
def whole(live: LiveSetup) -> tuple[CallOutput, LocalReplicaCalls]:
    """The output of a call that gets all of the speech at once."""
    renderer, calls = live.renderer()
    return run_call(renderer, send_speech(live.speech)), calls


@pytest.mark.parametrize("sizes", [(1600,), (1, 5000, 12_345)])
def test_the_output_does_not_depend_on_how_the_speech_is_split(
    live: LiveSetup, whole: tuple[CallOutput, LocalReplicaCalls], sizes
) -> None:
    renderer, calls = live.renderer(ethd_in_flight=1, segments_ahead=1)
    output = run_call(renderer, send_speech(live.speech, sizes))
    assert output.fragments == whole[0].fragments
    assert calls.speech_lengths == whole[1].speech_lengths


def test_the_file_has_every_frame_and_all_of_the_sound(
    live: LiveSetup, whole: tuple[CallOutput, LocalReplicaCalls]
) -> None:
    output = whole[0]
    assert [(one.index, one.start_frame, one.num_frames) for one in output.fragments] == [
        (0, 0, 16),
        (1, 16, 14),
        (2, 30, 14),
        (3, 44, 4),
    ]
    pictures, sound = decode(output.file)
    assert len(pictures) == 48 and pictures[0].shape == (output.started.height, output.started.width, 3)
    # The sound is aligned with the speech to the sample. Linear interpolation to 48 kHz is good enough for these tones.
    expected = np.interp(np.arange(len(live.speech) * 3) / 3, np.arange(len(live.speech)), live.speech)
    assert 0 <= len(sound) - len(expected) < 1024
    best = max(range(-200, 201, 1), key=lambda lag: float(expected[5000:80_000] @ sound[5000 + lag : 80_000 + lag]))
    assert best == 0
    assert np.abs(sound[2000 : len(expected) - 2000] - expected[2000:-2000]).max() < 0.05  # no clicks
    assert not list(live.folder.iterdir())  # nothing was stored


def test_fragments_equal_those_of_the_pipeline(
    live: LiveSetup, whole: tuple[CallOutput, LocalReplicaCalls], tmp_path: Path
) -> None:
    """From V-AID's latents, ETHD and the decoder make the same bytes as the pipeline."""
    output, calls = whole
    blocks = [to_block(block) for block in calls.blocks]
    num_frames = blocks[-1].frames.stop - 2
    latents = join(blocks, range(num_frames))
    portrait = torch.from_numpy(live.portrait.copy()).permute(2, 0, 1) / 127.5 - 1
    reference = torch.from_numpy(calls.blocks[0].expression_reference.copy())
    motion = MotionSequence(portrait, latents.lip, latents.expression, reference)
    frames = torch.cat(list(live.pipeline.render(motion, seed=3, num_steps=2))).numpy()
    encode_audio(live.speech, tmp_path / "speech.m4a")
    with ClipAudio(tmp_path / "speech.m4a") as audio:
        for one in output.fragments:
            part = frames[one.start_frame : one.start_frame + one.num_frames]
            made = fragment(part, one.start_frame, audio, is_last=one.index == 3, sequence=one.index)
            assert made == one.data, f"fragment {one.index}"


def test_lip_latents_equal_those_of_a_job(live: LiveSetup, whole: tuple[CallOutput, LocalReplicaCalls]) -> None:
    """Except near the ends of the clip, where a job has no context and a live call has silence."""
    motion_generator = live.pipeline.motion_generator
    conditions = motion_generator.prepare(torch.zeros(3, 64, 64), None)
    job_latents = join(list(motion_generator.blocks(conditions, torch.from_numpy(live.speech))), range(48))
    live_latents = join([to_block(block) for block in whole[1].blocks], range(48))
    torch.testing.assert_close(live_latents.lip[CONTEXT : 48 - CONTEXT], job_latents.lip[CONTEXT : 48 - CONTEXT])


@pytest.mark.parametrize("look_ahead_frames", [None, 0])
def test_a_fragment_is_made_as_soon_as_its_speech_has_arrived(live: LiveSetup, look_ahead_frames: int | None) -> None:
    renderer, _ = live.renderer(look_ahead_frames)
    wanted = (16 + 2 + (CONTEXT if look_ahead_frames is None else 2)) * FRAME
    assert renderer.make_plan(None).num_speech_frames(0) * FRAME == wanted

    async def run() -> None:
        session = renderer()
        await session.open(CALLER, header())
        fragments = session.fragments()
        await session.push_audio(live.speech[: wanted - 1])
        first = asyncio.create_task(anext(fragments))
        done, _ = await asyncio.wait([first], timeout=0.1)
        assert not done
        await session.push_audio(live.speech[wanted - 1 : wanted])
        assert (await first).num_frames == 16
        await session.close()

    asyncio.run(run())


@pytest.mark.parametrize("num_samples", [0, 1, 16 * FRAME, 16 * FRAME + 1, 19 * FRAME + 5, 30 * FRAME])
def test_speech_of_any_length_gives_its_number_of_frames(live: LiveSetup, num_samples: int) -> None:
    renderer, _ = live.renderer(look_ahead_frames=0)
    output = run_call(renderer, send_speech(live.speech[:num_samples], (FRAME,)))
    num_frames = -(-num_samples // FRAME)
    assert [one.num_frames for one in output.fragments] == [
        min(stop, num_frames) - start for start, stop in [(0, 16), (16, 30)] if start < num_frames
    ]
    if num_samples:
        pictures, sound = decode(output.file)
        assert len(pictures) == num_frames and abs(len(sound) - 3 * num_samples) < 1024


def test_a_change_of_emotion_affects_later_frames_only(
    live: LiveSetup, whole: tuple[CallOutput, LocalReplicaCalls]
) -> None:
    at = 36 * FRAME - 100  # in the third segment; V-AID's third block begins at frame 32
    for emotion in (SAD, None):
        renderer, calls = live.renderer()
        changed = run_call(renderer, send_speech(live.speech, (4000,), {at: emotion}))
        assert changed.fragments[:2] == whole[0].fragments[:2]
        assert changed.fragments[2] != whole[0].fragments[2] and changed.fragments[3] != whole[0].fragments[3]
        for number, (block, other) in enumerate(zip(calls.blocks, whole[1].blocks, strict=True)):
            np.testing.assert_array_equal(block.lip, other.lip)
            assert np.array_equal(block.expression, other.expression) == (number < 2)


def test_an_emotion_replaced_before_any_speech_has_no_effect(
    live: LiveSetup, whole: tuple[CallOutput, LocalReplicaCalls]
) -> None:
    renderer, _ = live.renderer()

    async def send_input(session: RenderedSession) -> None:
        await session.change_emotion(SAD)
        await session.change_emotion(HAPPY)
        await send_speech(live.speech)(session)

    assert run_call(renderer, send_input, emotion=SAD).fragments == whole[0].fragments


def test_without_an_emotion_the_portraits_expression_is_kept(live: LiveSetup) -> None:
    """To V-AID, a live call without emotion equals a clip without emotion."""
    renderer, calls = live.renderer()
    run_call(renderer, send_speech(live.speech[: 16 * FRAME]), emotion=None)
    plan, motion_generator = renderer.make_plan(None), live.pipeline.motion_generator
    portrait = torch.from_numpy(live.portrait.copy()).permute(2, 0, 1) / 127.5 - 1
    speech = torch.zeros(plan.expression.num_frames * FRAME)
    start = plan.lead * FRAME
    speech[start : start + 16 * FRAME] = torch.from_numpy(live.speech[: 16 * FRAME])
    block = motion_generator.generate_motion(
        motion_generator.prepare(portrait, None), speech, 0, None, seed=3, long_video=plan.expression.config
    )
    np.testing.assert_allclose(calls.blocks[0].expression, block.expression.numpy(), atol=1e-5)


def test_past_changes_of_emotion_are_dropped(live: LiveSetup) -> None:
    renderer, calls = live.renderer()
    max_cues = 0
    generate_motion = calls.generate_motion_live

    async def counting(call: LiveMotionCall, references: Sequence[Any]) -> CallResult:
        nonlocal max_cues
        max_cues = max(max_cues, len(call.cues))
        return await generate_motion(call, references)

    calls.generate_motion_live = counting  # pyright: ignore[reportAttributeAccessIssue]
    changes: dict[int, LiveEmotion] = {at: SAD if at % 1600 else HAPPY for at in range(800, 30_400, 800)}
    run_call(renderer, send_speech(live.speech, (800,), changes))
    assert 20 < max_cues <= renderer.make_plan(None).expression.config.segment_frames + 14


def test_each_caller_has_a_limit_of_live_calls(live: LiveSetup) -> None:
    registry = CollectorRegistry()
    renderer, _ = live.renderer(max_calls=3)
    renderer.meters = Meters(InRegistry(registry))
    bob = Caller("bob", CallerLimits(max_live_calls=1))

    async def run() -> None:
        first, second, third = renderer(), renderer(), renderer()
        await first.open(bob, header())
        with pytest.raises(OverloadError, match=r"limits\.max_live_calls") as raised:
            await second.open(bob, header())
        assert raised.value.code == "too_many_live_calls" and raised.value.retry_after_s > 0
        assert answer_to(raised.value).grpc == "RESOURCE_EXHAUSTED"
        await second.close()
        await third.open(CALLER, header())
        assert registry.get_sample_value("emotivetalk_live_sessions") == 2
        await first.close()
        await second.open(bob, header())
        await asyncio.gather(second.close(), third.close())

    asyncio.run(run())
    assert registry.get_sample_value("emotivetalk_live_sessions") == 0 == renderer.num_calls


def test_the_number_of_live_calls_is_limited_and_a_closed_call_frees_its_place(live: LiveSetup) -> None:
    renderer, _ = live.renderer(max_calls=1)

    async def run() -> None:
        first, second, third = renderer(), renderer(), renderer()
        await first.open(CALLER, header())
        with pytest.raises(OverloadError) as raised:
            await second.open(CALLER, header())
        assert raised.value.code == "live_full" and raised.value.retry_after_s > 0
        await second.close()
        await first.close()
        with pytest.raises(InputError):
            await third.open(CALLER, header(portrait=b"broken"))
        assert renderer.num_calls == 1
        await third.close()
        assert renderer.num_calls == 0

    asyncio.run(run())


def test_closing_a_session_cancels_its_calls(live: LiveSetup) -> None:
    renderer, calls = live.renderer()

    async def run() -> None:
        calls.gate = asyncio.Event()
        session = renderer()
        await session.open(CALLER, header())
        await session.push_audio(live.speech)
        while not calls.num_started:
            await asyncio.sleep(0.01)
        await session.close()
        started = calls.num_started
        assert calls.num_cancelled == started > 0
        calls.gate.set()
        await asyncio.sleep(0.05)
        assert calls.num_started == started
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_an_error_while_rendering_reaches_the_caller(live: LiveSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer, calls = live.renderer()
    calls.error = LostResultError("result_lost", "a node died", "It is made again.")
    with pytest.raises(ServingError) as raised:
        run_call(renderer, send_speech(live.speech))
    assert raised.value.code == "live_ended"
    renderer, calls = live.renderer()
    calls.error = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        run_call(renderer, send_speech(live.speech))
    renderer, _ = live.renderer()
    monkeypatch.setattr(EmotionMapping, "meaning", lambda _, embedding: torch.zeros(len(embedding)))
    with pytest.raises(InputError) as meaningless:
        run_call(renderer, send_speech(live.speech), emotion=TextEmotion(text="qwx zzkj vvpt"))
    assert meaningless.value.code == "emotion_invalid"


def test_a_buffer_shorter_than_a_segment_is_refused(live: LiveSetup) -> None:
    with pytest.raises(InputError) as raised:
        live.renderer(buffer_s=1.5)
    assert raised.value.code == "live_buffer_short"


def test_trimmed_speech_can_still_be_read_from_the_trim_point() -> None:
    speech, samples = SpeechBuffer(), np.arange(1000, dtype=np.float32)
    for start in range(0, 1000, 7):
        speech.push(samples[start : start + 7])
        first = max(0, start - 50)
        speech.trim(first)
        assert np.array_equal(speech.read(first, start + 3), samples[first : start + 3])
    assert speech.num_samples == 1000 and speech.num_frames == 2
    assert len(speech.read(1000, 2000)) == 0


@pytest.mark.parametrize("first_frames", [None, "chunk", "more"])
@pytest.mark.parametrize(
    ("chunk", "pinned", "segment_chunks", "expression"), [(12, 4, 3, 64), (8, 2, 3, 16), (25, 5, 2, 64)]
)
def test_the_plan_of_a_segment_does_not_depend_on_the_length_of_the_call(
    chunk: int, pinned: int, segment_chunks: int, expression: int, first_frames: str | None
) -> None:
    from emotivetalk.models.long_video_plan import LongVideoConfig

    video = LongVideoConfig(chunk, segment_chunks, pinned, "shift", 5)
    first = {None: None, "chunk": chunk, "more": chunk + 3}[first_frames]
    plans = [live_plan(video, 3, expression, 16, 5, CONTEXT, num_frames, None, first) for num_frames in (30, 7500)]
    for index in range(plans[0].video.num_segments - 1):
        assert plans[0].video.segment(index) == plans[1].video.segment(index)
        assert plans[0].expression.segment(index) == plans[1].expression.segment(index)
    plan = plans[1]
    assert plan.lead >= 0 and plan.stop(0) == (first or chunk * segment_chunks)
    assert plan.stop(1) - plan.stop(0) == chunk * segment_chunks - pinned
    for index in (0, 1, 50):
        segment, block = plan.video.segment(index), plan.expression.segment(index)
        assert segment.result.frames.stop == plan.stop(index)
        assert plan.needs(segment.frames).stop == block.result.frames.stop
        assert plan.motion_window(index) == range(block.frames.start - plan.lead, block.frames.stop - plan.lead)
        assert plan.num_segments(plan.stop(index)) == index + 1
        assert plan.num_segments(plan.stop(index) + 1) == index + 2
        assert Fraction(plan.num_speech_frames(index) - plan.stop(index)) == 2 + CONTEXT
    assert (plan.num_segments(0), plan.num_segments(1)) == (0, 1)
    assert plan.stop(plan.video.num_segments - 1) == plan.video.num_frames > 7500


def test_a_short_first_fragment_comes_sooner_and_the_clip_has_every_frame(
    live: LiveSetup, whole: tuple[CallOutput, LocalReplicaCalls]
) -> None:
    chunk = live.pipeline.long_video.chunk_frames
    plan = live_plan(live.pipeline.long_video, 2, 32, 4, 5, CONTEXT, 250, None, chunk)
    assert plan.num_speech_frames(0) == chunk + 2 + CONTEXT
    renderer, calls = live.renderer()
    renderer.make_plan = lambda num_steps: plan
    output = run_call(renderer, send_speech(live.speech, (1600,)))
    assert [(one.start_frame, one.num_frames) for one in output.fragments] == [
        (start, min(stop, 48) - start)
        for start, stop in [(0, chunk), *((at, at + plan.new_frames) for at in range(chunk, 48, plan.new_frames))]
    ]
    pictures, sound = decode(output.file)
    assert len(pictures) == 48 and 0 <= len(sound) - 3 * len(live.speech) < 1024
    # V-AID hears the same speech at the same places, so the lips are those of the usual plan.
    heard = range(CONTEXT, 48 - CONTEXT)
    lips = [join([to_block(block) for block in made.blocks], heard).lip for made in (calls, whole[1])]
    torch.testing.assert_close(*lips)


def test_the_starters_first_fragment_has_12_to_36_frames() -> None:
    plans = CheckpointPlans(find_checkpoint(None))
    usual, short = plans.live(7500), plans.live(7500, look_ahead_frames=8, first_fragment_frames=12)
    assert (usual.stop(0), usual.num_speech_frames(0)) == (36, 60)
    assert (short.stop(0), short.stop(1), short.num_speech_frames(0)) == (12, 44, 22)
    for wrong in (11, 37):
        with pytest.raises(InputError) as raised:
            plans.live(7500, first_fragment_frames=wrong)
        assert raised.value.code == "live_fragment_invalid" and "12 to 36" in str(raised.value)
