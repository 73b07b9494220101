"""Metrics: the director counts a job's stages; the dashboard asks for nothing that is not exported."""

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
from tests.actors.serving.rendering import House

OF_RAY = {
    "ray_serve_deployment_replica_healthy",
    "ray_serve_replica_processing_queries",
    "ray_serve_deployment_queued_queries",
    "ray_serve_deployment_request_counter_total",
    "ray_serve_deployment_error_counter_total",
    "ray_serve_deployment_replica_starts_total",
}
WITH = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return House(tmp_path, monkeypatch)


def test_a_job_is_measured_stage_by_stage(house: House) -> None:
    registry = CollectorRegistry()
    job = house.render(house.add(), Meters(InRegistry(registry)))
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


def test_a_failure_is_counted_and_has_no_realtime_factor(house: House) -> None:
    def fail(call: object) -> None:
        if isinstance(call, FinishCall):
            raise InputError("emotion_invalid", "the text asks for no emotion", "Say another.")

    house.replicas.before = fail
    registry = CollectorRegistry()
    assert house.render(house.add(), Meters(InRegistry(registry))).status is JobStatus.FAILED
    assert registry.get_sample_value("emotivetalk_jobs_ended_total", {"status": "failed"}) == 1
    assert registry.get_sample_value("emotivetalk_job_realtime_factor_count") == 0


def test_ray_takes_them_all() -> None:
    meters = Meters(InRay())
    meters.http_requests.add(1, "GET", "/v1/videos", "200")
    meters.live_sessions.add(1)
    meters.live_sessions.add(-1)
    meters.say_again()
    meters.call_seconds.observe(0.06, "ethd", "job")
    with pytest.raises(ValueError, match="shorter"):
        meters.call_seconds.observe(0.06, "ethd")


def exported(tmp_path: Path) -> set[str]:
    """The names that Prometheus knows: the processes', as Ray exports them, and the job store's."""
    own, ours, names = CollectorRegistry(), CollectorRegistry(), set()
    Meters(InRegistry(own))
    ours.register(JobCollector(JobStore(f"sqlite:///{tmp_path / 'jobs.db'}")))
    for prefix, registry in (("ray_", own), ("", ours)):
        for family in registry.collect():
            names |= {f"{prefix}{family.name}{end}" for end in WITH[family.type]}
    return names


def expressions() -> list[str]:
    dashboard = json.loads((CONFIGS / "grafana_dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return asked + [one["definition"] for one in dashboard["templating"]["list"] if "definition" in one]


def test_the_dashboard_asks_for_what_is_exported(tmp_path: Path) -> None:
    asked = set(re.findall(r"\b(?:ray_)?(?:emotivetalk|serve)_\w+", " ".join(expressions())))
    assert asked <= exported(tmp_path) | OF_RAY
    assert asked >= OF_RAY
    wanted = (
        "job_queue_seconds_bucket job_realtime_factor_bucket call_seconds_bucket refused_requests_total live_sessions"
    )
    assert asked >= {f"ray_emotivetalk_{name}" for name in wanted.split()} | {"emotivetalk_jobs"}


def test_rays_names_are_in_rays_source() -> None:
    source = "".join(path.read_text() for path in (Path(ray.serve.__file__).parent / "_private").glob("*.py"))
    for name in OF_RAY:
        assert f'"{name.removeprefix("ray_").removesuffix("_total")}"' in source, name


def test_the_dashboard_can_be_imported() -> None:
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


def test_the_scrape_configuration_is_one() -> None:
    jobs = yaml.safe_load((CONFIGS / "prometheus.yaml").read_text())["scrape_configs"]
    assert [job["job_name"] for job in jobs] == ["ray", "emotivetalk"]
