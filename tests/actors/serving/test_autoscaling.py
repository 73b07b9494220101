"""ETHD's autoscaling policy: arithmetic with properties, and what it does when the job store is slow or away."""

from __future__ import annotations

import gc
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from ray.serve._private.common import DeploymentID
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from emotivetalk.actors.serving.autoscaling import LIVE_CALLS, WaitingVideoPolicy, replicas_for
from emotivetalk.actors.serving.jobs.store import JobStore
from emotivetalk.actors.serving.launch import CONFIGS, read_plan
from emotivetalk.errors import InputError
from tests.actors.serving.jobs_for_tests import add, claimed, finish, new_job, segment

seconds = st.floats(0, 1e9)
BOUNDS = st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda pair: (min(pair), sum(pair) + 1))


def replicas(waiting_s: float, live_calls: float, bounds: tuple[int, int], per_replica_s: float = 60.0) -> int:
    low, high = bounds
    return replicas_for(
        waiting_s,
        live_calls,
        waiting_s_per_replica=per_replica_s,
        calls_per_replica=3,
        min_replicas=low,
        max_replicas=high,
    )


@settings(deadline=None)
@given(seconds, seconds, st.floats(0, 1e4), BOUNDS, st.floats(0.1, 1e4))
def test_more_waiting_video_never_means_fewer_replicas(one, other, live_calls, bounds, per_replica_s):
    less, more = sorted((one, other))
    few, many = (replicas(amount, live_calls, bounds, per_replica_s) for amount in (less, more))
    assert bounds[0] <= few <= many <= bounds[1]


@settings(deadline=None)
@given(BOUNDS)
def test_nothing_waits_at_the_minimum(bounds):
    assert replicas(0, 0, bounds) == bounds[0]


@settings(deadline=None)
@given(st.integers(1, 100), st.floats(0.1, 1e4))
def test_each_replica_has_at_most_its_share(num_replicas, per_replica_s):
    assert replicas(num_replicas * per_replica_s, 0, (0, 200), per_replica_s) in (num_replicas, num_replicas + 1)
    assert replicas((num_replicas - 0.5) * per_replica_s, 0, (0, 200), per_replica_s) == num_replicas


def test_live_calls_keep_replicas_that_no_job_needs():
    assert replicas(0, 7, (1, 10)) == 3
    assert replicas(60 * 5, 7, (1, 10)) == 5


def context(requests: float = 0.0, live_calls: float | None = None, target: int = 2) -> AutoscalingContext:
    """Two running replicas of one to ten, three requests wanted for each."""
    identity = DeploymentID("ETHD", "emotivetalk")
    return AutoscalingContext(
        deployment_id=identity,
        deployment_name=identity.name,
        app_name=identity.app_name,
        current_num_replicas=2,
        target_num_replicas=target,
        running_replicas=[],
        total_num_requests=requests,
        total_queued_requests=0,
        aggregated_metrics={} if live_calls is None else {LIVE_CALLS: {"a": live_calls / 2, "b": live_calls / 2}},
        raw_metrics={},
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=10,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=0.0,
        config=AutoscalingConfig(min_replicas=1, max_replicas=10, target_ongoing_requests=3),
    )


def eventually(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_policy_follows_the_job_store(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    policy = WaitingVideoPolicy(jobs=url, waiting_s_per_replica=10, poll_s=0.02)  # no store yet
    assert policy(context(requests=30, target=4))[0] == 4  # unchanged until the first reading
    store = JobStore(url)
    eventually(lambda: policy(context(requests=30))[0] == 1)  # nothing waits, whatever calls are in flight
    for _ in range(4):
        store.create(new_job(num_frames=25 * 12))
    eventually(lambda: policy(context())[0] == 5)  # 48 s
    assert policy(context(live_calls=24))[0] == 8


def test_requests_decide_while_the_job_store_cannot_be_read():
    broken = threading.Event()

    def read() -> float:
        if broken.is_set():
            raise OSError("the database is away")
        return 600.0

    policy = WaitingVideoPolicy(read, waiting_s_per_replica=60, poll_s=0.02, stale_s=0.3)
    eventually(lambda: policy(context(requests=9))[0] == 10)
    broken.set()
    eventually(lambda: policy(context(requests=9))[0] == 3)
    broken.clear()
    eventually(lambda: policy(context(requests=9))[0] == 10)


def test_a_hanging_job_store_holds_up_nothing():
    never = threading.Event()

    def read() -> float:
        never.wait(60)
        return 0.0

    policy = WaitingVideoPolicy(read, poll_s=0.02, stale_s=0.2)
    start = time.perf_counter()
    for _ in range(1000):
        policy(context(requests=9))
    assert time.perf_counter() - start < 5
    eventually(lambda: policy(context(requests=9))[0] == 3)
    never.set()


def test_a_dropped_policy_stops_reading():
    readings = []
    policy = WaitingVideoPolicy(lambda: readings.append(1) or 0.0, poll_s=0.01)
    eventually(lambda: len(readings) > 2)
    del policy
    gc.collect()
    time.sleep(0.1)
    stopped_at = len(readings)
    time.sleep(0.2)
    assert len(readings) == stopped_at


def test_unfinished_jobs_wait_with_their_unpublished_frames(store: JobStore):
    assert store.waiting_seconds() == 0
    add(store)
    assert store.waiting_seconds() == 30 / 25
    claim = claimed(store)
    store.plan(claim, 3)
    store.publish_segment(claim, segment(claim, 0))
    assert store.waiting_seconds() == 20 / 25
    other = add(store)
    assert store.waiting_seconds() == 50 / 25
    store.cancel(other.job_id)
    finish(store, claim)
    assert store.waiting_seconds() == 0


@pytest.mark.parametrize("name", ["gpu", "cluster"])
def test_the_shipped_configurations_name_the_policy(name: str):
    """Serve finds the class by its path and creates it with these arguments."""
    options = read_plan(CONFIGS / f"{name}.yaml").options["ETHD"]["autoscaling_config"]
    config = AutoscalingConfig(**options)
    assert config.upscale_delay_s == 0 and config.downscale_delay_s == 600
    policy = config.policy.get_policy()(**config.policy.policy_kwargs)
    assert policy(context(target=7))[0] == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"waiting_seconds_per_replica": 5}, "Did you mean waiting_s_per_replica"),
        ({"waiting_s_per_replica": 0}, "greater than 0"),
        ({"jobs": "postgresql://elsewhere/emotivetalk"}, "another job store"),
    ],
)
def test_wrong_settings_are_refused_before_anything_starts(change, message, tmp_path: Path):
    document = yaml.safe_load((CONFIGS / "cluster.yaml").read_text())
    ethd = next(one for one in document["applications"][0]["deployments"] if one["name"] == "ETHD")
    ethd["autoscaling_config"]["policy"]["policy_kwargs"].update(change)
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(InputError, match=message):
        read_plan(path)
    with pytest.raises(ValidationError):
        WaitingVideoPolicy(lambda: math.nan, unknown=1)
