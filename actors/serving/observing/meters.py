"""Counters, gauges and histograms of the gateway and the director, for Prometheus.

In a replica they are exported by Ray's endpoint on each node, with the prefix `ray_` and the replica as a label, so every
process is counted whichever gateway answers a scrape. Elsewhere they live in a registry of prometheus_client. Metrics of
the job store are in `job_metrics.py`. No label takes values from clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from ray.serve import metrics as serve_metrics

CALL_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
REQUEST_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
WAIT_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
LAG_S = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 15.0, 30.0)
FACTORS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Counts(Protocol):
    """A counter or a gauge."""

    def add(self, amount: float, *labels: str) -> None: ...


class Times(Protocol):
    """A histogram."""

    def observe(self, value: float, *labels: str) -> None: ...


class Maker(Protocol):
    """Creates metrics in one backend."""

    def counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counts: ...

    def gauge(self, name: str, text: str) -> Counts: ...

    def histogram(self, name: str, text: str, labels: tuple[str, ...], bounds: Sequence[float]) -> Times: ...


class Meters:
    """All metrics. Stages are `vaid`, `ethd`, `decode`, `mux`, `publish` and `assemble`; `of` is `job` or `live`.

    Args:
        make: the backend; None is a private registry that nobody reads.
    """

    def __init__(self, make: Maker | None = None) -> None:
        make = make or InRegistry(CollectorRegistry())
        self.http_requests = make.counter("emotivetalk_http_requests", "HTTP requests", ("method", "route", "status"))
        self.http_seconds = make.histogram(
            "emotivetalk_http_request_seconds",
            "From the request to the head of its answer",
            ("method", "route"),
            REQUEST_S,
        )
        self.http_open = make.gauge("emotivetalk_http_requests_open", "Requests being answered, streams too")
        self.grpc_requests = make.counter("emotivetalk_grpc_requests", "gRPC calls that ended", ("method", "code"))
        self.grpc_seconds = make.histogram(
            "emotivetalk_grpc_request_seconds", "From a call's begin to its status", ("method",), CALL_S
        )
        self.refused = make.counter(
            "emotivetalk_refused_requests", "Answered with 429 or RESOURCE_EXHAUSTED", ("code",)
        )
        self.live_sessions = make.gauge("emotivetalk_live_sessions", "Live calls that are rendered")
        self.live_first_fragment = make.histogram(
            "emotivetalk_live_first_fragment_seconds", "From a live call's begin to its first fragment", (), WAIT_S
        )
        self.live_lag = make.histogram(
            "emotivetalk_live_lag_seconds",
            "Speech received and not rendered, at each fragment of live calls",
            (),
            LAG_S,
        )
        self.live_frames = make.counter(
            "emotivetalk_live_frames", "Frames of live calls: full, with fewer steps, or dropped", ("kind",)
        )
        self.call_seconds = make.histogram(
            "emotivetalk_call_seconds", "Computing in one call of a stage", ("stage", "of"), CALL_S
        )
        self.ethd_chunks = make.counter("emotivetalk_ethd_chunks", "Chunks that ETHD took a step on", ("of",))
        self.calls_repeated = make.counter(
            "emotivetalk_calls_repeated", "Calls sent again since their replica died or failed", ("stage",)
        )
        self.job_queue = make.histogram(
            "emotivetalk_job_queue_seconds", "From a video's creation to its first claim", (), WAIT_S
        )
        self.job_first_fragment = make.histogram(
            "emotivetalk_job_first_fragment_seconds", "From a video's creation to its first fragment", (), WAIT_S
        )
        self.job_realtime_factor = make.histogram(
            "emotivetalk_job_realtime_factor", "Seconds of rendering for a second of finished video", (), FACTORS
        )
        self.jobs_ended = make.counter("emotivetalk_jobs_ended", "Videos that were rendered, or failed", ("status",))

    def say_again(self) -> None:
        """Set the gauges to their current values: Ray drops a gauge that is not set for a while (20 s in Ray 2.60)."""
        for gauge in (self.http_open, self.live_sessions):
            gauge.add(0)


class InRegistry:
    """Metrics in a registry of prometheus_client."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counts:
        return _Local(Counter(name, text, labels, registry=self._registry))

    def gauge(self, name: str, text: str) -> Counts:
        return _Local(Gauge(name, text, registry=self._registry))

    def histogram(self, name: str, text: str, labels: tuple[str, ...], bounds: Sequence[float]) -> Times:
        return _Local(Histogram(name, text, labels, buckets=bounds, registry=self._registry))


class InRay:
    """Metrics of a replica. Ray exports them with application, deployment and replica as further labels."""

    def counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counts:
        return _RayCounter(serve_metrics.Counter(name, text, _tags(labels)), labels)

    def gauge(self, name: str, text: str) -> Counts:
        return _RayGauge(serve_metrics.Gauge(name, text))

    def histogram(self, name: str, text: str, labels: tuple[str, ...], bounds: Sequence[float]) -> Times:
        return _RayHistogram(serve_metrics.Histogram(name, text, list(bounds), _tags(labels)), labels)


class _Local:
    def __init__(self, metric: Counter | Gauge | Histogram) -> None:
        self._metric = metric

    def add(self, amount: float, *labels: str) -> None:
        metric = self._metric.labels(*labels) if labels else self._metric
        assert not isinstance(metric, Histogram)
        metric.inc(amount)

    def observe(self, value: float, *labels: str) -> None:
        metric = self._metric.labels(*labels) if labels else self._metric
        assert isinstance(metric, Histogram)
        metric.observe(value)


class _RayCounter:
    def __init__(self, metric: serve_metrics.Counter, labels: tuple[str, ...]) -> None:
        self._metric, self._labels = metric, labels

    def add(self, amount: float, *labels: str) -> None:
        self._metric.inc(amount, tags=dict(zip(self._labels, labels, strict=True)))


class _RayGauge:
    def __init__(self, metric: serve_metrics.Gauge) -> None:
        self._metric, self._level = metric, 0.0

    def add(self, amount: float, *labels: str) -> None:
        self._level += amount
        self._metric.set(self._level)


class _RayHistogram:
    def __init__(self, metric: serve_metrics.Histogram, labels: tuple[str, ...]) -> None:
        self._metric, self._labels = metric, labels

    def observe(self, value: float, *labels: str) -> None:
        self._metric.observe(value, tags=dict(zip(self._labels, labels, strict=True)))


def _tags(labels: tuple[str, ...]) -> Any:
    return labels  # Serve annotates a tuple of one label
