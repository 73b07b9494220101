"""Shared fixture: one Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray

NUM_CPUS = 4


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A Ray cluster with four CPUs, whatever the machine has. The driver joins it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        patch.setenv("RAY_worker_niceness", "0")  # by default, Ray runs workers at a low priority
        ray.init(num_cpus=NUM_CPUS, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()
