"""GenerateLive: order of messages, limits, backpressure, and the end of a call."""

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2

from emotivetalk.actors.errors import OverloadError
from emotivetalk.client import Client, EmotionChange
from emotivetalk.errors import InputError
from emotivetalk.request import LabelEmotion, TextEmotion
from emotivetalk.wire import videos_pb2 as pb
from emotivetalk.wire import videos_pb2_grpc as pb_grpc
from tests.actors.grpc.calls import PORTRAIT, Failure, bearer
from tests.actors.grpc.conftest import ALICE, LIVE, Serving, running
from tests.actors.grpc.live_sessions import LAG_S
from tests.processes import wait_until

AS_ALICE = {"metadata": bearer(ALICE), "timeout": 15.0}
END = pb.GenerateLiveRequest(end_of_audio=pb.EndOfAudio())
IDLE_S = 0.5


@pytest.fixture
def short_idle(tmp_path: Path) -> Iterator[Serving]:
    """A server that ends calls after half a second without input."""
    with running(tmp_path / "short_idle", live_limits=replace(LIVE, idle_s=IDLE_S)) as started:
        yield started


def head(**fields: object) -> pb.GenerateLiveRequest:
    made = pb.LiveHeader(portrait=PORTRAIT, portrait_name="me.png", **fields)  # pyright: ignore[reportArgumentType]
    return pb.GenerateLiveRequest(header=made)


def seeded(seed: int) -> pb.GenerateLiveRequest:
    return head(settings=pb.RenderSettings(seed=seed))


def floats(samples: np.ndarray) -> pb.GenerateLiveRequest:
    return pb.GenerateLiveRequest(audio=pb.LiveAudio(f32le=samples.astype("<f4").tobytes()))


def seconds(duration_s: float) -> pb.GenerateLiveRequest:
    return pb.GenerateLiveRequest(audio=pb.LiveAudio(s16le=bytes(int(duration_s * 16_000) * 2)))


def emotion_change(**source: object) -> pb.GenerateLiveRequest:
    return pb.GenerateLiveRequest(emotion=pb.Emotion(**source))  # pyright: ignore[reportArgumentType]


def failure(stub: pb_grpc.VideoServiceStub, *requests: pb.GenerateLiveRequest) -> Failure:
    with pytest.raises(grpc.RpcError) as raised:
        list(stub.GenerateLive(iter(requests), **AS_ALICE))
    return Failure(raised.value)


def wait_until_closed(serving: Serving) -> None:
    wait_until(lambda: serving.sessions.made[-1].is_closed)


class RequestStream:
    """Requests that a test sends one by one while the call is open."""

    def __init__(self, *requests: pb.GenerateLiveRequest) -> None:
        self._queue: queue.Queue[pb.GenerateLiveRequest | None] = queue.Queue()
        for request in requests:
            self.send(request)

    def send(self, request: pb.GenerateLiveRequest) -> None:
        self._queue.put(request)

    def stop(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[pb.GenerateLiveRequest]:
        while (request := self._queue.get()) is not None:
            yield request


def test_a_call_from_header_to_completion(stub: pb_grpc.VideoServiceStub, serving: Serving) -> None:
    samples = np.linspace(-0.5, 0.5, 40_000, dtype=np.float32)
    requests = [
        head(emotion=pb.Emotion(text=pb.TextEmotion(text="Be calm")), settings=pb.RenderSettings(seed=9)),
        floats(samples[:10_000]),
        emotion_change(label=pb.LabelEmotion(emotion="happy", intensity=0.5)),
        floats(samples[10_000:]),
        emotion_change(portrait=pb.PortraitEmotion()),
        END,
    ]
    responses = list(stub.GenerateLive(iter(requests), **AS_ALICE))
    kinds = [response.WhichOneof("part") for response in responses]
    assert kinds[0] == "started" and kinds[-1] == "completed" and set(kinds[1:-1]) == {"fragment"}
    started = responses[0].started
    assert (started.id, started.width, started.frame_rate_hz, started.init) == ("live_alice", 256, 25, b"init")
    assert started.max_buffer.seconds == LIVE.buffer_s and started.max_clip.seconds == LIVE.clip_s

    fragments = [response.fragment for response in responses[1:-1]]
    assert max(len(fragment.data) for fragment in fragments) <= 1 << 16
    ends = [fragment for fragment in fragments if fragment.is_last_part]
    assert [(fragment.index, fragment.start_frame, fragment.num_frames) for fragment in ends] == [
        (0, 0, 25),
        (1, 25, 25),
        (2, 50, 13),
    ]
    received = b"".join(
        b"".join(fragment.data for fragment in fragments if fragment.index == index)[:-70_000] for index in range(3)
    )
    assert np.array_equal(np.frombuffer(received, "<f4"), samples)
    assert responses[-1].completed.num_frames == 63
    assert responses[-1].completed.duration.ToTimedelta().total_seconds() == pytest.approx(63 / 25)

    session = serving.sessions.made[-1]
    assert session.header is not None and session.header.portrait == PORTRAIT
    assert (session.header.emotion, session.header.settings.seed) == (TextEmotion(text="Be calm"), 9)
    assert session.log == [f"10000: {LabelEmotion(emotion='happy', intensity=0.5)}", "40000: None"]
    wait_until_closed(serving)


def test_fragments_are_sent_while_audio_arrives(stub: pb_grpc.VideoServiceStub, serving: Serving) -> None:
    stream = RequestStream(seeded(0), seconds(1.0))
    responses = stub.GenerateLive(iter(stream), **AS_ALICE)
    assert next(responses).WhichOneof("part") == "started"
    assert next(responses).fragment.index == 0
    while not (part := next(responses).fragment).is_last_part:
        assert part.index == 0
    stream.send(seconds(1.0))
    assert next(responses).fragment.index == 1
    stream.send(END)
    assert list(responses)[-1].completed.num_frames == 50
    wait_until_closed(serving)


def test_samples_become_floats_in_minus_one_to_one() -> None:
    from emotivetalk.actors.serving.gateway.grpc.messages import read_audio

    read = read_audio(pb.LiveAudio(s16le=np.array([-32768, 0, 16384], "<i2").tobytes()))
    assert read.dtype == np.float32 and read.tolist() == [-1.0, 0.0, 0.5]
    assert read_audio(pb.LiveAudio(f32le=np.array([-3, 0.25], "<f4").tobytes())).tolist() == [-1.0, 0.25]


def test_the_client_is_blocked_while_the_buffer_is_full(short_idle: Serving) -> None:
    stream = RequestStream(seeded(2), *[seconds(0.5)] * 12)
    with grpc.insecure_channel(short_idle.address) as channel:
        responses = pb_grpc.VideoServiceStub(channel).GenerateLive(iter(stream), **AS_ALICE)
        next(responses)
        session = short_idle.sessions.made[-1]
        time.sleep(IDLE_S + 0.5)  # a blocked client is not idle
        assert session.num_pushed == LIVE.buffer_s * 16_000
        stream.send(END)
        short_idle.loop.loop.call_soon_threadsafe(session.released.set)
        assert list(responses)[-1].completed.num_frames == 150
    assert session.num_pushed == 6 * 16_000


def test_audio_and_portraits_above_the_limits_are_refused(stub: pb_grpc.VideoServiceStub, serving: Serving) -> None:
    assert failure(stub, seeded(0), seconds(LIVE.buffer_s + 0.1)).reason == "live_chunk_too_long"
    chunks = [seconds(2.0)] * 4
    assert failure(stub, seeded(0), *chunks, seconds(0.1)).reason == "live_clip_too_long"
    wait_until_closed(serving)
    big = pb.LiveHeader(portrait=bytes(LIVE.portrait_bytes + 1))
    assert failure(stub, pb.GenerateLiveRequest(header=big)).reason == "image_too_many_bytes"
    assert failure(stub, pb.GenerateLiveRequest(header=pb.LiveHeader())).reason == "image_empty"


@pytest.mark.parametrize("requests", [[], [seeded(0)], [seeded(0), seconds(0.1)]])
def test_a_call_without_input_times_out(short_idle: Serving, requests: list[pb.GenerateLiveRequest]) -> None:
    stream = RequestStream(*requests)
    with grpc.insecure_channel(short_idle.address) as channel:
        begun = time.monotonic()
        with pytest.raises(grpc.RpcError) as raised:
            list(pb_grpc.VideoServiceStub(channel).GenerateLive(iter(stream), **AS_ALICE))
        took_s = time.monotonic() - begun
    stream.stop()
    found = Failure(raised.value)
    assert (found.code, found.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "live_idle")
    assert IDLE_S <= took_s < IDLE_S + 3
    wait_until_closed(short_idle)


def test_messages_out_of_order_or_range_are_refused(stub: pb_grpc.VideoServiceStub, serving: Serving) -> None:
    nan = floats(np.array([np.nan]))
    wrong = [
        (),
        (pb.GenerateLiveRequest(),),
        (seconds(0.1),),
        (END,),
        (seeded(0), seeded(0)),
        (seeded(0), pb.GenerateLiveRequest()),
        (seeded(0), seconds(0.1)),  # without end_of_audio
        (seeded(-1),),
        (head(settings=pb.RenderSettings(audio_track=1)),),
        (seeded(0), nan),
        (seeded(0), pb.GenerateLiveRequest(audio=pb.LiveAudio())),
        (seeded(0), pb.GenerateLiveRequest(audio=pb.LiveAudio(s16le=b"odd"))),
        (seeded(0), pb.GenerateLiveRequest(audio=pb.LiveAudio(f32le=b"sixsix"))),
        (seeded(0), emotion_change()),
        (seeded(0), emotion_change(speech=pb.SpeechEmotion())),
        (seeded(0), emotion_change(image=pb.ImageEmotion())),
        (seeded(0), emotion_change(label=pb.LabelEmotion(emotion="sad", intensity=-1))),
        (head(emotion=pb.Emotion(speech=pb.SpeechEmotion())),),
    ]
    for requests in wrong:
        found = failure(stub, *requests)
        assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "request_invalid"), requests
        wait_until_closed(serving)
    assert failure(stub, seeded(0), emotion_change(label=pb.LabelEmotion(emotion="hungry"))).reason == "emotion_invalid"


def test_a_call_without_audio_is_an_empty_video(stub: pb_grpc.VideoServiceStub) -> None:
    responses = list(stub.GenerateLive(iter([seeded(0), END]), **AS_ALICE))
    assert [response.WhichOneof("part") for response in responses] == ["started", "completed"]


def test_a_full_service_says_when_to_retry(stub: pb_grpc.VideoServiceStub, serving: Serving) -> None:
    found = failure(stub, seeded(1))
    assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "live_full")
    retry = found.detail(error_details_pb2.RetryInfo)
    assert isinstance(retry, error_details_pb2.RetryInfo) and retry.retry_delay.seconds == 7
    wait_until_closed(serving)


def test_an_error_of_the_engine_is_internal(stub: pb_grpc.VideoServiceStub, serving: Serving) -> None:
    found = failure(stub, seeded(3), seconds(1.5), END)
    assert (found.code, found.reason) == (grpc.StatusCode.INTERNAL, "internal")
    assert "secret" not in str(found.status)
    wait_until_closed(serving)


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_ending_a_call_closes_its_session(stub: pb_grpc.VideoServiceStub, serving: Serving, how: str) -> None:
    stream = RequestStream(seeded(2), seconds(0.2))
    timeout_s = 0.3 if how == "deadline" else 15.0
    responses = stub.GenerateLive(iter(stream), metadata=bearer(ALICE), timeout=timeout_s)
    next(responses)
    if how == "cancel":
        responses.cancel()
    with pytest.raises(grpc.RpcError) as raised:
        list(responses)
    stream.stop()
    codes = {"cancel": grpc.StatusCode.CANCELLED, "deadline": grpc.StatusCode.DEADLINE_EXCEEDED}
    assert raised.value.code() == codes[how]  # pyright: ignore
    wait_until_closed(serving)


def test_a_service_without_a_live_engine_refuses_the_call(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path / "serving", live=False) as serving, grpc.insecure_channel(serving.address) as channel:
        found = failure(pb_grpc.VideoServiceStub(channel), seeded(0))
        assert (found.code, found.reason) == (grpc.StatusCode.UNIMPLEMENTED, "live_unavailable")
        assert "renders no live video" in found.status.message


# ------------------------------------------------------------------------------------------------------- the client


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "me.png"
    path.write_bytes(PORTRAIT)
    return path


def test_the_client_sends_speech_and_receives_fragments(serving: Serving, picture: Path) -> None:
    samples = np.linspace(-20_000, 20_000, 40_000).astype("<i2")
    spoken = samples.tobytes()
    pieces = [spoken[:7001], EmotionChange("happy:0.5"), spoken[7001:70_000], EmotionChange(), spoken[70_000:]]
    with Client(serving.address, ALICE, protocol="grpc") as client:
        init, *fragments = list(client.live(picture, pieces, emotion_text="Be calm", seed=9))
    assert init == b"init" and len(fragments) == 3
    received = np.frombuffer(b"".join(one[:-70_000] for one in fragments), "<f4")
    assert np.array_equal(received, samples.astype(np.float32) / 32_768)
    session = serving.sessions.made[-1]
    assert session.header is not None and session.header.portrait_name == "me.png"
    assert (session.header.emotion, session.header.settings.seed) == (TextEmotion(text="Be calm"), 9)
    assert session.log == [f"3500: {LabelEmotion(emotion='happy', intensity=0.5)}", "35000: None"]
    wait_until_closed(serving)


def test_the_client_yields_fragments_while_it_sends(serving: Serving, picture: Path) -> None:
    spoken: queue.Queue[bytes | None] = queue.Queue()
    spoken.put(bytes(32_000))
    with Client(serving.address, ALICE, protocol="grpc") as client:
        given = client.live(picture, iter(spoken.get, None))
        assert (next(given), len(next(given))) == (b"init", 64_000 + 70_000)
        spoken.put(None)
        assert list(given) == []
        stopped = client.live(picture, iter(spoken.get, None))
        next(stopped)
        stopped.close()  # pyright: ignore[reportAttributeAccessIssue]
        wait_until_closed(serving)
        spoken.put(None)


def test_the_client_tells_how_late_the_service_is(serving: Serving, picture: Path) -> None:
    with Client(serving.address, ALICE, protocol="grpc") as client:
        init, *fragments = list(client.live(picture, [bytes(80_000)]))
    assert (init.lag_s, init.num_frames) == (0.0, 0)
    told = [(one.lag_s, one.num_frames, one.num_dropped_frames, one.num_steps) for one in fragments]
    assert told == [(LAG_S, 25, 0, 3), (LAG_S + 1, 25, 1, 3), (LAG_S + 2, 13, 2, 3)]


def test_a_client_that_is_held_back_cannot_run_ahead(serving: Serving, picture: Path) -> None:
    num_pieces = 0
    ending = threading.Event()

    def speak() -> Iterator[bytes]:
        nonlocal num_pieces
        while not ending.is_set():
            num_pieces += 1
            yield bytes(6400)  # 0.2 s

    with Client(serving.address, ALICE, protocol="grpc") as client:
        given = client.live(picture, speak(), seed=2)  # nothing is rendered
        next(given)
        before = -1
        while num_pieces != before:
            before = num_pieces
            time.sleep(0.5)
        assert LIVE.buffer_s <= 0.2 * num_pieces < LIVE.buffer_s + 6  # and not minutes ahead
        ending.set()
        given.close()  # pyright: ignore[reportAttributeAccessIssue]
    wait_until_closed(serving)


def test_errors_of_live_calls_reach_the_caller(serving: Serving, picture: Path) -> None:
    def failing() -> Iterator[bytes]:
        yield bytes(3200)
        raise OSError("the microphone was disconnected")

    with Client(serving.address, ALICE, protocol="grpc") as client:
        with pytest.raises(OSError, match="microphone"):
            list(client.live(picture, failing()))
        with pytest.raises(OverloadError) as full:
            list(client.live(picture, [], seed=1))
        assert full.value.code == "live_full" and full.value.retry_after_s == 7
        for code, settings in {
            "emotion_conflict": {"emotion": "sad", "emotion_text": "Be sad"},
            "emotion_invalid": {"emotion": "hungry"},
            "request_invalid": {"seed": 2**63},
        }.items():
            with pytest.raises(InputError) as raised:
                list(client.live(picture, [], **settings))
            assert raised.value.code == code
        with pytest.raises(InputError) as missing:
            client.live(picture.with_name("none.png"), [])
        assert missing.value.code == "image_missing"
    with Client("http://127.0.0.1:1", ALICE) as http, pytest.raises(InputError) as needs:
        http.live(picture, [])
    assert needs.value.code == "live_needs_grpc"
