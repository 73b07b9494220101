"""Files and batches in the Python client, over HTTP and gRPC."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from emotivetalk.actors.serving.batches.runner import BatchRunner
from emotivetalk.actors.serving.gateway.http.batches import HttpFront
from emotivetalk.actors.serving.gateway.settings import BatchSettings
from emotivetalk.client import Client
from emotivetalk.errors import InputError
from tests.actors.grpc.calls import AUDIO, PORTRAIT
from tests.actors.grpc.conftest import BOB, FAILS, Serving


@pytest.fixture(scope="module", autouse=True)
def runner(serving: Serving) -> Iterator[None]:
    quick = BatchSettings(poll_s=0.02)
    serving.service.settings = serving.service.settings.model_copy(update={"batches": quick})
    serving.service.batches.settings = quick
    running = BatchRunner(serving.service, HttpFront("emotivetalk-test"), "test")
    task = asyncio.run_coroutine_threadsafe(running.run(), serving.loop.loop)
    yield
    task.cancel()


def data_url(data: bytes) -> str:
    return "data:application/octet-stream;base64," + base64.b64encode(data).decode()


def test_a_manifest_becomes_videos_and_reasons(client: Client, serving: Serving, tmp_path: Path) -> None:
    picture = tmp_path / "me.png"
    picture.write_bytes(PORTRAIT)
    portrait = client.batches.upload(picture)
    rows = [
        {"custom_id": "one", "portrait": {"file_id": portrait}, "audio": data_url(AUDIO)},
        {"custom_id": "fails", "portrait": data_url(PORTRAIT), "audio": data_url(AUDIO), "seed": FAILS},
        {"custom_id": "broken", "portrait": data_url(PORTRAIT), "audio": data_url(b"broken")},
    ]
    manifest = tmp_path / "rows.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))

    batch = client.batches.create(manifest, metadata={"course": "one"})
    states = list(client.batches.watch(batch.id, poll_s=0.02))
    assert states[-1].status == "completed" and states[-1].is_final
    done = client.batches.wait(batch.id, timeout_s=5)
    assert (done.num_total, done.num_completed, done.num_failed) == (3, 1, 2)
    assert done.metadata == {"course": "one"} and done.errors == ()
    assert done.id in [one.id for one in client.batches.list(limit=5)]
    results = {row["custom_id"]: row for row in client.batches.results(done)}
    assert results["fails"]["error"]["code"] == "face_missing"  # while it is rendered
    assert results["broken"]["error"]["code"] == "audio_corrupt"  # before it is rendered
    video = client.get(results["one"]["response"]["body"]["id"])
    assert video.status == "completed"
    target = client.download(video.id, tmp_path / "one.mp4")
    assert target.read_bytes() == serving.artifacts.read(f"jobs/{video.id}/video.mp4")
    again = client.create(portrait, _file(tmp_path, "hello.wav", AUDIO))  # a single video of the stored portrait
    assert client.wait(again.id).status == "completed"
    assert b"".join(client.batches.download(portrait)) == PORTRAIT
    client.batches.delete_file(portrait)
    with pytest.raises(InputError, match="there is no file"):
        list(client.batches.download(portrait))


def test_a_broken_manifest_and_a_cancelled_batch_say_so(client: Client, tmp_path: Path) -> None:
    broken = client.batches.create(_file(tmp_path, "broken.jsonl", b"\xff\n"))
    done = client.batches.wait(broken.id, timeout_s=10, poll_s=0.02)
    assert done.status == "failed" and [(error.code, error.line) for error in done.errors] == [("manifest_invalid", 1)]
    assert list(client.batches.results(done)) == []
    assert client.batches.cancel(broken.id).status == "failed"
    with pytest.raises(InputError, match="completion_window"):
        client.batches.create(_file(tmp_path, "rows.jsonl", b"{}\n"), completion_window="soon")
    with pytest.raises(InputError, match="is empty"):
        client.batches.create(_file(tmp_path, "none.jsonl", b""))


def test_another_callers_batch_does_not_exist(client: Client, serving: Serving, tmp_path: Path) -> None:
    batch = client.batches.create(_file(tmp_path, "rows.jsonl", b"{}\n"))
    with Client(serving.address, BOB, protocol="grpc") as bob:
        for call in (bob.batches.get, bob.batches.cancel):
            with pytest.raises(InputError) as raised:
                call(batch.id)
            assert raised.value.code == "batch_not_found"
        assert bob.batches.list() == ()


def _file(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path
