"""`/v1/videos`: create, get, list, download, cancel and delete, with OpenAI's client and with plain requests."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import soundfile
from PIL import Image
from skimage.data import astronaut

from emotivetalk.actors.serving.gateway.service import Intake
from emotivetalk.actors.serving.jobs.store import JobError, JobStatus
from tests.actors.fake_backend import FACE, SPEECH, FakeDirector, fake_prepare, video_bytes
from tests.actors.gateway.conftest import Serve, client_of, create, files
from tests.actors.gateway.serving import OTHER_TOKEN, TOKEN, Serving
from tests.processes import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


def data_url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def test_the_openai_client_creates_polls_downloads_lists_and_deletes(serving: Serving, director: FakeDirector) -> None:
    client = openai.OpenAI(base_url=f"{serving.url}/v1", api_key=TOKEN, max_retries=0)
    video = client.videos.create_and_poll(
        prompt="Speak cheerfully",
        input_reference=("me.png", FACE),
        extra_body={"audio_reference": {"audio_url": data_url(SPEECH, "audio/wav")}},
    )
    assert (video.status, video.progress, video.object) == ("completed", 100, "video")
    assert (video.seconds, video.size, video.prompt) == ("3", "64x64", "Speak cheerfully")
    assert video.model == "emotivetalk-test" and video.error is None
    assert video.completed_at is not None and video.created_at <= video.completed_at < (video.expires_at or 0)
    assert client.videos.download_content(video.id).read() == video_bytes(9)

    second = client.videos.create(
        prompt="", input_reference=FACE, model="emotivetalk-test", size="64x64", seconds="4",  # type: ignore[arg-type]
        extra_body={"audio_reference[audio_url]": data_url(SPEECH, "audio/wav"), "emotion": "sad:0.5", "seed": 7},
    )  # fmt: skip
    assert [found.id for found in client.videos.list(limit=1)] == [second.id, video.id]  # the client follows the pages
    deleted = client.videos.delete(video.id)
    assert deleted.deleted and deleted.id == video.id
    with pytest.raises(openai.NotFoundError, match="there is no video"):
        client.videos.retrieve(video.id)
    wait_until(lambda: client.videos.retrieve(second.id).status == "completed")
    assert [path.name for path in serving.leftovers()] == [second.id]


def test_a_request_becomes_a_job_with_its_files(client: httpx.Client, serving: Serving) -> None:
    video = create(client, emotion="sad:0.5", seed=7, num_steps=3, emotion_strength=1.5)
    job = serving.jobs.get(video["id"])
    assert (job.owner, job.num_frames, job.width, job.height) == ("alice", 87, 64, 64)
    assert job.request == {
        "num_samples": 56000,
        "emotion": {"kind": "label", "emotion": "sad", "intensity": 0.5},
        "seed": 7,
        "num_steps": 3,
        "emotion_strength": 1.5,
    }
    assert serving.artifacts.read(f"jobs/{job.job_id}/portrait.png") == FACE
    assert serving.artifacts.read(f"jobs/{job.job_id}/speech.f32") == SPEECH
    assert list((serving.folder / "uploads").iterdir()) == []


@pytest.mark.parametrize(
    ("emotion", "stored"),
    [
        ("happy", {"kind": "label", "emotion": "happy", "intensity": 1.0}),
        ('{"kind": "text", "text": "Be calm"}', {"kind": "text", "text": "Be calm"}),
        ('{"kind": "speech"}', {"kind": "speech"}),
        ('[{"time_s": 0, "emotion": "sad"}, {"time_s": 2, "text": "Be calm"}]', {"kind": "track", "keys": [
            {"time_s": 0.0, "emotion": "sad", "intensity": None, "text": None},
            {"time_s": 2.0, "emotion": None, "intensity": None, "text": "Be calm"}]}),
        ("", None),
    ],
)  # fmt: skip
def test_emotions_in_a_form_and_in_json(
    client: httpx.Client, serving: Serving, emotion: str, stored: dict | None
) -> None:
    assert create(client, emotion=emotion)["emotion"] == stored
    body = {
        "portrait": data_url(FACE, "image/png"),
        "audio": {"audio_url": data_url(SPEECH, "audio/wav")},
        "emotion": json.loads(emotion) if emotion[:1] in ("{", "[") else emotion,
    }
    answer = client.post("/v1/videos", json=body)
    assert answer.status_code == 200, answer.text
    assert serving.jobs.get(answer.json()["id"]).request["emotion"] == stored


@pytest.mark.parametrize(("kind", "name"), [("image", "emotion.png"), ("video", "emotion.npy")])
def test_an_emotion_from_a_file(client: httpx.Client, serving: Serving, kind: str, name: str) -> None:
    for fields in ({}, {"emotion": json.dumps({"kind": kind})}, {"emotion[kind]": kind}):
        form = files(**{f"emotion_{kind}": b"a look"})
        answer = client.post("/v1/videos", files=form, data=fields)
        assert answer.status_code == 200, answer.text
        assert answer.json()["emotion"] == {"kind": kind}
        assert serving.artifacts.read(f"jobs/{answer.json()['id']}/{name}") == b"a look"


def test_inputs_by_url(serve: Serve, tmp_path: Path) -> None:
    calls: list[tuple[str, int, bool]] = []

    async def fetch(url: str, folder: Path, max_bytes: int, *, allow_private: bool) -> Path:
        calls.append((url, max_bytes, allow_private))
        path = folder / "fetched"
        path.write_bytes(FACE if "face" in url else SPEECH)
        return path

    serving = serve(Intake(prepare=fake_prepare, fetch=fetch), allow_private_urls=False)
    body = {"input_reference": {"image_url": "https://e.org/face.png"}, "audio": "https://e.org/speech.wav"}
    with client_of(serving) as client:
        assert client.post("/v1/videos", json=body).status_code == 200
    assert calls == [("https://e.org/face.png", 2_000_000, False), ("https://e.org/speech.wav", 2_000_000, False)]
    closed = serve(allow_url_inputs=False)
    with client_of(closed) as client:
        assert client.post("/v1/videos", json=body).json()["error"]["code"] == "urls_disabled"


def test_a_url_to_this_machine_is_not_fetched(serve: Serve) -> None:
    serving = serve(allow_private_urls=False)
    body = {"portrait": f"{serving.url}/healthz", "audio": data_url(SPEECH, "audio/wav")}
    with client_of(serving) as client:
        answer = client.post("/v1/videos", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "url_private")
    assert serving.leftovers() == []


def test_the_same_key_and_request_give_the_same_video(client: httpx.Client, serving: Serving) -> None:
    key = {"idempotency-key": "a-key"}
    first = client.post("/v1/videos", files=files(), headers=key)
    again = client.post("/v1/videos", files=files(), headers=key)
    assert first.json()["id"] == again.json()["id"]
    assert "idempotent-replayed" not in first.headers and again.headers["idempotent-replayed"] == "true"
    other = client.post("/v1/videos", files=files(), data={"seed": "1"}, headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_conflict")
    assert [path.name for path in serving.leftovers()] == [
        first.json()["id"]
    ]  # no files of the refused and repeated requests
    with client_of(serving, OTHER_TOKEN) as bob:
        assert bob.post("/v1/videos", files=files(), headers=key).json()["id"] != first.json()["id"]
    answer = client.post("/v1/videos", files=files(), headers={"idempotency-key": "k" * 256})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "idempotency_key_invalid")


def test_lists_are_paged(client: httpx.Client, serving: Serving) -> None:
    ids = [create(client)["id"] for _ in range(5)]
    newest = client.get("/v1/videos", params={"limit": 2}).json()
    assert [video["id"] for video in newest["data"]] == [ids[4], ids[3]]
    assert (newest["first_id"], newest["last_id"], newest["has_more"]) == (ids[4], ids[3], True)
    rest = client.get("/v1/videos", params={"limit": 3, "after": ids[3]}).json()
    assert [video["id"] for video in rest["data"]] == [ids[2], ids[1], ids[0]] and not rest["has_more"]
    oldest = client.get("/v1/videos", params={"order": "asc", "status": "queued"}).json()["data"]
    assert [video["id"] for video in oldest] == ids
    assert client.get("/v1/videos", params={"status": "failed"}).json()["data"] == []
    with client_of(serving, OTHER_TOKEN) as bob:
        empty = bob.get("/v1/videos").json()
        assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    for wrong in ({"limit": 0}, {"limit": 101}, {"order": "up"}):
        answer = client.get("/v1/videos", params=wrong)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(wrong)))


def test_videos_of_other_callers_are_not_found(client: httpx.Client, serving: Serving) -> None:
    video = create(client)
    with client_of(serving, OTHER_TOKEN) as bob:
        for method, tail in [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/content"), ("GET", "/events"), ("GET", "/stream"),
                             ("GET", "/playlist.m3u8"), ("GET", "/init.mp4"), ("GET", "/segments/0.m4s")]:  # fmt: skip
            answer = bob.request(method, f"/v1/videos/{video['id']}{tail}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_not_found")


def test_deleting_a_running_video_cancels_it(client: httpx.Client, serving: Serving, gated: FakeDirector) -> None:
    video = create(client)
    assert gated.gate is not None
    gated.gate.release()
    wait_until(lambda: client.get(f"/v1/videos/{video['id']}").json()["progress"] == 11)
    assert client.delete(f"/v1/videos/{video['id']}").json() == {
        "id": video["id"], "object": "video.deleted", "deleted": True}  # fmt: skip
    assert client.get(f"/v1/videos/{video['id']}").status_code == 404
    assert client.get("/v1/videos").json()["data"] == []


def test_cancel_keeps_the_video(client: httpx.Client, director: FakeDirector) -> None:
    done = create(client)["id"]
    wait_until(lambda: client.get(f"/v1/videos/{done}").json()["status"] == "completed")
    assert client.post(f"/v1/videos/{done}/cancel").json()["status"] == "completed"
    director.stop()
    waiting = create(client)["id"]
    for _ in range(2):
        assert client.post(f"/v1/videos/{waiting}/cancel").json()["status"] == "cancelled"
    answer = client.get(f"/v1/videos/{waiting}/content")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "video_cancelled")


def test_a_failed_video_has_its_error(client: httpx.Client, director: FakeDirector) -> None:
    director.fails_with = JobError("emotion_invalid", "no emotion can be made out")
    video = create(client)
    wait_until(lambda: client.get(f"/v1/videos/{video['id']}").json()["status"] == "failed")
    error = client.get(f"/v1/videos/{video['id']}").json()["error"]
    assert error == {"code": "emotion_invalid", "message": "no emotion can be made out"}
    for tail in ("content", "stream", "playlist.m3u8"):
        answer = client.get(f"/v1/videos/{video['id']}/{tail}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "video_failed")


@pytest.mark.slow
def test_real_inputs_are_decoded(serve: Serve, tmp_path: Path) -> None:
    serving = serve(Intake())
    Image.fromarray(astronaut()).save(tmp_path / "me.png")
    waveform = np.sin(np.arange(16_000) * 0.1) * np.random.default_rng(0).random(16_000)
    soundfile.write(tmp_path / "hello.wav", waveform, 16_000)
    portrait, audio = (tmp_path / "me.png").read_bytes(), (tmp_path / "hello.wav").read_bytes()
    with client_of(serving) as client:
        video = client.post("/v1/videos", files=files(portrait, audio), data={"seconds": "1"})
        assert video.status_code == 200, video.text
        assert (video.json()["size"], video.json()["num_frames"]) == ("64x64", 25)
    assert serving.artifacts.exists(f"jobs/{video.json()['id']}/speech.m4a")
    assert list((serving.folder / "uploads").iterdir()) == []
    assert serving.jobs.counts()[JobStatus.QUEUED] == 1
