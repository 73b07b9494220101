"""ETHD's replicas follow the seconds of video that wait in the job store: a policy for Ray Serve's autoscaler.

    autoscaling_config:
      policy:
        policy_function: emotivetalk.actors.serving.autoscaling:WaitingVideoPolicy
        policy_kwargs: {jobs: postgresql://..., waiting_s_per_replica: 60}

The number of requests tells little about the work to come: a director keeps a fixed number of calls in flight, whether a
second or an hour of video waits. Serve calls the policy in its controller, ten times per second, so the policy only
computes. A thread of it reads the job store.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from ray.serve.autoscaling_policy import replica_queue_length_autoscaling_policy
from ray.serve.config import AutoscalingContext

from emotivetalk.actors.serving.config import WaitingVideoSettings

LIVE_CALLS = "live_calls"  # reported by ETHD's replicas (`record_autoscaling_stats`)

log = logging.getLogger("ray.serve")  # the controller's


def replicas_for(
    waiting_s: float,
    live_calls: float,
    *,
    waiting_s_per_replica: float,
    calls_per_replica: float,
    min_replicas: int,
    max_replicas: int,
) -> int:
    """Return the number of replicas for the video that waits and for the live calls, whichever needs more.

    Args:
        waiting_s: seconds of video that unfinished jobs have not published.
        live_calls: ETHD calls of live video that are queued or computed.
    """
    wanted = max(waiting_s / waiting_s_per_replica, live_calls / calls_per_replica)
    return max(min_replicas, math.ceil(min(wanted, max_replicas)))


class WaitingVideoPolicy:
    """The policy. Serve creates it with `policy_kwargs`; bounds, delays and factors are Serve's own options.

    While the job store cannot be read for longer than `stale_s`, Serve's default policy decides, by ongoing requests
    (`target_ongoing_requests`). Until then the number of replicas stays as it is.

    Args:
        read: returns the seconds of video that wait; None reads the job store.
        settings: fields of `WaitingVideoSettings`.

    Raises:
        ValidationError: a setting is unknown or out of range.
    """

    def __init__(self, read: Callable[[], float] | None = None, **settings: Any) -> None:
        self._settings = WaitingVideoSettings(**settings)
        self._reading = _Reading()
        threading.Thread(
            target=_keep_reading,
            args=(self._reading, read or _JobStoreReader(self._settings.jobs_url), self._settings.poll_s),
            name="waiting-video",
            daemon=True,
        ).start()
        weakref.finalize(self, self._reading.stop.set)  # Serve drops the policy when the deployment changes

    def __call__(self, context: AutoscalingContext) -> tuple[int | float, dict[str, Any]]:
        """Return the wanted number of replicas, and no state."""
        seconds, age_s = self._reading.latest()
        if age_s > self._settings.stale_s:
            return replica_queue_length_autoscaling_policy(context)
        if seconds is None:
            return context.target_num_replicas, {}
        live_calls: Mapping[Any, float] = (context.aggregated_metrics or {}).get(LIVE_CALLS, {})
        config: Any = context.config
        wanted = replicas_for(
            seconds,
            sum(live_calls.values()),
            waiting_s_per_replica=self._settings.waiting_s_per_replica,
            calls_per_replica=config.get_target_ongoing_requests(),
            min_replicas=context.capacity_adjusted_min_replicas,
            max_replicas=context.capacity_adjusted_max_replicas,
        )
        return wanted, {}


class _Reading:
    """The latest value, which the thread writes. It does not refer to the policy, so that the policy can be dropped."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._latest: tuple[float | None, float] = (None, time.monotonic())

    def set(self, seconds: float) -> None:
        self._latest = (seconds, time.monotonic())

    def latest(self) -> tuple[float | None, float]:
        """Return the seconds of video, None before the first reading, and the reading's age in seconds."""
        seconds, at = self._latest
        return seconds, time.monotonic() - at


def _keep_reading(reading: _Reading, read: Callable[[], float], poll_s: float) -> None:
    works = True
    while not reading.stop.is_set():
        try:
            reading.set(read())
            works = True
        except Exception as error:  # noqa: BLE001 the next poll tries again
            if works:
                log.warning("ETHD's autoscaling cannot read the job store and tries again: %s", error)
            works = False
        reading.stop.wait(poll_s)


class _JobStoreReader:
    """Opens the job store at the first reading. The service creates it, not this reader."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._jobs: Any = None

    def __call__(self) -> float:
        from emotivetalk.actors.serving.jobs.store import JobStore

        if self._jobs is None:
            self._jobs = JobStore(self._url, create=False)
        return self._jobs.waiting_seconds()
