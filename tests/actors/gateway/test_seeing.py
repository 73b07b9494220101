"""Telemetry of requests: the client's trace goes on in the job, refusals are counted, and no label is made up."""

from __future__ import annotations

import dataclasses

import httpx
import pytest

from emotivetalk.actors.serving.gateway.settings import CallerLimits
from tests.actors.gateway.conftest import Serve, client_of, create, files
from tests.actors.gateway.serving import MODEL, Serving
from tests.actors.serving.rendering import record_spans

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{CLIENT}-01"


def page(client: httpx.Client) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_a_job_belongs_to_the_trace_of_its_request(
    client: httpx.Client, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = record_spans(monkeypatch)
    video = client.post("/v1/videos", files=files(), headers={"traceparent": TRACEPARENT}).json()
    client.get(f"/v1/videos/{video['id']}")
    (span,) = spans.all  # none of FastAPI's, and looking is not traced, unless its client traces it
    assert span.name == "POST /v1/videos" and f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None and f"{span.parent.span_id:016x}" == CLIENT
    assert span.attributes["http.response.status_code"] == 200
    assert serving.jobs.get(video["id"]).traceparent == f"00-{TRACE}-{span.context.span_id:016x}-01"
    client.get(f"/v1/videos/{video['id']}", headers={"traceparent": TRACEPARENT})
    assert spans.all[-1].name == "GET /v1/videos/{video_id}"


def test_without_traces_a_job_has_the_clients_or_none(client: httpx.Client, serving: Serving) -> None:
    video = client.post("/v1/videos", files=files(), headers={"traceparent": TRACEPARENT}).json()
    assert serving.jobs.get(video["id"]).traceparent == TRACEPARENT
    assert serving.jobs.get(create(client)["id"]).traceparent is None
    broken = client.post("/v1/videos", files=files(), headers={"traceparent": "00-" + "x" * 300})
    assert serving.jobs.get(broken.json()["id"]).traceparent is None


def test_only_our_errors_are_the_spans(client: httpx.Client, serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = record_spans(monkeypatch)
    assert client.post("/v1/videos", files=files(portrait=b"a dog")).status_code == 400
    assert spans.all[-1].status.is_unset
    serving.jobs.close()
    (serving.folder / "jobs.db").unlink()
    (serving.folder / "jobs.db").mkdir()
    assert client.post("/v1/videos", files=files()).status_code == 503
    assert not spans.all[-1].status.is_ok and spans.all[-1].attributes["http.response.status_code"] == 503


def test_refusals_are_counted_by_their_code(serve: Serve) -> None:
    serving = serve(limits=CallerLimits(max_concurrent_jobs=1).model_dump())
    with client_of(serving) as client:
        create(client)
        assert client.post("/v1/videos", files=files()).status_code == 429
        assert page(client)['emotivetalk_refused_requests_total{code="too_many_jobs"}'] == 1


def test_a_method_that_a_client_makes_up_is_no_label(client: httpx.Client) -> None:
    for method in ("PROPFIND", "MKCOL"):
        assert client.request(method, "/v1/videos").status_code == 405
    known = page(client)
    assert known['emotivetalk_http_requests_total{method="other",route="/v1/videos",status="405"}'] == 2
    assert not any("PROPFIND" in name for name in known)


def test_a_video_says_which_model_it_was_made_with(client: httpx.Client, serving: Serving) -> None:
    """The row keeps the name of its model, because it outlives a deployment."""
    video = create(client)
    serving.service.model = dataclasses.replace(MODEL, name="another")
    assert client.get(f"/v1/videos/{video['id']}").json()["model"] == video["model"] == "emotivetalk-test"
    assert client.get("/v1/videos").json()["data"][0]["model"] == "emotivetalk-test"
    assert serving.jobs.get(video["id"]).model == "emotivetalk-test"
