"""Everything that the unmodified `openai` client can ask of videos: done, or refused with the reason."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from emotivetalk.actors.serving.gateway.service import Intake
from emotivetalk.actors.serving.jobs.records import Job
from emotivetalk.media.fragments import ClipAudio, encode_audio, fragment, init_segment
from tests.actors.fake_backend import FACE, FakeDirector, fake_prepare, video_bytes
from tests.actors.gateway.conftest import Serve, create, files
from tests.actors.gateway.serving import TOKEN, Serving
from tests.processes import wait_until


@pytest.fixture
def api(serving: Serving) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=TOKEN, base_url=f"{serving.url}/v1", max_retries=0) as made:
        yield made


def completed(serving: Serving, job_id: str) -> Job:
    wait_until(lambda: serving.jobs.get(job_id).status.is_terminal)
    return serving.jobs.get(job_id)


def test_a_remix_has_another_emotion_and_uploads_nothing(
    api: openai.OpenAI, client: httpx.Client, serving: Serving, director: FakeDirector
) -> None:
    first = create(client, emotion="happy", seed=7)
    remix = api.videos.remix(first["id"], prompt="Speak sadly")
    assert remix.remixed_from_video_id == first["id"] and remix.prompt == "Speak sadly" and remix.id != first["id"]
    job = completed(serving, remix.id)
    assert job.request["seed"] == 7 and job.request["emotion"] == {"kind": "text", "text": "Speak sadly"}
    for name in ("portrait.png", "speech.f32"):
        assert serving.artifacts.read(f"jobs/{remix.id}/{name}") == serving.artifacts.read(f"jobs/{first['id']}/{name}")
    assert api.videos.download_content(remix.id).read() == video_bytes(9)

    client.delete(f"/v1/videos/{first['id']}")  # the remix has files of its own
    again = client.post(f"/v1/videos/{remix.id}/remix", json={"emotion": "angry:0.5", "seed": 8, "num_steps": 4}).json()
    assert (again["seed"], again["emotion"]["emotion"]) == (8, "angry")
    assert completed(serving, again["id"]).request["num_steps"] == 4
    # The client itself cannot send the id of a video to `edit`: it takes every `video` for a file.
    edited = client.post("/v1/videos/edits", json={"prompt": "Laugh", "video": {"id": remix.id}}).json()
    assert edited["remixed_from_video_id"] == remix.id


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"emotion": {"kind": "image"}}, "remix_needs_upload"),
        ({"emotion": "happy", "prompt": "Laugh"}, "request_invalid"),
        ({"num_steps": 0}, "request_invalid"),
        ({"face": 2}, "request_invalid"),
    ],
)
def test_a_remix_that_cannot_be_is_refused(client: httpx.Client, body: dict, code: str) -> None:
    answer = client.post(f"/v1/videos/{create(client)['id']}/remix", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == code, answer.text


def test_what_videos_here_cannot_be_is_refused_with_the_reason(api: openai.OpenAI, serving: Serving) -> None:
    with pytest.raises(openai.BadRequestError, match="as long as its speech"):
        api.videos.extend(prompt="Go on", seconds="8", video=("film.mp4", b"film"))
    with pytest.raises(openai.BadRequestError, match="not made here"):
        api.videos.edit(prompt="Laugh", video=("film.mp4", b"film"))
    with pytest.raises(openai.NotFoundError, match="there is no video"):
        api.videos.remix("video_" + "0" * 32, prompt="Laugh")
    assert list((serving.folder / "uploads").iterdir()) == []


def test_a_character_is_a_portrait_with_a_name(serve: Serve, director: FakeDirector) -> None:
    def prepare_portrait(picture, folder, **settings):  # type: ignore[no-untyped-def]
        return fake_prepare(picture, _speech(folder), None, None, folder, names={"portrait": "me"}).files[
            "portrait.png"
        ]

    def _speech(folder):  # type: ignore[no-untyped-def]
        path = folder / "speech"
        path.write_bytes(b"speech: x")
        return path

    serving = serve(Intake(prepare=fake_prepare, prepare_portrait=prepare_portrait))
    with openai.OpenAI(api_key=TOKEN, base_url=f"{serving.url}/v1", max_retries=0) as api:
        made = api.videos.create_character(name="Teacher", video=("me.png", FACE))
        assert made.name == "Teacher" and made.id is not None
        assert api.videos.get_character(made.id).name == "Teacher"
        with pytest.raises(openai.BadRequestError, match="no face"):
            api.videos.create_character(name="Lake", video=("lake.png", b"a lake"))
        video = api.post(
            "/videos",
            cast_to=httpx.Response,
            body={"portrait": {"file_id": made.id}, "audio": "data:;base64,c3BlZWNoOiB4eA=="},
        )
        assert video.status_code == 200


def test_models_have_aliases_and_sizes_map_to_the_one_there_is(serve: Serve) -> None:
    serving = serve(model_aliases=["sora-2"])
    with openai.OpenAI(api_key=TOKEN, base_url=f"{serving.url}/v1", max_retries=0) as api:
        assert [model.id for model in api.models.list()] == ["emotivetalk-test", "sora-2"]
        assert api.models.retrieve("sora-2").owned_by == "emotivetalk"
        with pytest.raises(openai.NotFoundError, match="there is no model"):
            api.models.retrieve("gpt-5")
        headers = {"authorization": f"Bearer {TOKEN}"}
        data = {"model": "sora-2", "size": "1280x720"}
        answer = httpx.post(f"{serving.url}/v1/videos", files=files(), data=data, headers=headers)
        assert answer.status_code == 200 and answer.json()["size"] == "64x64"


def test_a_thumbnail_is_the_first_frame(
    api: openai.OpenAI, client: httpx.Client, serving: Serving, tmp_path: Path
) -> None:
    job_id = create(client)["id"]
    with pytest.raises(openai.ConflictError):
        api.videos.download_content(job_id, variant="thumbnail")
    director = FakeDirector(serving.jobs, serving.artifacts)
    director.start()
    completed(serving, job_id)
    director.ending.set()
    frames = np.full((10, 64, 64, 3), 200, np.uint8)
    serving.artifacts.write(f"jobs/{job_id}/init.mp4", init_segment(64, 64))
    first = serving.jobs.segments(job_id)[0]
    encode_audio(np.zeros(16_000, np.float32), tmp_path / "silence.m4a")
    with ClipAudio(tmp_path / "silence.m4a") as audio:
        serving.artifacts.write(first.path, fragment(frames, 0, audio, is_last=False, sequence=0))
    picture = Image.open(io.BytesIO(api.videos.download_content(job_id, variant="thumbnail").read()))
    assert picture.format == "JPEG" and picture.size == (64, 64)
    assert abs(np.asarray(picture).astype(int) - 200).max() < 10
    with pytest.raises(openai.BadRequestError):
        api.videos.download_content(job_id, variant="spritesheet")
