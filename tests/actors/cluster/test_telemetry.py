"""Telemetry of a cluster: logs of each deployment name the video, and Ray exports the dashboard's metrics."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import httpx
import ray

from tests.actors.cluster.conftest import CLASSES, Cluster

OURS = ("call_seconds_bucket", "ethd_chunks_total", "job_queue_seconds_bucket", "jobs_ended_total", "live_sessions")
RAYS = ("deployment_replica_healthy", "replica_processing_queries", "deployment_request_counter_total")


def lines_of(deployment: str) -> list[dict]:
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    logs = (session / "logs" / "serve").glob(f"replica_emotivetalk_{deployment}_*.log")
    return [json.loads(line) for log in logs for line in log.read_text().splitlines()]


def test_each_deployments_log_names_the_video(cluster: Cluster) -> None:
    job_id = cluster.create()
    cluster.wait(job_id)
    time.sleep(0.5)  # the director logs the completion after it has updated the row
    for deployment in CLASSES:
        about = [line for line in lines_of(deployment) if line.get("video_id") == job_id]
        assert about, f"{deployment} logged nothing about {job_id}"
        assert all(line["deployment"] == f"emotivetalk_{deployment}" for line in about)
    messages = [line["message"] for line in lines_of("director") if line.get("video_id") == job_id]
    assert messages[0].startswith("job started") and messages[-1] == "job completed"


def test_ray_exports_the_metrics_of_the_dashboard(cluster: Cluster) -> None:
    cluster.wait(cluster.create())
    port = ray.nodes()[0]["MetricsExportPort"]
    wanted = {f"ray_emotivetalk_{name}" for name in OURS} | {f"ray_serve_{name}" for name in RAYS}
    deadline = time.monotonic() + 60
    while not wanted <= (names := set(re.findall(r"^(\w+)\{", metrics(port), re.MULTILINE))):
        assert time.monotonic() < deadline, f"missing: {sorted(wanted - names)}"
        time.sleep(1)
    samples = [line for line in metrics(port).splitlines() if line.startswith("ray_emotivetalk_call_seconds_count")]
    stages = {found[1] for line in samples if (found := re.search(r'stage="(\w+)"', line))}
    assert stages >= {"vaid", "ethd", "decode", "mux", "publish", "assemble"}
    assert all('deployment="director"' in line or 'of="live"' in line for line in samples)


def metrics(port: int) -> str:
    return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
