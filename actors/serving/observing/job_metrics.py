"""Metrics of jobs at `/metrics`, computed from their rows: equal at every gateway, and not reset by a restart.

`meters.py` has the metrics that each process counts itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from emotivetalk.actors.serving.jobs.store import Job, JobStatus, JobStore
from emotivetalk.timebase import FRAME_RATE_HZ

NUM_RECENT = 50  # completed videos in the distributions
MAX_AGE_S = 5.0  # scrapes within this time share one query
QUANTILES = (0.5, 0.95)


@dataclass
class JobMeasures:
    """Durations of recently completed videos, in seconds: one value per video, or one per segment for `stages`."""

    queue_wait: list[float] = field(default_factory=list)
    first_fragment: list[float] = field(default_factory=list)
    realtime_factor: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)


class JobCollector(Collector):
    """Queries the job store when it is scraped."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs
        self._lock = threading.Lock()
        self._read_at = -MAX_AGE_S
        self._metrics: list[Metric] = []

    def collect(self) -> Iterator[Metric]:
        """Yield gauges over the stored jobs."""
        with self._lock:
            if time.monotonic() - self._read_at >= MAX_AGE_S:
                self._metrics = self._read()
                self._read_at = time.monotonic()
            yield from self._metrics

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering does not query the database."""
        return []

    def _read(self) -> list[Metric]:
        counts = self._jobs.counts()
        by_status = GaugeMetricFamily("emotivetalk_jobs", "Videos that are kept, by status", labels=["status"])
        for status in JobStatus:
            by_status.add_metric([status.value], counts.get(status, 0))
        waiting = self._jobs.list(limit=1, order="asc", status=JobStatus.QUEUED).jobs
        oldest_s = max(0.0, time.time() - waiting[0].created_at) if waiting else 0.0
        oldest = GaugeMetricFamily(
            "emotivetalk_oldest_queued_seconds", "How long the oldest queued video waits", oldest_s
        )
        unpublished = GaugeMetricFamily(
            "emotivetalk_waiting_seconds",
            "Seconds of video that unfinished jobs have not published",
            self._jobs.waiting_seconds(),
        )
        measures = self._measure(self._jobs.list(limit=NUM_RECENT, status=JobStatus.COMPLETED).jobs)
        recent = f"of the last {NUM_RECENT} completed videos"
        stages = GaugeMetricFamily(
            "emotivetalk_stage_seconds", f"Seconds of a stage for a segment, {recent}", labels=["stage", "quantile"]
        )
        for stage, seconds in sorted(measures.stages.items()):
            _add_quantiles(stages, seconds, [stage])
        return [
            by_status,
            oldest,
            unpublished,
            _quantiles("emotivetalk_queue_wait_seconds", f"From created to started, {recent}", measures.queue_wait),
            _quantiles(
                "emotivetalk_first_fragment_seconds",
                f"From created to the first segment, {recent}",
                measures.first_fragment,
            ),
            _quantiles(
                "emotivetalk_realtime_factor",
                f"Seconds of rendering for a second of video, {recent}",
                measures.realtime_factor,
            ),
            stages,
        ]

    def _measure(self, jobs: Sequence[Job]) -> JobMeasures:
        measures = JobMeasures()
        for job in jobs:
            assert job.started_at is not None and job.completed_at is not None  # the job is completed
            measures.queue_wait.append(job.started_at - job.created_at)
            measures.realtime_factor.append((job.completed_at - job.started_at) * FRAME_RATE_HZ / job.num_frames)
            for segment in self._jobs.segments(job.job_id):
                if segment.index == 0 and segment.published_at is not None:
                    measures.first_fragment.append(segment.published_at - job.created_at)
                for stage, seconds in segment.timings.items():
                    measures.stages.setdefault(stage, []).append(seconds)
        return measures


def metrics_page(registry: CollectorRegistry) -> bytes:
    """Return the metrics in Prometheus' text format."""
    return generate_latest(registry)


def _quantiles(name: str, text: str, values: Sequence[float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=["quantile"])
    _add_quantiles(family, values, [])
    return family


def _add_quantiles(family: GaugeMetricFamily, values: Sequence[float], labels: list[str]) -> None:
    if values:
        for quantile in QUANTILES:
            family.add_metric([*labels, f"{quantile:g}"], float(np.quantile(values, quantile)))
