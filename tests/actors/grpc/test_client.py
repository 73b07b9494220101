"""The Python client: equal results over HTTP and gRPC, and the service's errors with their codes and remedies."""

import json
import threading
import time
from pathlib import Path

import httpx
import pytest

from emotivetalk.actors.errors import OverloadError
from emotivetalk.actors.serving.gateway.grpc.server import TlsFiles
from emotivetalk.client import Client, VideoError
from emotivetalk.client.videos import service_error
from emotivetalk.errors import EmotiveTalkError, InputError
from tests.actors.grpc.calls import AUDIO, NUM_FRAMES, PORTRAIT
from tests.actors.grpc.conftest import ALICE, BOB, FAILS, SLOW, STALLS, Serving, running


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    path = tmp_path / "me.png"
    path.write_bytes(PORTRAIT)
    return path


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    path = tmp_path / "hello.wav"
    path.write_bytes(AUDIO)
    return path


def test_a_video_from_request_to_file(
    client: Client, serving: Serving, portrait: Path, audio: Path, tmp_path: Path
) -> None:
    video = client.create(portrait, audio, seed=21)
    assert (video.status, video.progress, video.seed, video.width) == ("queued", 0, 21, 64)
    assert video.num_frames == NUM_FRAMES and video.duration_s == video.num_frames / 25
    states = list(client.watch(video.id))
    assert states[-1].status == "completed" and states[-1].is_final and states[-1].progress == 100
    assert client.wait(video.id) == states[-1] == client.get(video.id)
    assert client.wait(video.id, timeout_s=5, progress=False) == states[-1]

    whole = serving.artifacts.read(f"jobs/{video.id}/video.mp4")
    path = client.download(video.id, tmp_path / "out.mp4")
    assert path.read_bytes() == whole
    assert b"".join(client.stream(video.id)) == whole
    assert sorted(found.name for found in tmp_path.iterdir()) == ["hello.wav", "me.png", "out.mp4"]
    client.delete(video.id)
    with pytest.raises(InputError) as raised:
        client.get(video.id)
    assert raised.value.code == "job_not_found"


def test_both_protocols_give_equal_answers(serving: Serving, http_port: int, portrait: Path, audio: Path) -> None:
    with (
        Client(f"http://127.0.0.1:{http_port}", ALICE) as http,
        Client(serving.address, ALICE, protocol="grpc") as rpc,
    ):
        made = [http.create(portrait, audio), rpc.create(portrait, audio, seed=FAILS)]
        for video in made:
            assert http.wait(video.id) == rpc.wait(video.id)
        assert http.get(made[1].id).error == VideoError("face_missing", "there is no face in the portrait")
        assert http.list(limit=3) == rpc.list(limit=3)
        assert http.list(limit=2, order="asc", status="completed") == rpc.list(limit=2, order="asc", status="completed")
        after = http.list(limit=1).videos[0].id
        assert http.list(after=after) == rpc.list(after=after)
        for broken in (
            lambda client: client.get("video_" + "0" * 32),
            lambda client: client.get("../../metrics"),
            lambda client: list(client.stream(made[1].id)),
            lambda client: client.download(made[1].id, portrait.with_name("out.mp4")),
            lambda client: client.list(limit=101),
            lambda client: client.create(portrait, audio, emotion="hungry"),
            lambda client: client.create(portrait, audio, face=0),
            lambda client: client.create("http://127.0.0.1/secret.png", audio),
        ):
            errors = []
            for client in (http, rpc):
                with pytest.raises(EmotiveTalkError) as raised:
                    broken(client)
                errors.append(raised.value)
            assert errors[0].code == errors[1].code
            assert isinstance(errors[0], InputError) == isinstance(errors[1], InputError)
            if (
                errors[0].code != "request_invalid"
            ):  # its message names the field by a path that depends on the protocol
                assert str(errors[0]) == str(errors[1])


def test_every_emotion_becomes_the_same_request_over_both_protocols(
    serving: Serving, http_port: int, portrait: Path, audio: Path, tmp_path: Path
) -> None:
    smile = tmp_path / "smile.png"
    smile.write_bytes(b"a smile")
    keys = [{"time_s": 0, "emotion": "sad", "intensity": 0.5}, {"time_s": 1.5, "text": "Cheer up"}]
    track = tmp_path / "track.json"
    track.write_text(json.dumps(keys))
    emotions = [
        {},
        {"emotion": "happy"},
        {"emotion": "happy:0.25"},
        {"emotion_text": "Be cheerful"},
        {"emotion_image": smile},
        {"emotion_video": str(smile)},
        {"emotion_track": keys},
        {"emotion_track": track},
        {"emotion_from_speech": True},
    ]
    settings = {"seed": 3, "num_steps": 7, "emotion_strength": 1.5, "face": 1, "audio_track": 1}
    with (
        Client(f"http://127.0.0.1:{http_port}", ALICE) as http,
        Client(serving.address, ALICE, protocol="grpc") as rpc,
    ):
        for emotion in emotions:
            videos = [client.create(portrait, audio, **emotion, **settings) for client in (http, rpc)]
            jobs = [serving.jobs.get(video.id) for video in videos]
            assert jobs[0].request == jobs[1].request
            assert jobs[0].fingerprint == jobs[1].fingerprint


def test_a_repeated_idempotency_key_gives_the_same_video(
    client: Client, portrait: Path, audio: Path, request: pytest.FixtureRequest
) -> None:
    key = request.node.name
    first = client.create(portrait, audio, idempotency_key=key)
    assert client.create(portrait, audio, idempotency_key=key).id == first.id
    with pytest.raises(InputError) as raised:
        client.create(portrait, audio, idempotency_key=key, seed=1)
    assert raised.value.code == "idempotency_conflict"


def test_a_cancelled_video_ends_streams_and_cannot_be_downloaded(
    client: Client, portrait: Path, audio: Path, tmp_path: Path
) -> None:
    video = client.create(portrait, audio, seed=STALLS)
    pieces = client.stream(video.id)
    assert next(pieces)
    with pytest.raises(InputError) as raised:
        client.download(video.id, tmp_path / "out.mp4")
    assert raised.value.code == "video_not_ready"
    assert client.cancel(video.id).status == "cancelled"
    with pytest.raises(EmotiveTalkError) as raised:
        list(pieces)
    assert raised.value.code == "video_cancelled"
    assert client.wait(video.id).status == "cancelled"
    assert not (tmp_path / "out.mp4").exists()


def test_wait_times_out(client: Client, portrait: Path, audio: Path) -> None:
    video = client.create(portrait, audio, seed=STALLS)
    with pytest.raises(EmotiveTalkError) as raised:
        client.wait(video.id, timeout_s=0.3)
    assert raised.value.code == "wait_timeout"
    assert client.cancel(video.id).status == "cancelled"


def test_watching_ends_when_the_video_is_deleted(client: Client, portrait: Path, audio: Path) -> None:
    video = client.create(portrait, audio, seed=STALLS)
    states = client.watch(video.id)
    next(states)
    deleting = threading.Timer(0.2, client.delete, [video.id])
    deleting.start()
    with pytest.raises(InputError) as raised:
        list(states)
    assert raised.value.code == "job_not_found"
    deleting.join()


def test_inputs_are_checked_before_they_are_sent(client: Client, portrait: Path, audio: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.wav"
    empty.touch()
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    cases = {
        "image_missing": lambda: client.create(tmp_path / "none.png", audio),
        "audio_empty": lambda: client.create(portrait, empty),
        "emotion_conflict": lambda: client.create(portrait, audio, emotion="sad", emotion_text="Be sad"),
        "emotion_invalid": lambda: client.create(portrait, audio, emotion="sad:very"),
        "track_missing": lambda: client.create(portrait, audio, emotion_track="none.json"),
        "request_invalid": lambda: client.create(portrait, audio, seed=2**63),
        "output_folder_missing": lambda: client.download("video_" + "0" * 32, tmp_path / "none" / "out.mp4"),
    }
    for code, call in cases.items():
        with pytest.raises(InputError) as raised:
            call()
        assert raised.value.code == code
    for track in (broken, [{"time_s": 0}], ["sad"]):
        with pytest.raises(InputError) as raised:
            client.create(portrait, audio, emotion_track=track)
        assert raised.value.code == "emotion_invalid"
    with pytest.raises(InputError) as raised:
        client.create(portrait.with_name("hello.wav"), portrait, emotion="sad:2")
    assert raised.value.code == "emotion_invalid"
    with pytest.raises(ValueError, match="order"):
        client.list(order="newest")  # pyright: ignore


def test_errors_have_the_services_code_message_and_remedy(client: Client, audio: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"broken")
    with pytest.raises(InputError) as raised:
        client.create(broken, audio)
    error = raised.value
    assert (error.code, error.message) == ("face_missing", "there is no face in portrait 'broken.png'")
    assert error.remedy == "Give another."


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_tokens_and_rate_limits(
    serving: Serving, http_port: int, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://127.0.0.1:{http_port}" if protocol == "http" else serving.address
    with Client(address, protocol=protocol) as anonymous, pytest.raises(InputError) as raised:  # pyright: ignore
        anonymous.list()
    assert raised.value.code == "unauthorized"
    monkeypatch.setenv("EMOTIVETALK_TOKEN", BOB)
    with Client(address, protocol=protocol) as bob:  # pyright: ignore
        assert bob.list().videos == ()
    with (
        Client(address, SLOW[1 if protocol == "http" else 2], protocol=protocol) as slow,
        pytest.raises(OverloadError) as overload,
    ):  # pyright: ignore
        slow.list()
        slow.list()
    assert overload.value.code == "rate_limited" and 50 <= overload.value.retry_after_s <= 61


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_unreachable_service_is_one_error(
    protocol: str, portrait: Path, audio: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    address = "http://127.0.0.1:1" if protocol == "http" else "127.0.0.1:1"
    with Client(address, ALICE, protocol=protocol, timeout_s=5) as client:  # pyright: ignore
        for call in (
            lambda: client.create(portrait, audio),
            lambda: client.get("video_" + "0" * 32),
            lambda: list(client.stream("video_" + "0" * 32)),
            lambda: client.download("video_" + "0" * 32, tmp_path / "out.mp4"),
        ):
            with pytest.raises(EmotiveTalkError) as raised:
                call()
            assert raised.value.code == "service_unreachable"
    assert pauses, "the call was not repeated"
    assert not (tmp_path / "out.mp4").exists()


def test_answers_of_another_server_are_one_error() -> None:
    def page(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200 if "get" not in request.url.path else 502, text="<html>nginx</html>")

    with Client("http://127.0.0.1:1", ALICE) as client:
        transport = client._transport
        transport._client = httpx.Client(base_url="http://x", transport=httpx.MockTransport(page))  # pyright: ignore
        for call in (lambda: transport.get("video_get"), lambda: transport.get("video_other")):
            with pytest.raises(EmotiveTalkError) as raised:
                call()
            assert raised.value.code == "service_unreachable"


def test_wait_continues_after_a_restart_of_the_service(serving: Serving, portrait: Path, audio: Path) -> None:
    with Client(serving.address, ALICE, protocol="grpc") as client:
        video = client.create(portrait, audio)
        final = client.wait(video.id)
        broken = iter([EmotiveTalkError("service_unreachable", "gone", "Wait."), None])
        watch = client._transport.watch

        def flaky(video_id: str):
            error = next(broken)
            if error is not None:
                raise error
            return watch(video_id)

        client._transport.watch = flaky  # pyright: ignore
        assert client.wait(video.id) == final


def test_wait_shows_progress_on_a_terminal(
    client: Client, portrait: Path, audio: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    video = client.create(portrait, audio)
    client.wait(video.id)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich treat any stream as a terminal
    client.wait(video.id)
    assert f"{video.num_frames}/{video.num_frames}" in capsys.readouterr().err
    client.wait(video.id, progress=False)
    assert capsys.readouterr().err == ""


def test_tls(certificate: TlsFiles, tmp_path: Path) -> None:
    with running(tmp_path / "serving", tls=certificate) as serving:
        address = f"https://localhost:{serving.server.port}"
        with Client(address, ALICE, protocol="grpc", certificates=certificate.certificate) as client:
            assert client.list().videos == ()
        with (
            Client(address, ALICE, protocol="grpc", timeout_s=5) as anonymous,
            pytest.raises(EmotiveTalkError) as raised,
        ):
            anonymous._transport.list(1, None, "desc", None)
        assert raised.value.code == "service_unreachable"


def test_the_remedy_is_split_from_the_message() -> None:
    error = service_error("a_code", "it is wrong. Do this. Or that.", remedy="Do this. Or that.", is_input=True)
    assert (error.message, error.remedy, str(error)) == (
        "it is wrong",
        "Do this. Or that.",
        "it is wrong. Do this. Or that.",
    )
    error = service_error("a_code", "a. b is wrong. Do this.", remedy="Do this.", is_input=False)
    assert (error.message, error.remedy) == ("a. b is wrong", "Do this.")
    assert not isinstance(error, InputError)
