"""`emotivetalk doctor`: is this deployment safe, and will it work?"""

from pathlib import Path
from typing import Annotated

import typer


def doctor(
    config: Annotated[
        Path | None, typer.Argument(help="A YAML of Ray Serve's schema (default: serve_configs/local.yaml).")
    ] = None,
    address: Annotated[str | None, typer.Option(help="The Ray cluster that it is meant for.")] = None,
) -> None:
    """Check a deployment for what is unsafe or will not work. Exit status 1 if something must be changed.

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
        typer.echo(f"{marks[finding.verdict]}  {finding.subject}: {finding.message}")
        failures += finding.verdict is Verdict.FAILURE
    if failures:
        raise typer.Exit(1)
