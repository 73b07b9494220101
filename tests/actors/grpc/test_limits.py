"""Calls that stay open: limits for each caller and address, and requests that never arrive."""

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from emotivetalk.actors.serving.gateway.settings import CallerLimits
from emotivetalk.wire import videos_pb2 as pb
from emotivetalk.wire import videos_pb2_grpc as pb_grpc
from tests.actors.grpc.calls import Failure, bearer, header, upload
from tests.actors.grpc.conftest import ALICE, BOB, STALLS, Serving, running

MANY = CallerLimits(requests_per_minute=100_000, max_requests=400, max_streams=400, max_upload_mb=2)
WATCH = "/emotivetalk.v1.VideoService/WatchVideo"
LIST = "/emotivetalk.v1.VideoService/ListVideos"


@pytest.fixture
def channel() -> Iterator[list[grpc.Channel]]:
    """Channels to close after the test."""
    opened: list[grpc.Channel] = []
    yield opened
    for one in opened:
        one.close()


def connect(serving: Serving, opened: list[grpc.Channel]) -> grpc.Channel:
    # A global pool would put all calls on one connection, which has a limit of its own.
    opened.append(grpc.insecure_channel(serving.address, options=[("grpc.use_local_subchannel_pool", 1)]))
    return opened[-1]


def stalled(stub: pb_grpc.VideoServiceStub) -> str:
    """Create a video that stays in progress."""
    head = header(settings=pb.RenderSettings(seed=STALLS))
    return stub.CreateVideo(upload(head), metadata=bearer(ALICE), timeout=30).video.id


def test_hundreds_of_streams_disturb_nobody(tmp_path: Path, channel: list[grpc.Channel]) -> None:
    settings = {"limits": MANY, "max_streams_per_address": 1000}
    with running(tmp_path / "many", **settings) as serving:
        stubs = [pb_grpc.VideoServiceStub(connect(serving, channel)) for _ in range(3)]
        video_id = stalled(stubs[0])
        streams = [
            stubs[number % 3].WatchVideo(pb.WatchVideoRequest(id=video_id), metadata=bearer(ALICE))
            for number in range(300)
        ]
        assert {next(stream).video.id for stream in streams} == {video_id}
        assert serving.service.admission.num_open("streams") == 300
        stub = pb_grpc.VideoServiceStub(connect(serving, channel))
        assert len(stub.ListVideos(pb.ListVideosRequest(), metadata=bearer(BOB), timeout=5).videos) == 0
        health = health_pb2_grpc.HealthStub(channel[-1])
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=5).status == health_pb2.HealthCheckResponse.SERVING
        for stream in streams:
            stream.cancel()
        deadline = time.monotonic() + 20
        while serving.service.admission.num_open("streams"):
            assert time.monotonic() < deadline, "streams that ended are still counted"
            time.sleep(0.05)


def test_more_streams_than_allowed_are_refused(tmp_path: Path, channel: list[grpc.Channel]) -> None:
    limits = CallerLimits(max_streams=2, max_upload_mb=2)
    with running(tmp_path / "few", limits=limits, max_streams_per_address=4) as serving:
        stub = pb_grpc.VideoServiceStub(connect(serving, channel))
        video_id = stalled(stub)
        streams = [stub.WatchVideo(pb.WatchVideoRequest(id=video_id), metadata=bearer(ALICE)) for _ in range(2)]
        for stream in streams:
            next(stream)
        with pytest.raises(grpc.RpcError) as raised:
            next(stub.WatchVideo(pb.WatchVideoRequest(id=video_id), metadata=bearer(ALICE)))
        failure = Failure(raised.value)
        assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too_many_streams")
        retry = failure.detail(error_details_pb2.RetryInfo)
        assert isinstance(retry, error_details_pb2.RetryInfo) and retry.retry_delay.seconds >= 1
        assert stub.GetVideo(pb.GetVideoRequest(id=video_id), metadata=bearer(ALICE)).video.id == video_id

        # Watching the health needs no token, so it counts for the address alone. A single check counts nowhere.
        health = health_pb2_grpc.HealthStub(channel[-1])
        watching = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(2)]
        for one in watching:
            next(one)
        with pytest.raises(grpc.RpcError) as raised:
            next(health.Watch(health_pb2.HealthCheckRequest()))
        assert Failure(raised.value).reason == "address_busy"
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
        for one in [*streams, *watching]:
            one.cancel()


@pytest.mark.parametrize("method", [WATCH, LIST])
def test_a_call_whose_message_never_comes_ends(tmp_path: Path, channel: list[grpc.Channel], method: str) -> None:
    with running(tmp_path / "impatient", header_timeout_s=0.3) as serving:
        ending = False

        def silence() -> Iterator[bytes]:
            while not ending:
                time.sleep(0.02)
            yield from ()

        call = connect(serving, channel).stream_stream(method)
        for metadata, code, reason in (
            (bearer(ALICE), grpc.StatusCode.DEADLINE_EXCEEDED, "upload_timeout"),
            ((), grpc.StatusCode.UNAUTHENTICATED, "unauthorized"),  # at once, before any message
        ):
            with pytest.raises(grpc.RpcError) as raised:
                next(call(silence(), metadata=metadata, timeout=20))
            failure = Failure(raised.value)
            assert (failure.code, failure.reason) == (code, reason)
        ending = True
        assert serving.service.admission.num_open("requests") == serving.service.admission.num_open("streams") == 0


def test_an_upload_that_trickles_is_cut_off(tmp_path: Path, channel: list[grpc.Channel]) -> None:
    settings = {"upload_timeout_s": 60.0, "upload_grace_s": 0.3, "min_upload_kb_s": 1.0}
    with running(tmp_path / "slow", **settings) as serving:
        messages = upload(header())

        def slowly() -> Iterator[pb.CreateVideoRequest]:
            yield next(messages)
            while True:
                time.sleep(0.05)
                yield pb.CreateVideoRequest(chunk=pb.FileChunk(role=pb.FILE_ROLE_AUDIO, data=b"a"))

        stub = pb_grpc.VideoServiceStub(connect(serving, channel))
        with pytest.raises(grpc.RpcError) as raised:
            stub.CreateVideo(slowly(), metadata=bearer(ALICE), timeout=20)
        failure = Failure(raised.value)
        assert (failure.code, failure.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "upload_timeout")
        assert not serving.uploads()
