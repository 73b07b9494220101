"""`/v1/files` and `/v1/batches`, driven by the unmodified `openai` client and by bare HTTP."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from hashlib import sha256

import httpx
import openai
import pytest

from emotivetalk.actors.serving.jobs.records import JobError, JobStatus
from emotivetalk.actors.serving.jobs.tables import batches
from tests.actors.fake_backend import FACE, SPEECH, FakeDirector, video_bytes
from tests.actors.gateway.conftest import Serve, client_of
from tests.actors.gateway.serving import OTHER_TOKEN, TOKEN, Serving
from tests.processes import wait_until

FINAL = ("completed", "failed", "expired", "cancelled")


def data_url(data: bytes) -> str:
    return "data:application/octet-stream;base64," + base64.b64encode(data).decode()


ROW = {"portrait": data_url(FACE), "audio": data_url(SPEECH)}


def line(custom_id: str | None = None, **body: object) -> str:
    identity = {} if custom_id is None else {"custom_id": custom_id}
    return json.dumps({**identity, "method": "POST", "url": "/v1/videos", "body": {**ROW, **body}})


@pytest.fixture
def api(serving: Serving) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=TOKEN, base_url=f"{serving.url}/v1", max_retries=0) as client:
        yield client


def upload(client: httpx.Client, content: str | bytes, purpose: str = "batch") -> str:
    answer = client.post("/v1/files", files={"file": ("rows.jsonl", content)}, data={"purpose": purpose})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def start(client: httpx.Client, lines: list[str] | bytes, **fields: object) -> str:
    file_id = upload(client, lines if isinstance(lines, bytes) else "\n".join(lines))
    body = {"input_file_id": file_id, "endpoint": "/v1/videos", "completion_window": "24h", **fields}
    answer = client.post("/v1/batches", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def status(client: httpx.Client, batch_id: str) -> dict:
    return client.get(f"/v1/batches/{batch_id}").json()


def ended(client: httpx.Client, batch_id: str) -> dict:
    wait_until(lambda: status(client, batch_id)["status"] in FINAL)
    return status(client, batch_id)


def results(client: httpx.Client, file_id: str | None) -> dict[str | None, dict]:
    if file_id is None:
        return {}
    text = client.get(f"/v1/files/{file_id}/content").text
    return {row["custom_id"]: row for row in map(json.loads, text.splitlines())}


def test_the_openai_client_does_the_whole_cycle(api: openai.OpenAI, director: FakeDirector, serving: Serving) -> None:
    manifest = "\n".join(line(f"row-{number}", seed=number, emotion="happy") for number in range(5))
    file = api.files.create(file=("rows.jsonl", manifest.encode()), purpose="batch")
    assert file.purpose == "batch" and file.bytes == len(manifest)
    batch = api.batches.create(
        input_file_id=file.id, endpoint="/v1/videos", completion_window="24h", metadata={"course": "one"}
    )
    assert batch.status == "validating" and batch.expires_at == batch.created_at + 86_400
    wait_until(lambda: api.batches.retrieve(batch.id).status == "completed")
    done = api.batches.retrieve(batch.id)
    assert done.request_counts is not None and done.metadata == {"course": "one"}
    counts = done.request_counts
    assert (counts.total, counts.completed, counts.failed) == (5, 5, 0) and done.error_file_id is None
    assert done.in_progress_at and done.finalizing_at and done.completed_at
    assert done.output_file_id is not None
    rows = [json.loads(text) for text in api.files.content(done.output_file_id).text.splitlines()]
    assert [row["custom_id"] for row in rows] == [f"row-{number}" for number in range(5)]
    for row in rows:
        video = row["response"]["body"]
        assert row["error"] is None and video["status"] == "completed"
        content = api.videos.download_content(video["id"]).read()
        assert content == video_bytes(9) and sha256(content).hexdigest() == row["result"]["sha256"]
        assert row["result"]["video_s"] == 87 / 25 and row["result"]["device_s"] == 9 * 0.25
    assert [one.id for one in api.batches.list()] == [batch.id]
    assert {one.purpose for one in api.files.list()} == {"batch", "batch_output"}
    assert api.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError, match="there is no file"):
        api.files.retrieve(file.id)


def test_broken_rows_fail_with_a_code_and_the_others_are_rendered(client: httpx.Client, director: FakeDirector) -> None:
    lines = [
        line("good"),
        "{",
        line("good"),
        line("a/b"),
        line("hapy", emotion="hapy"),
        line("colour", colour="red"),
        line("faceless", portrait=data_url(b"a landscape")),
        line("unknown", portrait={"file_id": "file-0"}),
        json.dumps({"custom_id": "mute", "portrait": ROW["portrait"]}),
        json.dumps({"custom_id": "other", "method": "POST", "url": "/v1/chat/completions", "body": {}}),
        json.dumps({**ROW, "custom_id": "flat", "emotion_text": "Be cheerful"}),
        json.dumps({**ROW, "custom_id": "path", "emotion_track": "/etc/passwd"}),
    ]
    done = ended(client, start(client, lines))
    assert done["status"] == "completed"
    assert done["request_counts"] == {"total": 12, "completed": 2, "failed": 10}
    assert set(results(client, done["output_file_id"])) == {"good", "flat"}
    text = client.get(f"/v1/files/{done['error_file_id']}/content").text
    failed = [json.loads(row) for row in text.splitlines()]
    assert {row["result"]["line"]: row["error"]["code"] for row in failed} == {
        2: "row_not_json",
        3: "row_duplicate",
        4: "row_id_invalid",
        5: "emotion_invalid",
        6: "request_invalid",
        7: "face_missing",
        8: "file_not_found",
        9: "request_invalid",
        10: "row_not_video",
        12: "emotion_invalid",
    }
    assert all(row["error"]["message"] and row["response"] is None for row in failed)


@pytest.mark.parametrize(
    ("content", "code", "at"),
    [
        (line("one").encode() + b"\n\xff\n", "manifest_invalid", 2),
        (b"\n\n", "manifest_empty", None),
        ("\n".join(line(f"r{i}") for i in range(4)).encode(), "manifest_too_long", 4),
        (b"x" * 1_100_000, "manifest_line_too_long", 1),
    ],
)
def test_a_manifest_that_cannot_be_used_fails_the_batch(
    serve: Serve, content: bytes, code: str, at: int | None
) -> None:
    serving = serve(batches={"poll_s": 0.02, "max_rows": 3}, max_body_mb=1)
    with client_of(serving) as client:
        done = ended(client, start(client, content))
        assert done["status"] == "failed" and done["failed_at"]
        assert [(error["code"], error["line"]) for error in done["errors"]["data"]] == [(code, at)]
        assert done["output_file_id"] is None and serving.jobs.list("alice").jobs == []


def test_rows_name_uploaded_files_of_their_owner_only(
    client: httpx.Client, serving: Serving, director: FakeDirector
) -> None:
    face, speech = upload(client, FACE, "user_data"), upload(client, SPEECH, "user_data")
    row = {"custom_id": "one", "portrait": {"file_id": face}, "audio": {"file_id": speech}}
    assert ended(client, start(client, [json.dumps(row)]))["request_counts"]["completed"] == 1
    assert client.post("/v1/videos", json={"portrait": {"file_id": face}, "audio": ROW["audio"]}).status_code == 200
    with client_of(serving, OTHER_TOKEN) as other:
        done = ended(other, start(other, [json.dumps(row)]))
        assert results(other, done["error_file_id"])["one"]["error"]["code"] == "file_not_found"
        for path in (f"/v1/files/{face}", f"/v1/files/{face}/content"):
            assert other.get(path).json()["error"]["code"] == "file_not_found"
        assert other.delete(f"/v1/files/{face}").status_code == 404
        assert {file["purpose"] for file in other.get("/v1/files").json()["data"]} == {"batch", "batch_output"}


def test_a_cancelled_batch_keeps_what_is_finished(client: httpx.Client, serving: Serving, gated: FakeDirector) -> None:
    assert gated.gate is not None
    batch_id = start(client, [line(f"row-{number}") for number in range(10)])
    gated.gate.release(9)  # the first video, whose nine segments
    wait_until(lambda: status(client, batch_id)["request_counts"]["completed"] == 1)
    assert client.post(f"/v1/batches/{batch_id}/cancel").json()["status"] == "cancelling"
    done = ended(client, batch_id)
    assert done["status"] == "cancelled" and done["cancelled_at"]
    assert done["request_counts"] == {"total": 10, "completed": 1, "failed": 9}
    codes = {row["error"]["code"] for row in results(client, done["error_file_id"]).values()}
    assert codes == {"batch_cancelled"} and set(results(client, done["output_file_id"])) == {"row-0"}
    assert {job.status for job in serving.jobs.list("alice").jobs} == {JobStatus.COMPLETED, JobStatus.CANCELLED}
    assert client.post(f"/v1/batches/{batch_id}/cancel").json()["status"] == "cancelled"


def test_a_batch_has_a_bounded_number_of_videos_and_leaves_room_for_single_ones(
    serve: Serve,
) -> None:
    serving = serve(limits={"max_concurrent_jobs": 1, "requests_per_minute": 10_000}, max_queued=1)
    with client_of(serving) as client:
        batch_id = start(client, [line(f"row-{number}") for number in range(20)])
        wait_until(lambda: serving.jobs.counts()[JobStatus.QUEUED] == 4)  # rows_ahead
        single = client.post("/v1/videos", json=ROW)
        assert single.status_code == 200, single.text
        claim = serving.jobs.claim("test")
        assert claim is not None and claim.job.job_id == single.json()["id"]  # the youngest, before all rows
        serving.jobs.release(claim)
        director = FakeDirector(serving.jobs, serving.artifacts)
        director.start()
        assert ended(client, batch_id)["request_counts"]["completed"] == 20
        director.ending.set()


def test_failed_and_deleted_videos_are_failed_rows(client: httpx.Client, serving: Serving, gated: FakeDirector) -> None:
    assert gated.gate is not None
    batch_id = start(client, [line("fails"), line("deleted")])
    wait_until(lambda: len(serving.jobs.list("alice").jobs) == 2)
    youngest = serving.jobs.list("alice").jobs[0]
    assert client.delete(f"/v1/videos/{youngest.job_id}").status_code == 200
    gated.fails_with = JobError("attempts_exhausted", "5 attempts in a row ended without a result")
    gated.gate.release(1)
    done = ended(client, batch_id)
    rows = results(client, done["error_file_id"])
    assert {name: row["error"]["code"] for name, row in rows.items()} == {
        "fails": "attempts_exhausted",
        "deleted": "video_deleted",
    }
    assert rows["fails"]["result"]["attempts"] == 1


def test_another_runner_continues_without_a_second_video(serving: Serving, client: httpx.Client) -> None:
    batch_id = start(client, [line(f"row-{number}") for number in range(6)])
    wait_until(lambda: serving.jobs.counts()[JobStatus.QUEUED] == 4)
    with serving.jobs.database.write() as connection:  # as if another worker had taken the batch over, and died
        connection.execute(batches.update().values(fence=batches.c.fence + 1, worker="thief", lease_until=0.0))
    director = FakeDirector(serving.jobs, serving.artifacts)
    director.start()
    done = ended(client, batch_id)
    director.ending.set()
    assert done["request_counts"]["completed"] == 6 and len(serving.jobs.list("alice", limit=100).jobs) == 6


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"endpoint": "/v1/chat/completions"}, "endpoint"),
        ({"completion_window": "1 day"}, "completion_window"),
        ({"completion_window": "999h"}, "completion_window"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_batch_with_an_invalid_argument_is_refused(client: httpx.Client, fields: dict, param: str) -> None:
    body = {"input_file_id": upload(client, line()), "endpoint": "/v1/videos", "completion_window": "24h", **fields}
    answer = client.post("/v1/batches", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param


def test_files_have_a_purpose_a_size_and_an_end(serve: Serve) -> None:
    serving = serve(limits={"max_upload_mb": 2, "max_stored_mb": 1, "requests_per_minute": 10_000})
    with client_of(serving) as client:
        for data, param in (({"purpose": "assistants"}, "purpose"), ({}, "purpose")):
            answer = client.post("/v1/files", files={"file": ("a", b"x")}, data=data)
            assert answer.status_code == 400 and answer.json()["error"]["param"] == param
        empty = client.post("/v1/files", files={"file": ("a", b"")}, data={"purpose": "batch"})
        assert empty.json()["error"]["param"] == "file"
        portrait = upload(client, FACE, "user_data")
        assert client.post("/v1/batches", json={
            "input_file_id": portrait, "endpoint": "/v1/videos", "completion_window": "24h"
        }).json()["error"]["code"] == "batch_file_purpose"  # fmt: skip
        upload(client, b"x" * 900_000, "user_data")
        full = client.post("/v1/files", files={"file": ("a", b"x" * 200_000)}, data={"purpose": "batch"})
        assert full.status_code == 429 and full.json()["error"]["code"] == "too_many_files"
        short = client.post(
            "/v1/files",
            files={"file": ("a", b"x")},
            data={"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"},
        ).json()
        assert short["expires_at"] == short["created_at"] + 3600


def test_removed_files_leave_nothing(client: httpx.Client, serving: Serving) -> None:
    file_id = upload(client, FACE, "user_data")
    assert list(serving.folder.glob(f"artifacts/files/{file_id}/*"))
    client.delete(f"/v1/files/{file_id}")
    wait_until(lambda: serving.service._sweep() >= 0 and not list(serving.folder.glob("artifacts/files/*")))
