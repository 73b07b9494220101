"""`emotivetalk train`: one stage of training, from a YAML."""

from pathlib import Path
from typing import Annotated

import typer

STOPPED = 130


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A training YAML, such as those in train_configs/.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last training checkpoint.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override one key of the YAML; may be given again."),
    ] = None,
) -> None:
    """Train one stage and write its networks into a checkpoint folder.

    Ctrl-C lets the step finish and saves; the same command with --resume goes on.

    \b
    Example:
      emotivetalk train train_configs/autoencoder_debug.yaml --set steps=20 --set optimizer.learning_rate=0.001
    """
    from training.config import load_config
    from training.loop import train as run_training

    result = run_training(load_config(config, settings or ()), resume=resume)
    if not result.is_finished:
        raise typer.Exit(STOPPED)
