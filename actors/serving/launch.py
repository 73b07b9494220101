"""`emotivetalk serve`: from a YAML in `serve_configs/` to a running service."""

from __future__ import annotations

import atexit
import difflib
import ipaddress
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from emotivetalk.actors.serving.config import ServingConfig, WaitingVideoSettings
from emotivetalk.actors.serving.gateway.http.connections import proxy_environment
from emotivetalk.actors.serving.liveness import ClusterWatch
from emotivetalk.errors import EmotiveTalkError, InputError
from emotivetalk.media.checkpoints import find_checkpoint
from emotivetalk.resources import find_config, shipped_folder

CONFIGS = shipped_folder("serve_configs")
# Larger results stay in the object store. Ray's default would put small latents into the director's memory.
SYSTEM_CONFIG = {"max_direct_call_object_size": 4096}
WATCH_S = 1.0
WAITING_VIDEO_POLICY = "emotivetalk.actors.serving.autoscaling:WaitingVideoPolicy"


@dataclass(frozen=True)
class LaunchPlan:
    """A parsed YAML of Ray Serve's schema with this one application.

    Attributes:
        options: options of `serve.deployment`, by deployment.
        logging_config: Serve's logging of proxy, controller and deployments without their own; None is Serve's default.
    """

    host: str
    port: int
    config: ServingConfig
    options: Mapping[str, Mapping[str, Any]]
    logging_config: Mapping[str, Any] | None = None


def read_plan(path: Path) -> LaunchPlan:
    """Read and check a configuration.

    Raises:
        InputError: the file cannot be read, does not match Serve's schema, or has an unknown setting.
    """
    from ray.serve.schema import ServeDeploySchema

    path = find_config(path, "serve_configs")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError("config_unreadable", f"{path} cannot be read: {error}", "Correct it.") from error
    if not isinstance(document, dict):
        raise InputError("config_invalid", f"{path} is not a mapping", "See serve_configs/local.yaml.")
    try:
        schema = ServeDeploySchema.model_validate(document)
    except (ValidationError, ValueError) as error:
        raise _invalid(path, error) from error
    ours = [app for app in schema.applications if app.import_path == "emotivetalk.actors.serving.app:build"]
    if len(ours) != 1 or len(schema.applications) != 1:
        raise InputError(
            "config_invalid",
            f"{path} has {len(ours)} applications of emotivetalk.actors.serving.app:build among {len(schema.applications)}",
            "`emotivetalk serve` runs exactly one; deploy others with `serve deploy`.",
        )
    try:
        config = ServingConfig.model_validate(ours[0].args or {})
    except ValidationError as error:
        raise _invalid(path, error) from error
    options = {}
    for deployment in ours[0].deployments:
        given = deployment.model_dump(exclude_unset=True)
        options[given.pop("name")] = given
    _check_policies(path, config, options)
    http = document.get("http_options") or {}
    logs = ours[0].logging_config or schema.logging_config
    return LaunchPlan(
        str(http.get("host", "127.0.0.1")),
        int(http.get("port", 8000)),
        config,
        options,
        None if logs is None else logs.model_dump(exclude_unset=True),
    )


def _check_policies(path: Path, config: ServingConfig, options: Mapping[str, Mapping[str, Any]]) -> None:
    """Check the autoscaling policy's settings, which Serve would first see in its controller."""
    for name, given in options.items():
        policy = (given.get("autoscaling_config") or {}).get("policy") or {}
        if policy.get("policy_function") != WAITING_VIDEO_POLICY:
            continue
        try:
            settings = WaitingVideoSettings.model_validate(policy.get("policy_kwargs") or {})
        except ValidationError as error:
            raise _invalid(path, error) from error
        if settings.jobs_url != config.jobs_url:
            raise InputError(
                "config_invalid",
                f"{path}: {name}'s autoscaling policy reads another job store than the service",
                "Give policy_kwargs the jobs (or data) of args; a YAML anchor keeps them equal.",
            )


def check_exposure(plan: LaunchPlan) -> None:
    """Refuse anonymous callers from other machines.

    Raises:
        InputError: callers need no token, and other machines can reach the service.
    """
    for setting, host in (("http_options.host", plan.host), ("grpc.host", plan.config.grpc.host)):
        if plan.config.gateway.allow_anonymous and not is_loopback(host):
            raise InputError(
                "serve_exposed",
                f"{setting} is {host}, which other machines can reach, while gateway.allow_anonymous admits callers "
                "without a token",
                "Bind to 127.0.0.1, or set gateway.tokens_file and leave allow_anonymous off.",
            )


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Service:
    """A running service, on a Ray cluster that this process starts or joins.

    Args:
        address: address of a running Ray cluster; None starts one on this machine.
        num_cpus: CPUs of the cluster started here; None: all.
        runtime_env: Ray's runtime environment of all processes of the service.
        metrics_port: Prometheus port of the cluster started here; None: any free port.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        address: str | None = None,
        num_cpus: int | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        metrics_port: int | None = None,
    ) -> None:
        self.plan, self._address, self._num_cpus = plan, address, num_cpus
        self._runtime_env, self._metrics_port = dict(runtime_env or {}), metrics_port
        self._lost: ClusterWatch | None = None

    def __enter__(self) -> Service:
        """Start the service and wait until it is ready.

        Raises:
            EmotiveTalkError: Ray cannot be used, or a deployment does not start.
        """
        import ray
        from ray import serve

        plan = self.plan
        check_exposure(plan)
        find_checkpoint(plan.config.checkpoint)  # fails before anything is started
        plan.config.data_folder.mkdir(parents=True, exist_ok=True)
        traces = {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
        variables = {
            "OMP_NUM_THREADS": str(plan.config.threads),
            **proxy_environment(plan.config.gateway.header_timeout_s),
            **traces,
            **self._runtime_env.get("env_vars", {}),
        }
        environment = {**self._runtime_env, "env_vars": variables}
        try:
            if self._address is not None:
                ray.init(self._address, runtime_env=environment, log_to_driver=False)
            else:
                ray.init(
                    num_cpus=self._num_cpus,
                    include_dashboard=False,
                    runtime_env=environment,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                    _metrics_export_port=self._metrics_port,
                    _system_config=dict(SYSTEM_CONFIG),
                )
        except (ConnectionError, RuntimeError, OSError) as error:
            raise EmotiveTalkError(
                "ray_unavailable", f"Ray cannot be used: {_first_line(error)}", "See `emotivetalk doctor`."
            ) from error
        try:
            logs = None if plan.logging_config is None else dict(plan.logging_config)
            serve.start(http_options={"host": plan.host, "port": plan.port}, logging_config=logs)
            self.deploy(plan)
        except Exception as error:
            self.__exit__()
            raise EmotiveTalkError(
                "serve_failed",
                f"the service does not start: {_cause(error)}",
                "See the logs in /tmp/ray/session_latest.",
            ) from error
        return self

    @staticmethod
    def deploy(plan: LaunchPlan) -> None:
        """Deploy or update the application, and wait until it is ready."""
        from ray import serve

        from emotivetalk.actors.serving.app import DEFAULTS, build_with

        options = plan.options
        if plan.logging_config is not None:
            logs = {"logging_config": dict(plan.logging_config)}
            options = {name: {**logs, **options.get(name, {})} for name in DEFAULTS | dict(options)}
        serve.run(build_with(plan.config, options), name="emotivetalk", route_prefix="/")

    def __exit__(self, *error: object) -> None:
        import ray
        from ray import serve

        if self._lost is not None:
            self._leave_lost(self._lost)
            return
        serve.shutdown()
        ray.shutdown()

    def wait_for_stop(self) -> None:
        """Wait for Ctrl-C or SIGTERM.

        Raises:
            EmotiveTalkError: code "cluster_lost": the Ray cluster has died, so the service cannot go on.
        """
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        watch = ClusterWatch.of_this_process()
        while not stop.wait(WATCH_S):
            fault = watch.fault()
            if fault is not None:
                self._lost = watch
                raise EmotiveTalkError(
                    "cluster_lost",
                    f"the Ray cluster of the service is gone: {fault}",
                    "Start the service again; unfinished videos resume. deploy/systemd has a unit that does it.",
                )

    @staticmethod
    def _leave_lost(watch: ClusterWatch) -> None:
        """End the processes of a dead cluster. Ray's own shutdown would wait for answers that cannot come."""
        import ray
        from ray._private.worker import global_worker

        watch.end_workers()
        node: Any = global_worker.node
        if node.is_head():  # this process started the cluster
            node.kill_all_processes(check_alive=False, allow_graceful=False)
        atexit.unregister(ray.shutdown)
        atexit.register(_exit_at_once)


def _exit_at_once() -> None:
    """End this process with status 1. Python's own end would destroy Ray's threads while they wait, and crash."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _invalid(path: Path, error: ValueError) -> InputError:
    if not isinstance(error, ValidationError):
        return InputError("config_invalid", f"{path}: {_first_line(error)}", "Correct it.")
    first = error.errors(include_url=False)[0]
    setting = ".".join(str(part) for part in first["loc"])
    remedy = "Correct it."
    if first["type"] == "extra_forbidden":
        closest = difflib.get_close_matches(str(first["loc"][-1]), _all_fields(), n=1)
        remedy = f"Did you mean {closest[0]}?" if closest else "Remove it."
    return InputError("config_invalid", f"{path}: {setting}: {first['msg'].rstrip('.')}", remedy)


def _all_fields() -> list[str]:
    """Return the names of all settings, for suggestions."""
    text = str(ServingConfig.model_json_schema()["$defs"])
    text += str([*ServingConfig.model_fields, *WaitingVideoSettings.model_fields])
    return sorted(set(re.findall(r"'([a-z_0-9]+)'", text)))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _cause(error: BaseException) -> str:
    """Return the last non-empty line of an error that came through Ray."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
