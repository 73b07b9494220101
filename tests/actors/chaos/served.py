"""`emotivetalk serve` as a separate command whose processes tests can kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import yaml

from emotivetalk.actors.serving.launch import CONFIGS
from tests.actors.cluster.conftest import ROOT
from tests.processes import free_port

READY_S = 180.0


def write_config(folder: Path, checkpoint: Path) -> Path:
    """Write the local configuration with short leases and free ports."""
    document = yaml.safe_load((CONFIGS / "local.yaml").read_text())
    document["http_options"]["port"] = free_port()
    (application,) = document["applications"]
    application["args"] |= {"checkpoint": str(checkpoint), "data": str(folder / "data"), "grpc": {"port": free_port()}}
    application["args"]["director"] = {"lease_s": 3.0, "poll_s": 0.1, "slots": 4, "max_attempts": 100}
    for deployment in application["deployments"]:
        deployment.pop("autoscaling_config", None)
        deployment |= {"num_replicas": 1, "ray_actor_options": {"num_cpus": 0.1}, "health_check_period_s": 1.0}
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


class Served:
    """The command and the processes that it started."""

    def __init__(self, config: Path, log: Path) -> None:
        self._config, self._log = config, log
        port = yaml.safe_load(config.read_text())["http_options"]["port"]
        self.url = f"http://127.0.0.1:{port}"
        self._command: subprocess.Popen[bytes] | None = None
        self._started: dict[int, psutil.Process] = {}

    def start(self) -> None:
        """Start the command and wait until the service is ready."""
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "emotivetalk", "serve", str(self._config)]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            self._command = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        end = time.monotonic() + READY_S
        while True:
            assert self._command.poll() is None, self._log.read_text()[-3000:]
            assert time.monotonic() < end, self._log.read_text()[-3000:]
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.2)

    def processes(self) -> list[psutil.Process]:
        """Return the command and all its descendants, orphans included."""
        assert self._command is not None
        with suppress(psutil.NoSuchProcess):
            command = psutil.Process(self._command.pid)
            self._started |= {child.pid: child for child in (command, *command.children(recursive=True))}
        return [process for process in self._started.values() if process.is_running()]

    def replicas(self, name: str) -> list[psutil.Process]:
        """Return the processes of a deployment's replicas."""
        found = []
        for process in self.processes():
            try:
                if (process.cmdline() or [""])[0].startswith(f"ray::ServeReplica:emotivetalk:{name}"):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def kill(self, name: str) -> bool:
        """Kill a deployment's replicas with SIGKILL. Returns False if there is none."""
        found = self.replicas(name)
        for process in found:
            _kill(process)
        return bool(found)

    def kill_everything(self) -> None:
        """Kill the command, Ray and every replica at once with SIGKILL, as after a power failure."""
        found = self.processes()
        for process in found:
            _kill(process)
        psutil.wait_procs(found, timeout=30)
        self._started.clear()
        assert self._command is not None
        self._command.wait()

    def stop(self) -> None:
        """Stop the service with SIGTERM, as an operator would, then kill what is left."""
        assert self._command is not None
        if self._command.poll() is None:
            self._command.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._command.wait(60)
        self.kill_everything()


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()
