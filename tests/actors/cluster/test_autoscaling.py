"""ETHD's replicas follow the video that waits: one, three under a batch, one again; the bytes stay the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from ray import serve

from emotivetalk.actors.serving.launch import WAITING_VIDEO_POLICY
from tests.actors.cluster.conftest import Cluster
from tests.processes import wait_until

WAITING_S = 12.0  # of video, kept waiting until three replicas run


def num_running() -> int:
    """Running replicas of ETHD, as Serve reports them."""
    return serve.status().applications["emotivetalk"].deployments["ETHD"].replica_states.get("RUNNING", 0)


def remix(cluster: Cluster, video_id: str) -> str:
    """Create a job with the same inputs and settings. It takes less time than an upload, and than rendering."""
    answer = cluster.http.post(f"/v1/videos/{video_id}/remix", json={"emotion": "sad"})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


@pytest.fixture
def scaled(cluster: Cluster) -> Iterator[Cluster]:
    """The service with ETHD under the policy, a replica for two seconds of waiting video."""
    fixed = cluster.plan
    ethd = {name: value for name, value in fixed.options["ETHD"].items() if name != "num_replicas"}
    policy = {
        "policy_function": WAITING_VIDEO_POLICY,
        "policy_kwargs": {"jobs": fixed.config.jobs_url, "waiting_s_per_replica": 2.0, "poll_s": 0.2},
    }
    ethd["autoscaling_config"] = {
        "min_replicas": 1,
        "max_replicas": 3,
        "target_ongoing_requests": 1000,  # requests alone would never ask for a second replica
        "upscale_delay_s": 0,
        "downscale_delay_s": 2,
        "policy": policy,
    }
    cluster.service.deploy(dataclasses.replace(fixed, options={**fixed.options, "ETHD": ethd}))
    yield cluster
    cluster.service.deploy(fixed)
    wait_until(lambda: num_running() == 1, timeout_s=300, poll_s=0.1)


def test_replicas_follow_the_video_that_waits(scaled: Cluster) -> None:
    wait_until(lambda: num_running() == 1, timeout_s=300, poll_s=0.1)
    batch = [scaled.create("sad")]
    scaled.wait(batch[0])

    def three_run() -> bool:
        """Keep video waiting, since replicas may take longer to start than a short batch takes to render."""
        if scaled.jobs.waiting_seconds() < WAITING_S:
            batch.append(remix(scaled, batch[0]))
        return num_running() == 3

    wait_until(three_run, timeout_s=300)
    for job_id in batch:
        scaled.wait(job_id)
        assert scaled.fragments(job_id) == scaled.fragments(batch[0])
    wait_until(lambda: num_running() == 1, timeout_s=300, poll_s=0.1)
