"""`emotivetalk ablate`: remove one part of a checkpoint, retrain if needed, and measure the result."""

from pathlib import Path
from typing import Annotated

import typer

from emotivetalk.commands.evaluate import check_corpus, find_readers
from emotivetalk.commands.evaluation_options import (
    DEFAULT_CORPUS,
    CheckpointArgument,
    CorpusOption,
    NumStepsOption,
    ReaderOption,
    SeedOption,
)
from emotivetalk.errors import InputError
from emotivetalk.files import quoted
from emotivetalk.media.checkpoints import checkpoint_id, find_checkpoint
from emotivetalk.output import say

STOPPED = 130


def ablate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the ablation; --list shows all.")] = "",
    checkpoint: CheckpointArgument = None,
    show: Annotated[bool, typer.Option("--list", help="List the ablations and exit.")] = False,
    corpus: CorpusOption = DEFAULT_CORPUS,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the report [default: build/ablations/NAME].")
    ] = None,
    reader: ReaderOption = None,
    part: Annotated[bool, typer.Option("--slice", help="Measure a small part, in about a minute.")] = False,
    num_steps: NumStepsOption = None,
    seed: SeedOption = 0,
    size: Annotated[
        str, typer.Option(help="Size of the training YAMLs: train_configs/<stage>_<size>.yaml.")
    ] = "starter",
    control: Annotated[
        bool, typer.Option("--control", help="Train the same with nothing removed, for comparison.")
    ] = False,
    training_corpus: Annotated[
        Path | None, typer.Option(help="Corpus to train on; the default is the one in the training YAMLs.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a key of every training YAML, such as steps=400; may be repeated.",
        ),
    ] = None,
) -> None:
    """Remove one part of a checkpoint and measure the effect.

    Ablations that need training start from the checkpoint's other networks, train in the report's folder, and resume an
    unfinished run. The report holds only the figures that concern the part.

    \b
    Example:
      emotivetalk ablate no-edi -o build/ablations/no-edi
      emotivetalk ablate no-push-loss --set steps=400
      emotivetalk ablate no-push-loss --set steps=400 --control
    """
    from emotivetalk.evaluation.ablations import ABLATIONS, control_of, find_ablation

    if show or not name:
        for ablation in ABLATIONS:
            stages = ", ".join(lesson.stage for lesson in ablation.trains)
            say(f"{ablation.name}: {ablation.title}" + (f" (trains {stages})" if stages else ""), is_result=True)
        return
    ablation, folder, readers = find_ablation(name), find_checkpoint(checkpoint), find_readers(reader)
    if control:
        ablation = control_of(ablation)
    check_corpus(corpus)
    output = Path("build/ablations") / ablation.name if output is None else output
    if output.exists() and not output.is_dir():
        raise InputError("output_not_folder", f"output {quoted(output)} is not a folder", "Give a folder's name.")

    from emotivetalk.evaluation.ablations import settings_of
    from emotivetalk.evaluation.evaluate import evaluate as measure
    from emotivetalk.evaluation.reader import load_readers
    from emotivetalk.evaluation.report import write_report
    from emotivetalk.evaluation.settings import EvaluationSettings
    from emotivetalk.models.pipeline import load_pipeline
    from emotivetalk.progress import progress_bar
    from emotivetalk.training.ablation import train_ablation

    measured: Path | None = folder
    if ablation.trains:
        measured = train_ablation(ablation, folder, output / "training", training_corpus, size, settings or [])
    if measured is None:
        say("Go on with the same command.")
        raise typer.Exit(STOPPED)
    whole = EvaluationSettings.slice(num_steps, seed) if part else EvaluationSettings(num_steps=num_steps, seed=seed)
    with progress_bar("frames") as bar:
        report = measure(
            load_pipeline(measured),
            load_readers(readers),
            corpus,
            settings_of(ablation, whole),
            progress=bar.at,
            ablation=ablation,
        )
    say(write_report(report, checkpoint_id(measured), output, ablation))
