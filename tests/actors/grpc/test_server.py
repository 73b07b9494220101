"""Every method over a real connection: answers, errors, and clean-up after cancelled calls."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from emotivetalk.actors.errors import ArtifactStoreError
from emotivetalk.actors.serving.gateway.grpc.guard import clipped, peer_address
from emotivetalk.actors.serving.gateway.grpc.server import TlsFiles, start_grpc_server
from emotivetalk.actors.serving.jobs.store import JobStatus
from emotivetalk.errors import EmotiveTalkError
from emotivetalk.wire import videos_pb2 as pb
from emotivetalk.wire import videos_pb2_grpc as pb_grpc
from tests.actors.grpc.calls import AUDIO, NUM_FRAMES, PORTRAIT, Failure, bearer, header, upload
from tests.actors.grpc.conftest import ALICE, BOB, FAILS, FRAGMENT_BYTES, SLOW, STALLS, Serving, running
from tests.processes import wait_until

TIMEOUT_S = 15.0
AS_ALICE = {"metadata": bearer(ALICE), "timeout": TIMEOUT_S}
AS_BOB = {"metadata": bearer(BOB), "timeout": TIMEOUT_S}


def create(stub: pb_grpc.VideoServiceStub, seed: int = 0, **fields: object) -> pb.Video:
    head = header(settings=pb.RenderSettings(seed=seed), **fields)
    return stub.CreateVideo(upload(head), **AS_ALICE).video


def finished(stub: pb_grpc.VideoServiceStub, video_id: str) -> pb.Video:
    return list(stub.WatchVideo(pb.WatchVideoRequest(id=video_id), **AS_ALICE))[-1].video


# ---------------------------------------------------------------------------------------------------------- the methods


def test_a_video_is_created_watched_and_streamed(stub: pb_grpc.VideoServiceStub, serving: Serving) -> None:
    response = stub.CreateVideo(upload(header(settings=pb.RenderSettings(seed=5))), **AS_ALICE)
    assert response.created
    video = response.video
    assert (video.status, video.model, video.width, video.height) == (
        pb.VIDEO_STATUS_QUEUED,
        "emotivetalk-test",
        64,
        64,
    )
    assert video.num_frames == NUM_FRAMES and video.seed == 5
    assert video.duration.ToTimedelta().total_seconds() == video.num_frames / 25
    assert abs(video.created_at.ToMicroseconds() / 1e6 - time.time()) < 10

    states = [message.video for message in stub.WatchVideo(pb.WatchVideoRequest(id=video.id), **AS_ALICE)]
    assert states[-1].status == pb.VIDEO_STATUS_COMPLETED and states[-1].progress == 100
    assert [state.progress for state in states] == sorted(state.progress for state in states)
    assert states[-1].HasField("completed_at") and states[-1].HasField("expires_at")

    parts = [part.data for part in stub.StreamVideo(pb.StreamVideoRequest(id=video.id), **AS_ALICE)]
    assert b"".join(parts) == serving.artifacts.read(f"jobs/{video.id}/video.mp4")
    assert max(map(len, parts)) == 1 << 16
    assert serving.artifacts.read(f"jobs/{video.id}/portrait.png") == PORTRAIT
    assert serving.artifacts.read(f"jobs/{video.id}/speech.f32") == AUDIO
    got = stub.GetVideo(pb.GetVideoRequest(id=video.id), **AS_ALICE).video
    assert got == states[-1]


def test_a_stream_can_start_at_a_later_segment(stub: pb_grpc.VideoServiceStub, serving: Serving) -> None:
    video = create(stub, seed=6)
    finished(stub, video.id)
    rest = b"".join(
        part.data for part in stub.StreamVideo(pb.StreamVideoRequest(id=video.id, first_segment=2), **AS_ALICE)
    )
    segments = serving.jobs.segments(video.id)
    init = serving.artifacts.read(f"jobs/{video.id}/init.mp4")
    assert rest == init + serving.artifacts.read(segments[2].path)


def test_segments_are_streamed_before_the_video_is_complete(stub: pb_grpc.VideoServiceStub) -> None:
    video = create(stub, seed=STALLS)
    call = stub.StreamVideo(pb.StreamVideoRequest(id=video.id), **AS_ALICE)
    head = b""
    while len(head) < FRAGMENT_BYTES:
        head += next(call).data
    stub.CancelVideo(pb.CancelVideoRequest(id=video.id), **AS_ALICE)
    with pytest.raises(grpc.RpcError) as raised:
        list(call)
    assert Failure(raised.value).reason == "video_cancelled"


def test_every_source_of_emotion_reaches_the_job(stub: pb_grpc.VideoServiceStub, serving: Serving) -> None:
    smile = pb.FileSource(upload=pb.FileUpload(name="smile.png"))
    emotions = {
        "label": pb.Emotion(label=pb.LabelEmotion(emotion="happy", intensity=0.5)),
        "text": pb.Emotion(text=pb.TextEmotion(text="Be cheerful")),
        "image": pb.Emotion(image=pb.ImageEmotion(file=smile)),
        "speech": pb.Emotion(speech=pb.SpeechEmotion()),
        "track": pb.Emotion(
            track=pb.TrackEmotion(
                keys=[
                    pb.TrackKey(time_s=0, label=pb.LabelEmotion(emotion="sad")),
                    pb.TrackKey(time_s=1, text=pb.TextEmotion(text="Cheer up")),
                ]
            )
        ),
    }
    for kind, emotion in emotions.items():
        picture = b"a smile" if kind == "image" else b""
        video = stub.CreateVideo(upload(header(emotion=emotion), emotion=picture), **AS_ALICE).video
        assert serving.jobs.get(video.id).request["emotion"]["kind"] == kind
    own = create(stub, emotion=pb.Emotion(portrait=pb.PortraitEmotion()))
    assert serving.jobs.get(own.id).request["emotion"] is None


def test_a_repeated_idempotency_key_gives_the_same_video(stub: pb_grpc.VideoServiceStub) -> None:
    first = create(stub, idempotency_key="once")
    again = stub.CreateVideo(upload(header(idempotency_key="once")), **AS_ALICE)
    assert (again.video.id, again.created) == (first.id, False)
    with pytest.raises(grpc.RpcError) as raised:
        stub.CreateVideo(upload(header(idempotency_key="once"), audio=AUDIO * 2), **AS_ALICE)
    failure = Failure(raised.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.ALREADY_EXISTS, "idempotency_conflict")


def test_lists_are_paged(stub: pb_grpc.VideoServiceStub) -> None:
    made = [create(stub).id for _ in range(3)]
    pages, after = [], ""
    for _ in range(2):
        page = stub.ListVideos(pb.ListVideosRequest(limit=2, after=after), **AS_ALICE)
        pages += [video.id for video in page.videos]
        after = pages[-1]
    assert pages[:3] == made[::-1] and page.has_more
    oldest = stub.ListVideos(pb.ListVideosRequest(limit=1, order=pb.LIST_ORDER_OLDEST_FIRST), **AS_ALICE)
    assert oldest.videos[0].id < made[0]
    finished(stub, made[0])
    done = stub.ListVideos(pb.ListVideosRequest(limit=100, status=pb.VIDEO_STATUS_COMPLETED), **AS_ALICE)
    assert made[0] in {video.id for video in done.videos}
    assert {video.status for video in done.videos} == {pb.VIDEO_STATUS_COMPLETED}
    assert not stub.ListVideos(pb.ListVideosRequest(), **AS_BOB).videos


def test_cancel_and_delete(stub: pb_grpc.VideoServiceStub, serving: Serving) -> None:
    video = create(stub, seed=STALLS)
    wait_until(lambda: serving.jobs.get(video.id).next_segment == 1)
    assert stub.CancelVideo(pb.CancelVideoRequest(id=video.id), **AS_ALICE).video.status == pb.VIDEO_STATUS_CANCELLED
    assert stub.CancelVideo(pb.CancelVideoRequest(id=video.id), **AS_ALICE).video.status == pb.VIDEO_STATUS_CANCELLED
    assert stub.DeleteVideo(pb.DeleteVideoRequest(id=video.id), **AS_ALICE).id == video.id
    for method, request in ((stub.GetVideo, pb.GetVideoRequest), (stub.DeleteVideo, pb.DeleteVideoRequest)):
        with pytest.raises(grpc.RpcError) as raised:
            method(request(id=video.id), **AS_ALICE)
        assert Failure(raised.value).code == grpc.StatusCode.NOT_FOUND


def test_a_failed_job_has_its_error(stub: pb_grpc.VideoServiceStub) -> None:
    video = create(stub, seed=FAILS)
    final = finished(stub, video.id)
    assert (final.status, final.error.code) == (pb.VIDEO_STATUS_FAILED, "face_missing")
    with pytest.raises(grpc.RpcError) as raised:
        list(stub.StreamVideo(pb.StreamVideoRequest(id=video.id), **AS_ALICE))
    assert Failure(raised.value).reason == "video_failed"


def test_jobs_of_other_callers_are_not_found(stub: pb_grpc.VideoServiceStub) -> None:
    video = create(stub)
    calls = (
        lambda: stub.GetVideo(pb.GetVideoRequest(id=video.id), **AS_BOB),
        lambda: list(stub.WatchVideo(pb.WatchVideoRequest(id=video.id), **AS_BOB)),
        lambda: list(stub.StreamVideo(pb.StreamVideoRequest(id=video.id), **AS_BOB)),
        lambda: stub.CancelVideo(pb.CancelVideoRequest(id=video.id), **AS_BOB),
        lambda: stub.DeleteVideo(pb.DeleteVideoRequest(id=video.id), **AS_BOB),
    )
    for call in calls:
        with pytest.raises(grpc.RpcError) as raised:
            call()
        failure = Failure(raised.value)
        assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "job_not_found")
    assert stub.GetVideo(pb.GetVideoRequest(id=video.id), **AS_ALICE).video.id == video.id


# --------------------------------------------------------------------------------------------------------------- errors


def refused(stub: pb_grpc.VideoServiceStub, requests: Iterator[pb.CreateVideoRequest]) -> Failure:
    with pytest.raises(grpc.RpcError) as raised:
        stub.CreateVideo(requests, **AS_ALICE)
    return Failure(raised.value)


def chunk(role: "pb.FileRole", data: bytes = b"x") -> pb.CreateVideoRequest:
    return pb.CreateVideoRequest(chunk=pb.FileChunk(role=role, data=data))


def test_refused_uploads_leave_nothing(stub: pb_grpc.VideoServiceStub, serving: Serving) -> None:
    before = serving.stored()
    whole = list(upload(header()))
    short = header()
    short.audio.upload.num_bytes = len(AUDIO) + 1
    no_audio = pb.CreateVideoHeader(portrait=header().portrait)
    cases = {
        "request_invalid": [
            iter(()),
            iter([pb.CreateVideoRequest()]),
            iter(whole[1:]),
            iter([whole[0], whole[0]]),
            iter([*whole, chunk(pb.FILE_ROLE_EMOTION)]),
            iter([*whole, chunk(pb.FILE_ROLE_UNSPECIFIED)]),
            iter([*whole, chunk(pb.FILE_ROLE_AUDIO, bytes((1 << 20) + 1))]),
            upload(no_audio),
            upload(header(settings=pb.RenderSettings(num_steps=51))),
            upload(header(settings=pb.RenderSettings(face=0))),
            upload(header(settings=pb.RenderSettings(emotion_strength=float("nan")))),
            upload(header(emotion=pb.Emotion())),
            upload(header(emotion=pb.Emotion(track=pb.TrackEmotion()))),
            upload(header(webhook_url="https://example.com/" + "x" * 3000)),
        ],
        "emotion_invalid": [upload(header(emotion=pb.Emotion(label=pb.LabelEmotion(emotion="hungry"))))],
        "face_missing": [upload(header(), portrait=b"broken")],
        "upload_incomplete": [upload(short)],
        "upload_too_large": [upload(header(), audio=bytes(2_100_000))],
        "idempotency_key_invalid": [upload(header(idempotency_key="x" * 256))],
        "webhooks_disabled": [upload(header(webhook_url="https://example.com"))],
    }
    for reason, uploads in cases.items():
        for requests in uploads:
            failure = refused(stub, requests)
            assert (failure.reason, failure.code) == (reason, grpc.StatusCode.INVALID_ARGUMENT), failure.status
    assert serving.stored() == before


def test_errors_have_rich_details(stub: pb_grpc.VideoServiceStub) -> None:
    failure = refused(stub, upload(header(), portrait=b"broken"))
    assert failure.info.domain == "emotivetalk"
    assert failure.info.metadata["remedy"] == "Give another."
    assert failure.status.message == "there is no face in portrait 'me.png'. Give another."
    localized = failure.detail(error_details_pb2.LocalizedMessage)
    assert localized == error_details_pb2.LocalizedMessage(locale="en", message=failure.status.message)

    failure = refused(stub, upload(header(emotion=pb.Emotion(label=pb.LabelEmotion(emotion="sad", intensity=2)))))
    bad = failure.detail(error_details_pb2.BadRequest)
    assert isinstance(bad, error_details_pb2.BadRequest)
    assert [violation.field for violation in bad.field_violations] == ["header.emotion.label.intensity"]
    assert "less than or equal to 1" in bad.field_violations[0].description


def test_a_rate_limit_says_when_to_retry(stub: pb_grpc.VideoServiceStub) -> None:
    request, options = pb.ListVideosRequest(), {"metadata": bearer(SLOW[0]), "timeout": TIMEOUT_S}
    stub.ListVideos(request, **options)
    with pytest.raises(grpc.RpcError) as raised:
        stub.ListVideos(request, **options)
    failure = Failure(raised.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "rate_limited")
    retry = failure.detail(error_details_pb2.RetryInfo)
    assert isinstance(retry, error_details_pb2.RetryInfo) and 50 <= retry.retry_delay.seconds <= 60


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        bearer("unknown-0123456789abcdef"),
        bearer(""),
        [("authorization", ALICE)],
        [("authorization", f"Basic {ALICE}")],
        [*bearer("unknown-0123456789abcdef"), *bearer(ALICE)],
    ],
)
def test_calls_without_a_known_token_are_refused(
    stub: pb_grpc.VideoServiceStub, metadata: list[tuple[str, str]]
) -> None:
    calls = (
        lambda: stub.ListVideos(pb.ListVideosRequest(), metadata=metadata, timeout=TIMEOUT_S),
        lambda: stub.CreateVideo(upload(header()), metadata=metadata, timeout=TIMEOUT_S),
        lambda: list(stub.StreamVideo(pb.StreamVideoRequest(id="x"), metadata=metadata, timeout=TIMEOUT_S)),
        lambda: list(stub.GenerateLive(iter(()), metadata=metadata, timeout=TIMEOUT_S)),
    )
    for call in calls:
        with pytest.raises(grpc.RpcError) as raised:
            call()
        failure = Failure(raised.value)
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "unauthorized")


def test_internal_errors_do_not_reveal_their_message(
    stub: pb_grpc.VideoServiceStub, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("password=secret")

    monkeypatch.setattr(serving.jobs, "list", broken)
    with pytest.raises(grpc.RpcError) as raised:
        stub.ListVideos(pb.ListVideosRequest(), **AS_ALICE)
    failure = Failure(raised.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INTERNAL, "internal")
    assert "secret" not in str(failure.status)


def test_long_messages_are_clipped_to_fit_into_metadata(stub: pb_grpc.VideoServiceStub) -> None:
    name = "\N{GRINNING FACE}" * 3000
    failure = refused(stub, upload(header(emotion=pb.Emotion(label=pb.LabelEmotion(emotion=name[:32])))))
    assert failure.reason == "emotion_invalid"
    short = header()
    short.audio.upload.name, short.audio.upload.num_bytes = name, 1
    failure = refused(stub, upload(short))
    assert failure.reason == "upload_incomplete" and failure.status.ByteSize() < 4000
    assert len(clipped(name, 100).encode()) <= 100


# ------------------------------------------------------------------------------------ deadlines, cancellation, servers


def test_a_deadline_ends_the_call_but_not_the_job(stub: pb_grpc.VideoServiceStub, serving: Serving) -> None:
    video = create(stub, seed=STALLS)
    for method, request in (
        (stub.WatchVideo, pb.WatchVideoRequest(id=video.id)),
        (stub.StreamVideo, pb.StreamVideoRequest(id=video.id)),
    ):
        begun = time.monotonic()
        with pytest.raises(grpc.RpcError) as raised:
            list(method(request, metadata=bearer(ALICE), timeout=0.3))
        assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED  # pyright: ignore
        assert time.monotonic() - begun < 3
    assert serving.jobs.get(video.id).status is JobStatus.IN_PROGRESS
    stub.CancelVideo(pb.CancelVideoRequest(id=video.id), **AS_ALICE)


def test_cancelling_a_call_does_not_cancel_the_job(stub: pb_grpc.VideoServiceStub, serving: Serving) -> None:
    video = create(stub, seed=STALLS)
    calls = [
        stub.WatchVideo(pb.WatchVideoRequest(id=video.id), **AS_ALICE),
        stub.StreamVideo(pb.StreamVideoRequest(id=video.id), **AS_ALICE),
    ]
    for call in calls:
        next(call)
        call.cancel()
    time.sleep(0.2)
    assert serving.jobs.get(video.id).status is JobStatus.IN_PROGRESS
    stub.CancelVideo(pb.CancelVideoRequest(id=video.id), **AS_ALICE)


def test_an_upload_that_stops_half_way_leaves_nothing(stub: pb_grpc.VideoServiceStub, serving: Serving) -> None:
    before = serving.stored()

    def stopping() -> Iterator[pb.CreateVideoRequest]:
        yield from itertools.islice(upload(header()), 2)
        time.sleep(0.3)
        call.cancel()

    call = stub.CreateVideo.future(stopping(), **AS_ALICE)
    with pytest.raises(grpc.FutureCancelledError):
        call.result()
    wait_until(lambda: not serving.uploads())
    assert serving.stored() == before


def test_a_stalled_upload_times_out(stub: pb_grpc.VideoServiceStub, serving: Serving) -> None:
    def stalling() -> Iterator[pb.CreateVideoRequest]:
        yield pb.CreateVideoRequest(header=header())
        time.sleep(3)

    failure = refused(stub, stalling())
    assert (failure.code, failure.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "upload_timeout")
    wait_until(lambda: not serving.uploads())


def test_health_and_reflection_need_no_token(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", "emotivetalk.v1.VideoService"):
        assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT_S).status == 1
    with pytest.raises(grpc.RpcError) as raised:
        health.Check(health_pb2.HealthCheckRequest(service="unknown"), timeout=TIMEOUT_S)
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND  # pyright: ignore
    database = ProtoReflectionDescriptorDatabase(channel)
    assert "emotivetalk.v1.VideoService" in database.get_services()
    file = database.FindFileContainingSymbol("emotivetalk.v1.VideoService")
    assert [method.name for method in file.service[0].method] == [
        method.name for method in pb.DESCRIPTOR.services_by_name["VideoService"].methods
    ]


def test_health_depends_on_the_stores_and_on_shutdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emotivetalk.actors.serving.gateway.grpc.server.HEALTH_PERIOD_S", 0.02)
    with running(tmp_path / "serving") as serving, grpc.insecure_channel(serving.address) as channel:
        states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        assert next(states).status == health_pb2.HealthCheckResponse.SERVING

        def no_space() -> None:
            raise ArtifactStoreError("artifacts_no_space", "the disk is full", "Free some space.")

        with monkeypatch.context() as patch:
            patch.setattr(serving.artifacts, "check", no_space)
            assert next(states).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert next(states).status == health_pb2.HealthCheckResponse.SERVING
        serving.loop.run(serving.server.stop(grace_s=0.5))
        assert next(states).status == health_pb2.HealthCheckResponse.NOT_SERVING


def test_two_servers_can_share_a_port(serving: Serving) -> None:
    second = serving.loop.run(start_grpc_server(serving.service, "127.0.0.1", serving.server.port))
    assert second.port == serving.server.port
    serving.loop.run(second.stop(grace_s=0))


def test_tls(tmp_path: Path, certificate: TlsFiles) -> None:
    with running(tmp_path / "serving", tls=certificate) as serving:
        credentials = grpc.ssl_channel_credentials(certificate.certificate.read_bytes())
        with grpc.secure_channel(f"localhost:{serving.server.port}", credentials) as channel:
            assert create(pb_grpc.VideoServiceStub(channel)).id
        with grpc.insecure_channel(serving.address) as channel, pytest.raises(grpc.RpcError) as raised:
            create(pb_grpc.VideoServiceStub(channel))
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE  # pyright: ignore


def test_invalid_addresses_and_certificates_are_refused(serving: Serving, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    cases = [
        ("grpc_port", "not-a-host.invalid", None),
        ("grpc_tls", "127.0.0.1", TlsFiles(broken, broken)),
        ("grpc_tls", "127.0.0.1", TlsFiles(tmp_path / "none.pem", broken)),
    ]
    for code, host, tls in cases:
        with pytest.raises(EmotiveTalkError) as raised:
            serving.loop.run(start_grpc_server(serving.service, host, 0, tls=tls))
        assert raised.value.code == code


def test_anonymous_callers_are_admitted_from_this_machine(tmp_path: Path) -> None:
    with (
        running(tmp_path / "serving", tokens_file=None, allow_anonymous=True, limits_by_name={}) as serving,
        grpc.insecure_channel(serving.address) as channel,
    ):
        video = pb_grpc.VideoServiceStub(channel).CreateVideo(upload(header()), timeout=TIMEOUT_S).video
        assert serving.jobs.get(video.id).owner == ""


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:5000", "127.0.0.1"),
        ("ipv6:%5B::1%5D:5000", "::1"),
        ("ipv6:[fe80::1%25eth0]:5000", "fe80::1"),
        ("unix:/run/socket", None),
        ("unix:127.0.0.1:5", None),
        ("", None),
        ("ipv4:", None),
    ],
)
def test_peer_addresses(peer: str, address: str | None) -> None:
    assert peer_address(peer) == address
