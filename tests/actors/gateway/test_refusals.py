"""Authentication, limits per caller, malformed requests and broken connections. None leaves files or jobs behind."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from emotivetalk.actors.serving.gateway.service import Intake
from emotivetalk.actors.serving.intake.decoding import Prepared
from emotivetalk.actors.serving.jobs.store import JobStatus
from tests.actors.fake_backend import FACE, SPEECH, FakeDirector, fake_prepare
from tests.actors.gateway.conftest import Serve, client_of, create, files
from tests.actors.gateway.serving import TOKEN, Serving
from tests.processes import wait_until

AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}
LIMITS = {"max_upload_mb": 2, "requests_per_minute": 100_000, "max_concurrent_jobs": 1000}


def refused(answer: httpx.Response, status: int, code: str) -> dict:
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert set(answer.json()["error"]) == {"code", "message", "remedy", "type", "param"}
    return answer.json()["error"]


def test_a_token_is_required(serving: Serving) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}):
        for method, path in [("POST", "/v1/videos"), ("GET", "/v1/videos"), ("GET", "/metrics")]:
            answer = httpx.request(method, serving.url + path, headers=headers, trust_env=False)
            refused(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert httpx.get(serving.url + path, trust_env=False).status_code == 200


def test_anonymous_callers_are_admitted_from_local_pages_only(serve: Serve) -> None:
    serving = serve(allow_anonymous=True, tokens_file=None)
    for token in (None, "whatever-a-client-sends"):
        with client_of(serving, token) as client:
            video = create(client)
            assert serving.jobs.get(video["id"]).owner == ""
            # A web page can make a browser on this machine send requests; those are refused.
            for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}, {"origin": "null"}):
                refused(client.get("/v1/videos", headers=headers), 403, "origin_forbidden")
            assert client.get("/v1/videos", headers={"origin": "http://localhost:3000"}).status_code == 200


def test_uploads_above_the_limit_are_refused(client: httpx.Client, serving: Serving) -> None:
    for form in (files(FACE + bytes(2_000_000)), {"audio": ("a", bytes(1_500_000)), "portrait": ("b", bytes(600_000))}):
        refused(client.post("/v1/videos", files=form), 413, "upload_too_large")

    def without_length():  # without content-length, the server must count
        boundary = b"--b\r\ncontent-disposition: form-data; name=portrait; filename=x\r\n\r\n"
        yield boundary
        for _ in range(30):
            yield bytes(100_000)

    headers = {"content-type": "multipart/form-data; boundary=b"}
    refused(client.post("/v1/videos", content=without_length(), headers=headers), 413, "upload_too_large")
    headers = {"content-type": "application/json"}
    refused(client.post("/v1/videos", content=without_length(), headers=headers), 413, "upload_too_large")
    assert serving.leftovers() == []


def test_requests_per_minute_are_limited(serve: Serve) -> None:
    serving = serve(limits_by_name={"alice": LIMITS | {"requests_per_minute": 3}})
    with client_of(serving) as client:
        assert [client.get("/v1/videos").status_code for _ in range(4)] == [200, 200, 200, 429]
        answer = client.get("/v1/videos")
        assert refused(answer, 429, "rate_limited")["type"] == "rate_limit_error"
        assert 1 <= int(answer.headers["retry-after"]) <= 20


def test_concurrent_jobs_are_limited(serve: Serve) -> None:
    serving = serve(limits_by_name={"alice": LIMITS | {"max_concurrent_jobs": 1}})
    with client_of(serving) as client:
        headers = {"idempotency-key": "one"}
        video = client.post("/v1/videos", files=files(), headers=headers).json()
        for key in ({}, {"idempotency-key": "two"}):  # refused before the upload is read, and after it
            answer = client.post("/v1/videos", files=files(), headers=key)
            refused(answer, 429, "too_many_jobs")
            assert int(answer.headers["retry-after"]) >= 1
        again = client.post("/v1/videos", files=files(), headers=headers)  # a repeated request still gets its video
        assert again.json()["id"] == video["id"]
        client.delete(f"/v1/videos/{video['id']}")
        create(client)


def test_a_full_queue_refuses_jobs(serve: Serve) -> None:
    serving = serve(max_queued=2)
    with client_of(serving) as client:
        for _ in range(2):
            create(client)
        answer = client.post("/v1/videos", files=files())
        refused(answer, 429, "queue_full")
        assert "retry-after" in answer.headers
    assert len(serving.leftovers()) == 2


def test_more_uploads_than_can_be_prepared_are_refused(serve: Serve) -> None:
    def slow(*arguments: object, **settings: object) -> Prepared:
        time.sleep(0.02)
        return fake_prepare(*arguments, **settings)  # type: ignore[arg-type]

    serving = serve(Intake(prepare=slow), max_preparing=1)
    with client_of(serving) as client, ThreadPoolExecutor(40) as clients:
        answers = list(clients.map(lambda _: client.post("/v1/videos", files=files()), range(40)))
    busy = [answer for answer in answers if answer.status_code != 200]
    assert {answer.json()["error"]["code"] for answer in busy} <= {"gateway_busy"}
    assert len(answers) - len(busy) == serving.jobs.counts()[JobStatus.QUEUED] > 16
    assert len(serving.leftovers()) == len(answers) - len(busy)


@pytest.mark.parametrize(
    ("form", "fields", "code", "param"),
    [
        ({"audio": SPEECH}, {}, "request_invalid", "portrait"),
        ({"portrait": FACE}, {}, "request_invalid", "audio"),
        ({"portrait": FACE, "audio": SPEECH, "other": b"x"}, {}, "request_invalid", "other"),
        ({"portrait": FACE, "audio": SPEECH, "input_reference": FACE}, {}, "request_invalid", "portrait"),
        ({"portrait": b"a tree", "audio": SPEECH}, {}, "face_missing", None),
        ({"portrait": FACE, "audio": b"a noise"}, {}, "audio_corrupt", None),
        ({}, {"emotion": "hapy"}, "emotion_invalid", None),
        ({}, {"emotion": "happy:2"}, "emotion_invalid", None),
        ({}, {"emotion": "happy:much"}, "emotion_invalid", None),
        ({}, {"emotion": "{"}, "request_invalid", "emotion"),
        ({}, {"emotion": "[{}]"}, "request_invalid", "emotion.track.keys.0.time_s"),
        ({}, {"emotion": '[{"time_s": 1}]'}, "emotion_invalid", None),
        ({}, {"emotion": '{"kind": "image"}'}, "emotion_missing", None),
        ({}, {"emotion": "happy", "prompt": "Be sad"}, "emotion_conflict", None),
        ({"emotion_image": FACE}, {"emotion": "happy"}, "emotion_conflict", None),
        ({"emotion_image": FACE}, {"emotion": '{"kind": "video"}'}, "emotion_conflict", None),
        ({"emotion_image": FACE, "emotion_video": FACE}, {}, "emotion_conflict", None),
        ({}, {"prompt": "x" * 1001}, "request_invalid", "prompt"),
        ({}, {"seed": "-1"}, "request_invalid", "seed"),
        ({}, {"seed": str(2**63)}, "request_invalid", "seed"),
        ({}, {"num_steps": "51"}, "request_invalid", "num_steps"),
        ({}, {"emotion_strength": "nan"}, "request_invalid", "emotion_strength"),
        ({}, {"face": "0"}, "request_invalid", "face"),
        ({}, {"colour": "blue"}, "request_invalid", "colour"),
        ({}, {"size": "large"}, "size_invalid", None),
        ({}, {"seconds": "12"}, "seconds_mismatch", None),
        ({}, {"a[b][c][d][e]": "x"}, "request_invalid", "a[b][c][d][e]"),
        ({}, {"portrait": "data:image/png;base64,###"}, "request_invalid", "portrait"),
        ({}, {"webhook_url": "ftp://example.org"}, "request_invalid", "webhook_url"),
        ({}, {"webhook_url": "http://[::1"}, "request_invalid", "webhook_url"),
    ],
)  # fmt: skip
def test_invalid_requests_are_refused(
    refusing: Serving, form: dict[str, bytes], fields: dict[str, str], code: str, param: str | None
) -> None:
    form = form if "portrait" in form or "audio" in form else {"portrait": FACE, "audio": SPEECH} | form
    if "portrait" in fields:
        form.pop("portrait")
    sent = {name: ("x", data) for name, data in form.items()}
    answer = httpx.post(f"{refusing.url}/v1/videos", files=sent, data=fields, headers=AUTHORIZED, trust_env=False)
    error = refused(answer, 400, code)
    assert error["param"] == param and error["type"] == "invalid_request_error"
    assert str(refusing.folder) not in error["message"]
    assert refusing.leftovers() == []


def test_an_unknown_model_is_refused(refusing: Serving) -> None:
    with client_of(refusing) as client:
        refused(client.post("/v1/videos", files=files(), data={"model": "sora-2"}), 404, "model_not_found")


@pytest.mark.parametrize(
    ("kind", "body", "status", "code"),
    [
        ("text/plain", b"x", 415, "body_unsupported"),
        ("application/json", b"{", 400, "body_malformed"),
        ("application/json", b"\xff\xfe", 400, "body_malformed"),
        ("application/json", b"[]", 400, "body_malformed"),
        ("application/json", b"[" * 100_000, 400, "body_malformed"),
        ("application/json", b'{"seed": 1' + b"0" * 5000 + b"}", 400, "body_malformed"),
        ("application/json", b'{"\\ud800": 1}', 400, "request_invalid"),
        ("application/json", b'{"prompt": "\\ud800", "portrait": "data:,x", "audio": "data:,x"}', 400, "request_invalid"),
        ("application/json", b'{"portrait": {"image_url": "x", "url": "y"}}', 400, "request_invalid"),
        ("application/json", b'{"portrait": {"file_id": "x"}}', 400, "request_invalid"),
        ("application/json", b'{"portrait": "nowhere", "audio": "data:,speech: x"}', 400, "url_invalid"),
        ("multipart/form-data", b"x", 400, "body_malformed"),
        ("multipart/form-data; boundary=b", b"", 400, "body_malformed"),
        ("multipart/form-data; boundary=b", b"junk", 400, "body_malformed"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\n", 400, "body_malformed"),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"a" * 9000 + b": b\r\n\r\nx\r\n--b--\r\n", 400, "body_malformed"),
        ("multipart/form-data; boundary=b", b"--b\r\ncontent-disposition: form-data; name=seed\r\n\r\n1\r\n", 400,
         "body_malformed"),
        ("multipart/form-data; boundary=b", 100 * b"--b\r\ncontent-disposition: form-data; name=seed\r\n\r\n1\r\n"
         + b"--b--\r\n", 400, "body_malformed"),
        ("multipart/form-data; boundary=b", 2 * b"--b\r\ncontent-disposition: form-data; name=seed\r\n\r\n1\r\n"
         + b"--b--\r\n", 400, "request_invalid"),
        ("multipart/form-data; boundary=" + "b" * 400, b"x", 400, "body_malformed"),
    ],
)  # fmt: skip
def test_malformed_bodies_are_refused(refusing: Serving, kind: str, body: bytes, status: int, code: str) -> None:
    refused(
        httpx.post(
            f"{refusing.url}/v1/videos", content=body, headers=AUTHORIZED | {"content-type": kind}, trust_env=False
        ),
        status,
        code,
    )
    assert refusing.leftovers() == []


def test_unknown_paths_are_refused(refusing: Serving) -> None:
    with client_of(refusing) as client:
        for path in ("/v1/videos/nothing", "/v1/videos/video_", "/v1/videos/%00", "/v1/videos/video_" + "0" * 5000):
            refused(client.get(path), 404, "job_not_found")
        refused(client.get("/v1/nothing"), 404, "not_found")
        refused(client.put("/v1/videos"), 405, "method_not_allowed")
        refused(client.get("/v1/videos/video_" + "0" * 32 + "/segments/x.m4s"), 400, "request_invalid")
        refused(client.get("/v1/videos", params={"after": "nothing"}), 404, "job_not_found")


def connect(serving: Serving, head: str, body: bytes) -> socket.socket:
    host, port = serving.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    connection.sendall(
        f"POST /v1/videos HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {TOKEN}\r\n{head}\r\n\r\n".encode()
    )
    connection.sendall(body)
    return connection


FORM = "content-type: multipart/form-data; boundary=b\r\ncontent-length: "
PART = b'--b\r\ncontent-disposition: form-data; name="portrait"; filename="x"\r\n\r\n'


def test_an_upload_that_stops_half_way_leaves_nothing(serving: Serving) -> None:
    connection = connect(serving, FORM + "100000", PART + FACE)
    wait_until(lambda: list((serving.folder / "uploads").glob("*/upload-portrait")))
    connection.close()
    wait_until(lambda: serving.leftovers() == [])
    assert sum(serving.jobs.counts().values()) == 0


def test_a_slow_upload_times_out(serve: Serve) -> None:
    serving = serve(upload_timeout_s=0.2)
    connection = connect(serving, FORM + "100000", PART + FACE)
    assert connection.recv(100).startswith(b"HTTP/1.1 408")
    connection.close()
    assert serving.leftovers() == []


def test_a_client_that_disconnects_before_the_answer_gets_no_job(serve: Serve) -> None:
    begun: list[bool] = []

    def slow(*arguments: object, **settings: object) -> Prepared:
        begun.append(True)
        time.sleep(0.3)
        return fake_prepare(*arguments, **settings)  # type: ignore[arg-type]

    serving = serve(Intake(prepare=slow))
    form = b"".join(
        b'--b\r\ncontent-disposition: form-data; name="%s"; filename="x"\r\n\r\n%s\r\n' % part
        for part in ((b"portrait", FACE), (b"audio", SPEECH))
    )
    body = form + b"--b--\r\n"
    connection = connect(serving, FORM + str(len(body)), body)
    wait_until(lambda: begun)
    connection.close()
    wait_until(lambda: serving.leftovers() == [])
    assert sum(serving.jobs.counts().values()) == 0


def test_request_ids_are_returned(refusing: Serving) -> None:
    with client_of(refusing) as client:
        assert client.get("/healthz", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
        assert client.get("/healthz", headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"


def test_an_unreachable_store_gives_503(client: httpx.Client, serving: Serving) -> None:
    serving.jobs.close()
    (serving.folder / "jobs.db").unlink()
    (serving.folder / "jobs.db").mkdir()
    for path in ("/readyz", "/v1/videos"):
        answer = client.get(path)
        assert answer.status_code == 503 and "retry-after" in answer.headers
        assert str(serving.folder) not in answer.text
    assert client.get("/healthz").status_code == 200


def test_metrics_of_jobs_and_requests(client: httpx.Client, serving: Serving, director: FakeDirector) -> None:
    video = create(client)
    wait_until(lambda: client.get(f"/v1/videos/{video['id']}").json()["status"] == "completed")
    client.get("/v1/videos/nothing")
    page = client.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert float(lines['emotivetalk_jobs{status="completed"}']) == 1
    assert float(lines['emotivetalk_stage_seconds{quantile="0.5",stage="decode"}']) == 0.25
    for name in ("queue_wait_seconds", "first_fragment_seconds", "realtime_factor"):
        assert float(lines[f'emotivetalk_{name}{{quantile="0.95"}}']) >= 0
    name = 'emotivetalk_http_requests_total{method="GET",route="/v1/videos/{video_id}",status="404"}'
    assert float(lines[name]) == 1
    assert "nothing" not in page
