"""Join a Ray cluster, or start one on this machine for as long as it is needed."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import ray.exceptions

from emotivetalk.errors import InputError

CONNECT_S = 5.0


@contextmanager
def joined_cluster(address: str | None) -> Iterator[None]:
    """Join the cluster at the address, or start one here, and leave it afterwards. An open connection is reused and kept.

    Raises:
        InputError: no cluster answers at the address.
    """
    if ray.is_initialized():
        yield
        return
    if address is not None and address not in ("auto", "local"):
        _check_reachable(address)
    try:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            logging_level=logging.WARNING,
            log_to_driver=False,
        )
    except (ConnectionError, ray.exceptions.RaySystemError, RuntimeError, ValueError) as error:
        raise _unreachable(address or "local", str(error).splitlines()[0]) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise InputError if nothing listens at the address. Ray itself would retry for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        raise _unreachable(address, "it is not host:port")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from error


def _unreachable(address: str, reason: str) -> InputError:
    return InputError(
        code="cluster_unreachable",
        message=f"no Ray cluster answers at {address}: {reason}",
        remedy="Check the address, or leave --address out to start Ray here.",
    )
