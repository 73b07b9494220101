"""A run continues after the loss of a node, as soon as another has joined, and its losses do not change.

The nodes are separate raylets on one machine. The command joins them with `--address`, like any cluster.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from emotivetalk.training.run.config import load_config
from emotivetalk.training.run.loop import train as plain_train
from tests.actors.training.runs import EQUAL, TAME_ADAMW, log_lines
from tests.consoles import text_console

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "train_configs" / "autoencoder_debug.yaml"
SETTINGS = (*TAME_ADAMW, "steps=40", "checkpoint_every=4", "validate_every=null")
STORE_BYTES = 200 * 2**20


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """A cluster whose head has no CPUs for workers."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}.items():
            patch.setenv(name, value)
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES})
        try:
            yield made
        finally:
            made.shutdown()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.returncode
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_a_run_continues_when_another_node_replaces_a_lost_one(nodes: Cluster, tmp_path: Path) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    plain_train(
        load_config(CONFIG, [*SETTINGS, f"output={whole}", f"checkpoint={whole}/checkpoint"]), console=text_console()
    )
    workers = [nodes.add_node(num_cpus=1, object_store_memory=STORE_BYTES) for _ in range(2)]
    overrides = [f"--set={setting}" for setting in (*SETTINGS, f"output={run}", f"checkpoint={run}/checkpoint")]
    command = [sys.executable, "-m", "emotivetalk", "train", str(CONFIG), *overrides, "--workers", "2"]
    errors = tmp_path / "errors.txt"
    with errors.open("w") as stderr:
        training = subprocess.Popen([*command, "--address", nodes.address], cwd=ROOT, env=os.environ, stderr=stderr)
    try:
        wait_for(lambda: (run / "steps.jsonl").exists() and len(log_lines(run)) >= 6, training)
        nodes.remove_node(workers[1], allow_graceful=False)
        nodes.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        assert training.wait(300) == 0, errors.read_text()
    finally:
        training.kill()
    assert "resuming after step" in errors.read_text()
    ours, theirs = ([line["loss"] for line in log_lines(folder)] for folder in (run, whole))
    assert ours == pytest.approx(theirs, rel=EQUAL)
    assert (run / "checkpoint" / "vae" / "config.json").exists()
