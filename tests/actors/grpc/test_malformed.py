"""Bytes that are not messages, and invalid messages: each call gets a status that blames the caller."""

import os
import random

import grpc
import pytest

from emotivetalk.wire import videos_pb2 as pb
from tests.actors.grpc.calls import bearer, header, upload
from tests.actors.grpc.conftest import ALICE, Serving
from tests.processes import wait_until

SERVICE = "/emotivetalk.v1.VideoService"
SERVER_ERRORS = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED}
ROUNDS = 20 * int(os.environ.get("EMOTIVETALK_FUZZ_EXAMPLES", "3"))
JOB_ID = "video_" + "0" * 32

UNARY = {
    f"{SERVICE}/GetVideo": pb.GetVideoRequest(id=JOB_ID),
    f"{SERVICE}/ListVideos": pb.ListVideosRequest(limit=3, after=JOB_ID, status=pb.VIDEO_STATUS_QUEUED),
    f"{SERVICE}/CancelVideo": pb.CancelVideoRequest(id=JOB_ID),
    f"{SERVICE}/DeleteVideo": pb.DeleteVideoRequest(id=JOB_ID),
    f"{SERVICE}/WatchVideo": pb.WatchVideoRequest(id=JOB_ID),
    f"{SERVICE}/StreamVideo": pb.StreamVideoRequest(id=JOB_ID, first_segment=1),
    "/grpc.health.v1.Health/Check": pb.GetVideoRequest(id="emotivetalk.v1.VideoService"),
}
TRACK = pb.TrackEmotion(keys=[pb.TrackKey(time_s=1, label=pb.LabelEmotion(emotion="sad", intensity=0.5))])
STREAMS = {
    f"{SERVICE}/CreateVideo": [
        message.SerializeToString()
        for message in upload(
            header(
                emotion=pb.Emotion(track=TRACK),
                settings=pb.RenderSettings(seed=1, num_steps=2, emotion_strength=3, face=4),
                idempotency_key="key",
                webhook_url="https://example.com",
            )
        )
    ],
    f"{SERVICE}/GenerateLive": [
        pb.GenerateLiveRequest(header=pb.LiveHeader(portrait=b"picture")).SerializeToString(),
        pb.GenerateLiveRequest(audio=pb.LiveAudio(f32le=bytes(400))).SerializeToString(),
        pb.GenerateLiveRequest(emotion=pb.Emotion(text=pb.TextEmotion(text="Be calm"))).SerializeToString(),
        pb.GenerateLiveRequest(end_of_audio=pb.EndOfAudio()).SerializeToString(),
    ],
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": [b"\x3a\x01*"],
}


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Change, delete, insert, repeat or replace some bytes."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(5):
            case 0 if changed:
                changed[at % len(changed)] ^= 1 << chance.randrange(8)
            case 1:
                del changed[at : at + chance.randint(1, 8)]
            case 2:
                changed[at:at] = chance.randbytes(chance.randint(1, 8))
            case 3:
                changed[at:at] = changed[at : at + 16]
            case _:
                changed = bytearray(chance.randbytes(chance.randint(0, 64)))
    return bytes(changed)


def outcome(call) -> grpc.StatusCode:
    try:
        for _ in call:
            pass
    except grpc.RpcError as error:
        return error.code()  # pyright: ignore[reportAttributeAccessIssue]
    return grpc.StatusCode.OK


@pytest.mark.parametrize("method", UNARY)
def test_mutated_requests(channel: grpc.Channel, method: str) -> None:
    chance = random.Random(method)
    call = channel.unary_stream(method)  # a unary answer is sent as a stream of one message
    codes = []
    for _ in range(ROUNDS):
        data = mutated(UNARY[method].SerializeToString(), chance)
        codes.append(outcome(call(data, metadata=bearer(ALICE), timeout=10)))
        assert codes[-1] not in SERVER_ERRORS, data
    assert grpc.StatusCode.INVALID_ARGUMENT in codes


@pytest.mark.parametrize("method", STREAMS)
def test_mutated_streams(channel: grpc.Channel, serving: Serving, method: str) -> None:
    chance = random.Random(method)
    call = channel.stream_stream(method)
    codes = []
    for _ in range(ROUNDS):
        messages = list(STREAMS[method])
        match chance.randrange(4):
            case 0:
                chance.shuffle(messages)
            case 1:
                del messages[chance.randrange(len(messages)) :]
            case _:
                at = chance.randrange(len(messages))
                messages[at] = mutated(messages[at], chance)
        codes.append(outcome(call(iter(messages), metadata=bearer(ALICE), timeout=10)))
        assert codes[-1] not in SERVER_ERRORS, messages
    assert len(set(codes)) > 1 or grpc.StatusCode.INVALID_ARGUMENT in codes
    wait_until(lambda: not serving.uploads())


def test_bytes_that_cannot_be_parsed_are_refused(channel: grpc.Channel) -> None:
    deep = b""
    for _ in range(200):  # nested deeper than parsers allow
        deep = b"\x0a" + _varint(len(deep)) + deep
    refused = {
        "an unknown wire type": b"\x0f",
        "a length beyond the end": b"\x0a\x7fabc",
        "a text that is not UTF-8": b"\x0a\x02\xff\xfe",
        "a varint without end": b"\xff" * 12,
        "a group without end": b"\x0b",
    }
    call = channel.unary_unary(f"{SERVICE}/GetVideo")
    for what, data in refused.items():
        with pytest.raises(grpc.RpcError) as raised:
            call(data, metadata=bearer(ALICE), timeout=10)
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT, what  # pyright: ignore
    assert outcome(channel.stream_stream(f"{SERVICE}/CreateVideo")(iter([deep]), metadata=bearer(ALICE))) in {
        grpc.StatusCode.INVALID_ARGUMENT
    }


def test_unknown_methods_large_messages_and_unknown_ids(channel: grpc.Channel) -> None:
    def code(method: str, data: bytes) -> grpc.StatusCode:
        return outcome(channel.unary_stream(method)(data, metadata=bearer(ALICE), timeout=10))

    assert code(f"{SERVICE}/RenameVideo", b"") == grpc.StatusCode.UNIMPLEMENTED
    assert code("/other.Service/GetVideo", b"") == grpc.StatusCode.UNIMPLEMENTED
    assert code(f"{SERVICE}/GetVideo", bytes(10_000_000)) == grpc.StatusCode.RESOURCE_EXHAUSTED
    long = pb.GetVideoRequest(id="x" * 1_000_000).SerializeToString()
    assert code(f"{SERVICE}/GetVideo", long) == grpc.StatusCode.NOT_FOUND
    assert code(f"{SERVICE}/GetVideo", pb.GetVideoRequest(id="\0").SerializeToString()) == grpc.StatusCode.NOT_FOUND


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])
