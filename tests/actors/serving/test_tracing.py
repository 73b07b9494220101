"""A video has one trace with the spans of all calls, from the client's request on, across directors."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import StatusCode

from emotivetalk.actors.serving.jobs.store import JobStatus
from emotivetalk.actors.serving.observing import tracing
from emotivetalk.actors.serving.replicas.messages import FinishCall
from emotivetalk.errors import EmotiveTalkError, InputError
from tests.actors.serving.rendering import RenderingService, Spans, record_spans

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{CLIENT}-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    return record_spans(monkeypatch)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RenderingService]:
    rendering = RenderingService(tmp_path, monkeypatch)
    yield rendering
    rendering.jobs.close()


def test_each_span_of_a_job_has_the_right_parent(service: RenderingService, spans: Spans) -> None:
    job = service.render(service.add(TRACEPARENT))
    assert job.status is JobStatus.COMPLETED and job.num_segments is not None and job.num_segments > 1
    assert {f"{span.context.trace_id:032x}" for span in spans.all} == {TRACE}
    (render,), (queue,) = spans.named("render"), spans.named("queue")
    for root in (render, queue):
        assert root.parent is not None and f"{root.parent.span_id:016x}" == CLIENT
    segments = spans.named("segment")
    assert [span.attributes["segment"] for span in segments] == list(range(job.num_segments))
    parents = {
        "segment": "render",
        "call vaid": "render",
        "assemble": "render",
        "call ethd": "segment",
        "call decoder": "segment",
        "publish": "segment",
        "VAID": "call vaid",
        "ETHD": "call ethd",
        "decoder": "call decoder",
        "decode": "decoder",
        "mux": "decoder",
    }
    for name, parent in parents.items():
        assert spans.named(name), name
        for span in spans.named(name):
            found = spans.parent(span)
            assert found.name == parent
            if parent == "segment" and name != "publish":
                assert found.attributes["segment"] == span.attributes["segment"]
    count = Counter(span.name for span in spans.all)
    assert count["ETHD"] == count["call ethd"] > job.num_segments
    assert count["decoder"] == count["publish"] == job.num_segments
    assert all(span.status.status_code is not StatusCode.ERROR for span in spans.all)
    assert all(span.end_time >= span.start_time for span in spans.all)


def test_a_director_that_resumes_a_job_continues_its_trace(service: RenderingService, spans: Spans) -> None:
    job = service.render(service.add(TRACEPARENT), until=lambda now: now.next_segment > 0)
    assert job.status is JobStatus.QUEUED
    job = service.render(job)
    assert job.status is JobStatus.COMPLETED
    first, second = sorted(spans.named("render"), key=lambda span: span.start_time)
    assert first.context.trace_id == second.context.trace_id == int(TRACE, 16)
    assert first.attributes["first_segment"] == 0 < second.attributes["first_segment"]
    assert len(spans.named("queue")) == 1
    published = [spans.parent(span).attributes["segment"] for span in spans.named("publish")]
    assert published == list(range(job.num_segments))


def test_an_error_is_the_status_of_the_failed_call_and_of_the_job(service: RenderingService, spans: Spans) -> None:
    def fail(call: object) -> None:
        if isinstance(call, FinishCall):
            raise InputError("emotion_invalid", "the text asks for no emotion", "Say another.")

    service.replicas.before = fail
    job = service.render(service.add(TRACEPARENT))
    assert job.status is JobStatus.FAILED
    for name in ("call decoder", "render"):
        failed = spans.named(name)[0]
        assert failed.status.status_code is StatusCode.ERROR
        assert "asks for no emotion" in (failed.status.description or "")
        assert failed.events[0].name == "exception"
    assert len(spans.named("segment")) > 0  # open spans were ended


def test_a_job_without_a_traceparent_gets_a_new_trace(service: RenderingService, spans: Spans) -> None:
    service.render(service.add())
    (render,) = spans.named("render")
    assert render.parent is None
    assert all(span.context.trace_id == render.context.trace_id for span in spans.all if span.name != "queue")


def test_when_tracing_is_off_the_clients_trace_is_passed_on_unrecorded() -> None:
    with tracing.span("x") as span:
        assert not span.is_recording() and tracing.traceparent() is None and tracing.trace_id() is None
    with tracing.span("x", TRACEPARENT) as span:
        assert not span.is_recording() and tracing.trace_id() is None
        assert tracing.traceparent() == TRACEPARENT
    with tracing.span("x", "nonsense"):
        assert tracing.traceparent() is None


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_the_environment_switches_tracing_on(
    variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tracing.is_wanted() is expected


@pytest.mark.parametrize("variable", [("OTEL_TRACES_EXPORTER", "zipkin"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")])
def test_an_unsupported_exporter_is_refused(variable: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setenv(*variable)
    with pytest.raises(EmotiveTalkError, match=variable[1]) as caught:
        tracing.configure("ETHD", "here:1")
    assert caught.value.code == "tracing_unavailable"


EXPORT_A_SPAN = """
from opentelemetry import trace
from emotivetalk.actors.serving.observing import tracing
tracing.configure("ETHD", "here:1")
with tracing.span("x", "{parent}", block=3):
    pass
trace.get_tracer_provider().shutdown()
"""


def test_spans_are_exported_to_the_collector() -> None:
    """Exports from another process, since a process can have only one provider."""
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "NO_PROXY": "127.0.0.1",
    }
    code = EXPORT_A_SPAN.format(parent=TRACEPARENT)
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **variables}, timeout=60)
    server.shutdown()
    server.server_close()
    (resource,) = ExportTraceServiceRequest.FromString(bodies[0]).resource_spans
    resource_attributes = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
    assert (
        resource_attributes["service.name"] == "emotivetalk.ETHD"
        and resource_attributes["service.instance.id"] == "here:1"
    )
    (span,) = resource.scope_spans[0].spans
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("x", TRACE, CLIENT)
