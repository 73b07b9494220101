"""Telemetry of HTTP requests: traces continue in the job, refusals are counted, metric labels come from a fixed set."""

from __future__ import annotations

import dataclasses

import httpx
import pytest

from emotivetalk.actors.serving.gateway.settings import CallerLimits
from tests.actors.fake_backend import MODEL
from tests.actors.gateway.conftest import Serve, client_of, create, files
from tests.actors.gateway.serving import Serving
from tests.actors.serving.rendering import record_spans
from tests.processes import wait_until

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{CLIENT}-01"


def metrics(client: httpx.Client) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_a_job_belongs_to_the_trace_of_its_request(
    client: httpx.Client, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = record_spans(monkeypatch)
    video = client.post("/v1/videos", files=files(), headers={"traceparent": TRACEPARENT}).json()
    client.get(f"/v1/videos/{video['id']}")
    wait_until(lambda: spans.all)  # a span ends after its response is sent
    (span,) = spans.all  # no span from FastAPI, and none for the GET, since it has no traceparent
    assert span.name == "POST /v1/videos" and f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None and f"{span.parent.span_id:016x}" == CLIENT
    assert span.attributes["http.response.status_code"] == 200
    assert serving.jobs.get(video["id"]).traceparent == f"00-{TRACE}-{span.context.span_id:016x}-01"
    client.get(f"/v1/videos/{video['id']}", headers={"traceparent": TRACEPARENT})
    wait_until(lambda: len(spans.all) == 2)
    assert spans.all[-1].name == "GET /v1/videos/{video_id}"


def test_without_tracing_a_job_keeps_a_valid_traceparent_of_its_client(client: httpx.Client, serving: Serving) -> None:
    video = client.post("/v1/videos", files=files(), headers={"traceparent": TRACEPARENT}).json()
    assert serving.jobs.get(video["id"]).traceparent == TRACEPARENT
    assert serving.jobs.get(create(client)["id"]).traceparent is None
    broken = client.post("/v1/videos", files=files(), headers={"traceparent": "00-" + "x" * 300})
    assert serving.jobs.get(broken.json()["id"]).traceparent is None


def test_only_server_errors_set_the_status_of_a_span(
    client: httpx.Client, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = record_spans(monkeypatch)
    assert client.post("/v1/videos", files=files(portrait=b"a dog")).status_code == 400
    wait_until(lambda: spans.all)
    assert spans.all[-1].status.is_unset
    serving.jobs.close()
    (serving.folder / "jobs.db").unlink()
    (serving.folder / "jobs.db").mkdir()
    assert client.post("/v1/videos", files=files()).status_code == 503
    wait_until(lambda: len(spans.all) == 2)
    assert not spans.all[-1].status.is_ok and spans.all[-1].attributes["http.response.status_code"] == 503


def test_refusals_are_counted_by_their_code(serve: Serve) -> None:
    serving = serve(limits=CallerLimits(max_concurrent_jobs=1).model_dump())
    with client_of(serving) as client:
        create(client)
        assert client.post("/v1/videos", files=files()).status_code == 429
        assert metrics(client)['emotivetalk_refused_requests_total{code="too_many_jobs"}'] == 1


def test_unknown_http_methods_share_one_label(client: httpx.Client) -> None:
    for method in ("PROPFIND", "MKCOL"):
        assert client.request(method, "/v1/videos").status_code == 405
    known = metrics(client)
    assert known['emotivetalk_http_requests_total{method="other",route="/v1/videos",status="405"}'] == 2
    assert not any("PROPFIND" in name for name in known)


def test_a_video_keeps_the_name_of_its_model(client: httpx.Client, serving: Serving) -> None:
    """A deployment with another model does not change the videos that exist."""
    video = create(client)
    serving.service.model = dataclasses.replace(MODEL, name="another")
    assert client.get(f"/v1/videos/{video['id']}").json()["model"] == video["model"] == "emotivetalk-test"
    assert client.get("/v1/videos").json()["data"][0]["model"] == "emotivetalk-test"
    assert serving.jobs.get(video["id"]).model == "emotivetalk-test"
