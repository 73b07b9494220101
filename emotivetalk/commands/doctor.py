"""`emotivetalk doctor`: check a deployment before it starts."""

from pathlib import Path
from typing import Annotated

import typer

from emotivetalk.output import say


def doctor(
    config: Annotated[
        Path | None, typer.Argument(help="YAML of Ray Serve's schema; the default is serve_configs/local.yaml.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="Address of the Ray cluster that the deployment is for.")] = None,
) -> None:
    """Check that a deployment is safe and will work. Exit with status 1 if something must be changed.

    \b
    Example:
      emotivetalk doctor serve_configs/cluster.yaml --address auto
    """
    from emotivetalk.actors.serving.doctor import Verdict, examine
    from emotivetalk.actors.serving.launch import CONFIGS, read_plan

    path = config or CONFIGS / "local.yaml"
    marks = {Verdict.OK: "ok     ", Verdict.WARNING: "WARNING", Verdict.FAILURE: "FAILURE"}
    failures = 0
    for finding in examine(read_plan(path), address):
        say(f"{marks[finding.verdict]}  {finding.subject}: {finding.message}", is_result=True)
        failures += finding.verdict is Verdict.FAILURE
    if failures:
        raise typer.Exit(1)
