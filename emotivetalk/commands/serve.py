"""`emotivetalk serve`: run the service over HTTP and gRPC."""

from pathlib import Path
from typing import Annotated

import typer

from emotivetalk.output import say


def serve(
    config: Annotated[
        Path | None, typer.Argument(help="YAML of Ray Serve's schema; the default is serve_configs/local.yaml.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address for HTTP; the default is the YAML's, else loopback.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port for HTTP.")] = None,
    grpc_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port for gRPC.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder for jobs and videos.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint folder; the default is the starter.")] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Port for Prometheus metrics of the processes; the default is any free one."
        ),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Address of a running Ray cluster; by default one is started on this machine.")
    ] = None,
) -> None:
    """Serve videos over HTTP and gRPC until Ctrl-C.

    \b
    Example:
      emotivetalk serve
      curl -F portrait=@me.png -F audio=@hello.wav -F emotion=happy:0.8 http://127.0.0.1:8000/v1/videos
    """
    import dataclasses

    from emotivetalk.actors.serving.launch import CONFIGS, Service, read_plan

    plan = read_plan(config or CONFIGS / "local.yaml")
    changes: dict[str, object] = {}
    if data is not None:
        changes["data"] = data.resolve()
    if checkpoint is not None:
        changes["checkpoint"] = checkpoint
    if grpc_port is not None:
        changes["grpc"] = plan.config.grpc.model_copy(update={"port": grpc_port})
    plan = dataclasses.replace(
        plan, host=host or plan.host, port=port or plan.port, config=plan.config.model_copy(update=changes)
    )
    say("starting: Ray, gateway, director, V-AID, ETHD, decoder", err=True)
    with Service(plan, address, metrics_port=metrics_port) as service:
        say(f"ready: http://{plan.host}:{plan.port}/v1/videos (docs: /docs)", err=True)
        if plan.config.grpc.port is not None:
            say(f"gRPC: {plan.config.grpc.host}:{plan.config.grpc.port}", err=True)
        say(f"jobs and videos: {plan.config.data_folder}; stop with Ctrl-C", err=True)
        service.wait_for_stop()
        say("stopping: unfinished videos resume at the next start", err=True)
