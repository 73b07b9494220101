"""Check that the Ray cluster of this process still answers, and end what a dead one left behind."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil

CONNECT_S = 2.0
RAYLET_PID_ENV = "RAY_RAYLET_PID"  # Ray sets it for each worker


@dataclass(frozen=True)
class ClusterWatch:
    """The two servers without which no replica can be reached: this machine's raylet and the cluster's GCS.

    Attributes:
        raylet_socket: path of the raylet's Unix socket.
        gcs_address: host and port of the GCS.
        raylet_pid: process of the raylet, if this process or its raylet started it.
    """

    raylet_socket: str
    gcs_address: str
    raylet_pid: int | None = None

    @classmethod
    def of_this_process(cls) -> ClusterWatch:
        """Return the watch of the cluster that this process is connected to."""
        import ray
        from ray._private.worker import global_worker

        node: Any = global_worker.node  # Ray has no public name for the raylet's socket
        started = node.all_processes.get("raylet", [])
        pid = started[0].process.pid if started else os.environ.get(RAYLET_PID_ENV)
        return cls(
            node.raylet_socket_name,
            ray.get_runtime_context().gcs_address,
            None if pid is None else int(pid),
        )

    def fault(self) -> str | None:
        """Return what does not answer, or None. Takes at most a few seconds."""
        if self.raylet_pid is not None and not _is_running(self.raylet_pid):
            return "the raylet of this machine has ended"
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as raylet:
                raylet.settimeout(CONNECT_S)
                raylet.connect(self.raylet_socket)
        except OSError as error:
            return f"the raylet of this machine does not answer ({error.strerror or error})"
        host, _, port = self.gcs_address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
        except OSError as error:
            return f"the GCS at {self.gcs_address} does not answer ({error.strerror or error})"
        return None

    def end_workers(self) -> int:
        """Kill the workers that a dead raylet left behind, which keep ports and memory. Returns their number."""
        ended = 0
        if self.raylet_pid is None:
            return ended
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(RAYLET_PID_ENV) == str(self.raylet_pid):
                    process.kill()
                    ended += 1
        return ended


def _is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
