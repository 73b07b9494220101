"""Checks of a deployment: what is unsafe, and what will not work."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from emotivetalk.actors.serving.app import DEFAULTS, job_store
from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.launch import LaunchPlan, check_exposure, is_loopback
from emotivetalk.actors.serving.rendering.plans import CheckpointPlans
from emotivetalk.errors import EmotiveTalkError
from emotivetalk.media.checkpoints import checkpoint_id, find_checkpoint

MIN_SHUTDOWN_S = {"VAID": 60.0, "ETHD": 60.0, "decoder": 60.0, "director": 15.0, "gateway": 10.0}
"""Longest call of each deployment on a slow machine, seconds; Serve's default timeout is 20 s."""
MIN_SHARED_MEMORY = 1 << 30


class Verdict(StrEnum):
    """The outcome of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True)
class Finding:
    """A checked subject, its verdict, and a message with the remedy."""

    subject: str
    verdict: Verdict
    message: str


def examine(plan: LaunchPlan, address: str | None = None) -> Iterator[Finding]:
    """Run all checks and yield each finding at once.

    Args:
        address: address of the Ray cluster to run on; None: one that `emotivetalk serve` starts here.
    """
    checks: tuple[tuple[str, Callable[[], Iterator[tuple[Verdict, str]]]], ...] = (
        ("checkpoint", lambda: _checkpoint(plan)),
        ("job store", lambda: _jobs(plan)),
        ("artifact store", lambda: _artifacts(plan)),
        ("exposure", lambda: _exposure(plan)),
        ("tokens", lambda: _tokens(plan)),
        ("ports", lambda: _ports(plan)),
        ("shutdown", lambda: _shutdown(plan)),
        ("resources", lambda: _resources(plan, address)),
        ("ray", lambda: _ray(plan, address)),
    )
    for subject, check in checks:
        try:
            for verdict, message in check():
                yield Finding(subject, verdict, message)
        except EmotiveTalkError as error:
            yield Finding(subject, Verdict.FAILURE, str(error))


def _checkpoint(plan: LaunchPlan) -> Iterator[tuple[Verdict, str]]:
    folder = find_checkpoint(plan.config.checkpoint)
    try:
        size = CheckpointPlans(folder).image_size
    except (OSError, KeyError, ValueError) as error:
        yield Verdict.FAILURE, f"{folder} cannot be used: {error}. Export it again."
        return
    missing = [name for name in ("vae", "ethd", "vaid") if not any((folder / name).glob("*.safetensors"))]
    if missing:
        yield Verdict.FAILURE, f"{folder} has no weights for {', '.join(missing)}. Export it again."
    else:
        yield Verdict.OK, f"{checkpoint_id(folder)}, {size} x {size}"


def _jobs(plan: LaunchPlan) -> Iterator[tuple[Verdict, str]]:
    if plan.config.jobs is None:
        plan.config.data_folder.mkdir(parents=True, exist_ok=True)
    store = job_store(plan.config)
    try:
        store.check()
    finally:
        store.close()
    kind = plan.config.jobs_url.partition(":")[0]
    yield Verdict.OK, f"{kind} answers and accepts writes"
    directors = plan.options.get("director", {}).get("num_replicas") or 1
    if kind == "sqlite" and isinstance(directors, int) and directors > 1:
        yield Verdict.WARNING, "SQLite works on one machine only; use PostgreSQL for several directors."


def _artifacts(plan: LaunchPlan) -> Iterator[tuple[Verdict, str]]:
    store = ArtifactStore(plan.config.artifacts_url)
    store.check()
    yield Verdict.OK, f"{plan.config.artifacts_url} accepts files"


def _exposure(plan: LaunchPlan) -> Iterator[tuple[Verdict, str]]:
    check_exposure(plan)
    grpc = plan.config.grpc
    if not is_loopback(plan.host):
        yield (
            Verdict.WARNING,
            f"HTTP on {plan.host} is not encrypted: put a TLS proxy in front of it, or bind to 127.0.0.1.",
        )
    if grpc.port is not None and not is_loopback(grpc.host) and grpc.certificate is None:
        yield Verdict.WARNING, f"gRPC on {grpc.host} sends tokens unencrypted: set grpc.certificate and grpc.key."
    if (grpc.certificate is None) != (grpc.key is None):
        yield Verdict.FAILURE, "grpc.certificate and grpc.key need each other: set both or none."
    for file in (grpc.certificate, grpc.key):
        if file is not None and not file.is_file():
            yield Verdict.FAILURE, f"{file} does not exist."
    if is_loopback(plan.host) and (grpc.port is None or is_loopback(grpc.host)):
        yield Verdict.OK, "only this machine can reach the service"


def _tokens(plan: LaunchPlan) -> Iterator[tuple[Verdict, str]]:
    gateway = plan.config.gateway
    tokens = gateway.tokens
    if gateway.tokens_file is not None and gateway.tokens_file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        yield (
            Verdict.WARNING,
            f"other users may read {gateway.tokens_file}: chmod 600, or store hashes in it (sha256:...).",
        )
    if gateway.allow_anonymous:
        yield Verdict.OK, "callers on this machine need no token"
    else:
        yield Verdict.OK, f"{len(tokens)} tokens"
    if gateway.secret() is None:
        yield Verdict.WARNING, "there is no webhook secret, so requests with a webhook are refused"


def _ports(plan: LaunchPlan) -> Iterator[tuple[Verdict, str]]:
    taken = [
        f"{host}:{port}"
        for host, port in ((plan.host, plan.port), (plan.config.grpc.host, plan.config.grpc.port))
        if port and not _is_free(host, port)
    ]
    if taken:
        yield (
            Verdict.WARNING,
            f"{' and '.join(taken)} is in use: by this service if it runs already, else choose another",
        )
    else:
        yield Verdict.OK, "free"


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _shutdown(plan: LaunchPlan) -> Iterator[tuple[Verdict, str]]:
    short = []
    for name, min_s in MIN_SHUTDOWN_S.items():
        timeout_s = {**DEFAULTS[name], **plan.options.get(name, {})}["graceful_shutdown_timeout_s"]
        if timeout_s < min_s:
            short.append(f"{name}: {timeout_s:g} s, at least {min_s:g} s")
    if short:
        yield Verdict.FAILURE, f"graceful_shutdown_timeout_s is shorter than a call may last ({'; '.join(short)})"
    else:
        yield Verdict.OK, "replicas can finish their calls before they stop"
    director = plan.config.director
    if director.lease_s < 4 * director.renew_s:
        yield (
            Verdict.FAILURE,
            f"lease_s is {director.lease_s:g}; it must be at least 4 times renew_s, which is {director.renew_s:g}",
        )


def _resources(plan: LaunchPlan, address: str | None) -> Iterator[tuple[Verdict, str]]:
    reserved = {"num_cpus": 0.0, "num_gpus": 0.0}
    for name in DEFAULTS:
        options = plan.options.get(name, {})
        for resource in reserved:
            each = (options.get("ray_actor_options") or {}).get(resource, 1.0 if resource == "num_cpus" else 0.0)
            reserved[resource] += each * _min_replicas(options)
    message = f"at least {reserved['num_cpus']:g} CPUs and {reserved['num_gpus']:g} GPUs are reserved"
    if address is not None:
        yield Verdict.OK, message
        return
    num_cpus = os.cpu_count() or 1
    if reserved["num_cpus"] > num_cpus:
        yield (
            Verdict.FAILURE,
            f"{message}; this machine has {num_cpus} CPUs. Reserve less (ray_actor_options.num_cpus).",
        )
    else:
        yield Verdict.OK, f"{message}, of {num_cpus} CPUs"
    shared = Path("/dev/shm")
    if shared.is_dir() and (free := shutil.disk_usage(shared).free) < MIN_SHARED_MEMORY:
        yield (
            Verdict.WARNING,
            f"/dev/shm has {free >> 20} MiB free: Ray stores latents there, or else on the disk, which is slow. "
            "Start containers with --shm-size=2g.",
        )


def _min_replicas(options: Any) -> int:
    scaling = options.get("autoscaling_config")
    if isinstance(scaling, dict):
        return int(scaling.get("min_replicas", 1))
    number = options.get("num_replicas")
    return number if isinstance(number, int) else 1


def _ray(plan: LaunchPlan, address: str | None) -> Iterator[tuple[Verdict, str]]:
    mode = os.environ.get("RAY_AUTH_MODE", "token" if address is None else "")
    if mode == "token":
        yield Verdict.OK, "the cluster requires a token"
        return
    verdict = Verdict.WARNING if address is None and is_loopback(plan.host) else Verdict.FAILURE
    yield (
        verdict,
        "Ray requires no token, so everybody who can reach it can run code on it. "
        "Set RAY_AUTH_MODE=token for every node and for this command.",
    )
