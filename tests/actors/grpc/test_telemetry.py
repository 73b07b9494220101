"""Telemetry of gRPC calls: counts by status code, and the client's trace in the job's row."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.trace import StatusCode
from prometheus_client import CollectorRegistry

from emotivetalk.actors.errors import ArtifactStoreError
from emotivetalk.actors.serving.observing.meters import InRegistry, Meters
from emotivetalk.wire import videos_pb2 as pb
from emotivetalk.wire import videos_pb2_grpc as pb_grpc
from tests.actors.grpc.calls import bearer, header, upload
from tests.actors.grpc.conftest import ALICE, SLOW, STALLS, Serving, running
from tests.actors.serving.rendering import record_spans
from tests.processes import wait_until

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACED = [*bearer(ALICE), ("traceparent", f"00-{TRACE}-{CLIENT}-01")]
AS_ALICE = {"metadata": bearer(ALICE), "timeout": 15.0}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metered(tmp_path: Path, registry: CollectorRegistry) -> Iterator[tuple[Serving, grpc.Channel]]:
    with (
        running(tmp_path / "serving", meters=Meters(InRegistry(registry))) as serving,
        grpc.insecure_channel(serving.address) as channel,
    ):
        yield serving, channel


def test_calls_are_counted_by_method_and_code(metered: tuple[Serving, grpc.Channel], registry) -> None:
    stub = pb_grpc.VideoServiceStub(metered[1])

    def count(method: str, code: str) -> float:
        labels = {"method": method, "code": code}
        return registry.get_sample_value("emotivetalk_grpc_requests_total", labels) or 0.0

    video = stub.CreateVideo(upload(header(settings=pb.RenderSettings(seed=STALLS))), **AS_ALICE).video
    with pytest.raises(grpc.RpcError):
        stub.GetVideo(pb.GetVideoRequest(id="nothing"), **AS_ALICE)
    watching = stub.WatchVideo(pb.WatchVideoRequest(id=video.id), **AS_ALICE)
    next(watching)
    watching.cancel()
    slow = {"metadata": bearer(SLOW[0]), "timeout": 15.0}
    stub.ListVideos(pb.ListVideosRequest(), **slow)
    with pytest.raises(grpc.RpcError):
        stub.ListVideos(pb.ListVideosRequest(), **slow)
    health_pb2_grpc.HealthStub(metered[1]).Check(health_pb2.HealthCheckRequest(), timeout=15)
    wait_until(lambda: count("WatchVideo", "CANCELLED") == 1)
    assert count("CreateVideo", "OK") == count("GetVideo", "NOT_FOUND") == count("ListVideos", "OK") == 1
    assert count("ListVideos", "RESOURCE_EXHAUSTED") == 1
    assert registry.get_sample_value("emotivetalk_refused_requests_total", {"code": "rate_limited"}) == 1
    assert registry.get_sample_value("emotivetalk_grpc_request_seconds_count", {"method": "CreateVideo"}) == 1
    assert count("Check", "OK") == 0  # health checks are frequent, and not counted


def test_a_job_belongs_to_the_trace_of_its_call(
    metered: tuple[Serving, grpc.Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    spans, (serving, channel) = record_spans(monkeypatch), metered
    stub = pb_grpc.VideoServiceStub(channel)
    video = stub.CreateVideo(upload(header()), metadata=TRACED, timeout=15).video
    wait_until(lambda: spans.all)
    (span,) = spans.all
    assert span.name.endswith("VideoService/CreateVideo") and f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None and f"{span.parent.span_id:016x}" == CLIENT
    assert serving.jobs.get(video.id).traceparent == f"00-{TRACE}-{span.context.span_id:016x}-01"
    stub.GetVideo(pb.GetVideoRequest(id=video.id), **AS_ALICE)
    with pytest.raises(grpc.RpcError):
        stub.DeleteVideo(pb.DeleteVideoRequest(id="nothing"), **AS_ALICE)
    wait_until(lambda: len(spans.all) == 2)  # calls that only read are traced only if their client traces them
    assert spans.all[1].status.status_code is StatusCode.UNSET  # an error of the caller


def test_server_errors_set_the_status_of_the_span(
    metered: tuple[Serving, grpc.Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    spans, (serving, channel) = record_spans(monkeypatch), metered

    def away(*_: object) -> None:
        raise ArtifactStoreError("artifacts_unavailable", "the store is unreachable", "Wait.")

    monkeypatch.setattr(serving.artifacts, "upload", away)
    with pytest.raises(grpc.RpcError):
        pb_grpc.VideoServiceStub(channel).CreateVideo(upload(header()), **AS_ALICE)
    wait_until(lambda: spans.all)
    assert spans.all[0].status.status_code is StatusCode.ERROR
    assert "the store is unreachable" in (spans.all[0].status.description or "")
