"""Metrics: the director measures a job's stages, and the dashboard queries only exported metrics."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import ray.serve
import yaml
from prometheus_client import CollectorRegistry

from emotivetalk.actors.serving.jobs.store import JobStatus, JobStore
from emotivetalk.actors.serving.launch import CONFIGS
from emotivetalk.actors.serving.observing.job_metrics import JobCollector
from emotivetalk.actors.serving.observing.meters import InRay, InRegistry, Meters
from emotivetalk.actors.serving.replicas.messages import FinishCall
from emotivetalk.errors import InputError
from tests.actors.serving.rendering import RenderingService

RAY_METRICS = {
    "ray_serve_deployment_replica_healthy",
    "ray_serve_replica_processing_queries",
    "ray_serve_deployment_queued_queries",
    "ray_serve_deployment_request_counter_total",
    "ray_serve_deployment_error_counter_total",
    "ray_serve_deployment_replica_starts_total",
}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RenderingService:
    return RenderingService(tmp_path, monkeypatch)


def test_each_stage_of_a_job_is_measured(service: RenderingService) -> None:
    registry = CollectorRegistry()
    job = service.render(service.add(), Meters(InRegistry(registry)))
    assert job.num_segments is not None

    def value(name: str, **labels: str) -> float:
        return registry.get_sample_value(f"emotivetalk_{name}", labels) or 0.0

    for stage in ("decode", "mux", "publish"):
        assert value("call_seconds_count", stage=stage, of="job") == job.num_segments
    assert value("call_seconds_count", stage="assemble", of="job") == 1
    assert value("call_seconds_count", stage="vaid", of="job") >= 1
    assert value("call_seconds_count", stage="ethd", of="job") == value("ethd_chunks_total", of="job") > 0
    assert value("call_seconds_sum", stage="ethd", of="job") > 0
    for name in ("job_queue_seconds", "job_first_fragment_seconds", "job_realtime_factor"):
        assert value(f"{name}_count") == 1
    waited_s = value("job_first_fragment_seconds_sum")
    assert value("job_queue_seconds_sum") <= waited_s < 120
    assert value("jobs_ended_total", status="completed") == 1


def test_a_failure_is_counted_and_has_no_realtime_factor(service: RenderingService) -> None:
    def fail(call: object) -> None:
        if isinstance(call, FinishCall):
            raise InputError("emotion_invalid", "the text asks for no emotion", "Say another.")

    service.replicas.before = fail
    registry = CollectorRegistry()
    assert service.render(service.add(), Meters(InRegistry(registry))).status is JobStatus.FAILED
    assert registry.get_sample_value("emotivetalk_jobs_ended_total", {"status": "failed"}) == 1
    assert registry.get_sample_value("emotivetalk_job_realtime_factor_count") == 0


def test_the_meters_work_with_rays_metrics() -> None:
    meters = Meters(InRay())
    meters.http_requests.add(1, "GET", "/v1/videos", "200")
    meters.live_sessions.add(1)
    meters.live_sessions.add(-1)
    meters.say_again()
    meters.call_seconds.observe(0.06, "ethd", "job")
    with pytest.raises(ValueError, match="shorter"):
        meters.call_seconds.observe(0.06, "ethd")


def exported_metrics(tmp_path: Path) -> set[str]:
    """Return the names that Prometheus scrapes: those of the processes, exported by Ray, and those of the job store."""
    of_processes, of_jobs, names = CollectorRegistry(), CollectorRegistry(), set()
    Meters(InRegistry(of_processes))
    of_jobs.register(JobCollector(JobStore(f"sqlite:///{tmp_path / 'jobs.db'}")))
    for prefix, registry in (("ray_", of_processes), ("", of_jobs)):
        for family in registry.collect():
            names |= {f"{prefix}{family.name}{suffix}" for suffix in SUFFIXES[family.type]}
    return names


def expressions() -> list[str]:
    dashboard = json.loads((CONFIGS / "grafana_dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return queries + [one["definition"] for one in dashboard["templating"]["list"] if "definition" in one]


def test_the_dashboard_queries_exported_metrics(tmp_path: Path) -> None:
    queried = set(re.findall(r"\b(?:ray_)?(?:emotivetalk|serve)_\w+", " ".join(expressions())))
    assert queried <= exported_metrics(tmp_path) | RAY_METRICS
    assert queried >= RAY_METRICS
    expected = (
        "job_queue_seconds_bucket job_realtime_factor_bucket call_seconds_bucket refused_requests_total live_sessions"
    )
    assert queried >= {f"ray_emotivetalk_{name}" for name in expected.split()} | {"emotivetalk_jobs"}


def test_rays_metrics_exist_in_rays_source() -> None:
    source = "".join(path.read_text() for path in (Path(ray.serve.__file__).parent / "_private").glob("*.py"))
    for name in RAY_METRICS:
        assert f'"{name.removeprefix("ray_").removesuffix("_total")}"' in source, name


def test_the_dashboard_is_valid() -> None:
    dashboard = json.loads((CONFIGS / "grafana_dashboard.json").read_text())
    assert dashboard["templating"]["list"][0]["type"] == "datasource"
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}" and panel["targets"]
            assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    for expression in expressions():
        assert expression.count("(") == expression.count(")") and expression.count("{") == expression.count("}")


def test_the_scrape_configuration_has_both_jobs() -> None:
    jobs = yaml.safe_load((CONFIGS / "prometheus.yaml").read_text())["scrape_configs"]
    assert [job["job_name"] for job in jobs] == ["ray", "emotivetalk"]
