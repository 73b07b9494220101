"""A dead raylet or GCS is noticed, and only the workers that it left behind are ended."""

from __future__ import annotations

import configparser
import dataclasses
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emotivetalk.actors.serving import launch
from emotivetalk.actors.serving.liveness import RAYLET_PID_ENV, ClusterWatch
from emotivetalk.errors import EmotiveTalkError, InputError

UNIT = Path(__file__).resolve().parents[3] / "deploy" / "systemd" / "emotivetalk.service"
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def raylet() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(SLEEP)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def gcs() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def watch(tmp_path, raylet, gcs) -> Iterator[ClusterWatch]:
    path = tmp_path / "raylet"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        yield ClusterWatch(str(path), f"127.0.0.1:{gcs.getsockname()[1]}", raylet.pid)


def test_a_cluster_that_answers_has_no_fault(watch):
    assert watch.fault() is None
    assert dataclasses.replace(watch, raylet_pid=None).fault() is None


def test_a_killed_raylet_is_a_fault_although_its_parent_has_not_reaped_it(watch, raylet):
    raylet.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, raylet.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert watch.fault() == "the raylet of this machine has ended"


def test_a_missing_socket_and_a_closed_port_are_faults(watch, gcs, tmp_path):
    missing = dataclasses.replace(watch, raylet_socket=str(tmp_path / "none"))
    assert "raylet of this machine does not answer" in str(missing.fault())
    gcs.close()
    assert f"GCS at {watch.gcs_address} does not answer" in str(watch.fault())


def test_only_the_workers_of_this_raylet_are_ended(watch):
    environments = [{RAYLET_PID_ENV: str(watch.raylet_pid)}, {RAYLET_PID_ENV: str(os.getpid())}]
    own, other = (subprocess.Popen(SLEEP, env={**os.environ, **extra}) for extra in environments)
    try:
        assert watch.end_workers() == 1
        assert own.wait(10) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for process in (own, other):
            process.kill()
            process.wait()


def test_the_wait_ends_with_a_lost_cluster(watch, raylet, monkeypatch):
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(launch, "WATCH_S", 0.01)
    monkeypatch.setattr(ClusterWatch, "of_this_process", classmethod(lambda cls: watch))
    raylet.kill()
    raylet.wait()
    try:
        with pytest.raises(EmotiveTalkError, match="raylet of this machine has ended") as raised:
            launch.Service(launch.read_plan(launch.CONFIGS / "local.yaml")).wait_for_stop()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert raised.value.code == "cluster_lost"
    assert not isinstance(raised.value, InputError)  # status 1, which the unit restarts; it does not restart 2


def test_the_unit_restarts_a_lost_cluster_with_a_limit_but_no_wrong_configuration():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    unit.read(UNIT)
    assert unit["Service"]["Restart"] == "on-failure"
    assert unit["Service"]["RestartPreventExitStatus"] == "2"
    assert int(unit["Unit"]["StartLimitBurst"]) > 0
