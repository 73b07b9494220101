"""`emotivetalk train`: run one training stage from a YAML."""

from pathlib import Path
from typing import Annotated

import typer

from emotivetalk.output import say

STOPPED = 130


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A training YAML, such as those in train_configs/.")],
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the run's last training checkpoint.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the YAML; may be repeated."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of Ray workers to train on; by default this process trains.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Address of a running Ray cluster; by default one is started on this machine.")
    ] = None,
    zero: Annotated[
        int | None, typer.Option(min=0, max=3, help="DeepSpeed's ZeRO stage (the YAML's zero); 0 shards nothing.")
    ] = None,
    loaders: Annotated[
        int, typer.Option(min=0, help="Number of processes that make batches; with 0 the workers make them.")
    ] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Estimate memory and time of the run, and train nothing.")
    ] = False,
) -> None:
    """Train one stage and write its networks into a checkpoint folder.

    Ctrl-C finishes the current step and saves. The same command with --resume continues, with any number of workers.

    \b
    Example:
      emotivetalk train train_configs/autoencoder_debug.yaml --set steps=20 --set optimizer.learning_rate=0.001
      emotivetalk train train_configs/ethd_starter.yaml --workers 2 --set threads=1
    """
    from rich.console import Console

    from emotivetalk.training.run.config import load_config

    overrides = [*(settings or ()), *([] if zero is None else [f"zero={zero}"])]
    run_config = load_config(config, overrides)
    if dry_run:
        from emotivetalk.actors.training.estimate import dry_run as estimate
        from emotivetalk.actors.training.launch_checks import check
        from emotivetalk.training.stages.registry import stage_class

        check(run_config, workers or 1, loaders)
        estimate(stage_class(run_config.name)(run_config.stage), run_config, workers or 1, Console())
        return
    if workers is None:
        if address is not None:
            raise typer.BadParameter("--address needs --workers, the number of the cluster's workers to train on.")
        if loaders:
            raise typer.BadParameter("--loaders needs --workers; without Ray this process makes the batches.")
        from emotivetalk.training.run.loop import train as run_training

        result = run_training(run_config, resume=resume)
    else:
        from emotivetalk.actors.training.driver import Launch, train_on_ray

        result = train_on_ray(run_config, Launch(workers, address, loaders), resume=resume)
    if not result.is_finished:
        say("Go on with the same command and --resume.")
        raise typer.Exit(STOPPED)
