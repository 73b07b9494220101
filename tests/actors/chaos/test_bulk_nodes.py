"""A table of rows on a cluster of two nodes, of which one is lost: the result is that of an undisturbed run."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.actors.chaos.test_bulk_chaos import Command, videos
from tests.actors.cluster.conftest import PORTRAIT, SPEECH
from tests.models import debug

ROWS = 16
STORE_BYTES = 200 * 2**20


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """A head, and nodes that the test adds: raylets of their own on one machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}.items():
            patch.setenv(name, value)
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": STORE_BYTES})
        try:
            yield made
        finally:
            made.shutdown()


def test_a_lost_node_costs_nothing_but_time(nodes: Cluster, tmp_path: Path) -> None:
    checkpoint, table = tmp_path / "checkpoint", tmp_path / "rows.csv"
    debug.pipeline().save_pretrained(checkpoint)
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["custom_id", "portrait", "audio", "emotion", "seed"])
        writer.writerows([f"row-{i}", PORTRAIT, SPEECH, "happy", i] for i in range(ROWS))

    undisturbed = Command(table, tmp_path / "undisturbed", checkpoint, "--address", nodes.address)
    undisturbed.start()
    assert undisturbed.finish() == 0, undisturbed.log()
    expected = videos(tmp_path / "undisturbed")
    assert len(set(expected.values())) == ROWS

    second = nodes.add_node(num_cpus=2, object_store_memory=STORE_BYTES)
    disturbed = Command(table, tmp_path / "disturbed", checkpoint, "--address", nodes.address)
    disturbed.start()
    while len(videos(tmp_path / "disturbed")) < ROWS // 4:
        assert disturbed.status is None, disturbed.log()
        time.sleep(0.2)
    nodes.remove_node(second, allow_graceful=False)
    assert disturbed.finish() == 0, disturbed.log()
    assert videos(tmp_path / "disturbed") == expected
    lines = [json.loads(line) for line in (tmp_path / "disturbed" / "results.jsonl").read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == sorted(expected) and {line["status"] for line in lines} == {
        "completed"
    }
