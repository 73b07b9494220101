"""Shared fixtures: a Ray cluster, and raw videos with known properties."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from tests.corpus.preparing.raw_videos import RawVideoSpec, write_all

NUM_VIDEOS = int(os.environ.get("EMOTIVETALK_RAW_VIDEOS", "24"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A Ray cluster of two CPUs in this process; the driver joins it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture(scope="session")
def raws(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RawVideoSpec]]:
    """A folder of EMOTIVETALK_RAW_VIDEOS raw videos (EMOTIVETALK_RAW_FOLDER if set), and their specifications."""
    given = os.environ.get("EMOTIVETALK_RAW_FOLDER")
    folder = Path(given) if given else tmp_path_factory.mktemp("videos") / "raw"
    return folder, write_all(NUM_VIDEOS, folder)
