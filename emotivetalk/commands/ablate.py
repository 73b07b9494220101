"""`emotivetalk ablate`: a checkpoint without one of its parts, trained again where that takes training, measured."""

from pathlib import Path
from typing import Annotated

import typer

from emotivetalk.commands.evaluate import check_corpus, find_reader
from emotivetalk.commands.evaluation_options import DEFAULT_CORPUS, Checkpoint, Corpus, Reader, Seed, Steps
from emotivetalk.errors import InputError
from emotivetalk.media.checkpoints import checkpoint_id, find_checkpoint
from emotivetalk.media.files import quoted

STOPPED = 130


def ablate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which one; `--list` names them all.")] = "",
    checkpoint: Checkpoint = None,
    show: Annotated[bool, typer.Option("--list", help="Name the ablations, and do nothing.")] = False,
    corpus: Corpus = DEFAULT_CORPUS,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The report's folder [default: build/ablations/NAME].")
    ] = None,
    reader: Reader = None,
    part: Annotated[bool, typer.Option("--slice", help="Measure a small part only.")] = False,
    steps: Steps = None,
    seed: Seed = 0,
    size: Annotated[str, typer.Option(help="Of the training YAMLs: train_configs/<stage>_<size>.yaml.")] = "starter",
    control: Annotated[
        bool, typer.Option("--control", help="Train the same with nothing taken away: what to compare with.")
    ] = False,
    training_corpus: Annotated[
        Path | None, typer.Option(help="To train on, if not on what the training YAMLs name.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override one key of all of them, such as steps=400."),
    ] = None,
) -> None:
    """Take one part away, and measure what that part was for.

    What needs training is trained from the checkpoint's other networks, in the report's folder, and goes on where it was;
    the rest is measured at once. The report has the figures that tell, and no others.

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
            typer.echo(f"{ablation.name}: {ablation.title}" + (f" (trains {stages})" if stages else ""))
        return
    ablation, folder, instrument = find_ablation(name), find_checkpoint(checkpoint), find_reader(reader)
    if control:
        ablation = control_of(ablation)
    check_corpus(corpus)
    output = Path("build/ablations") / ablation.name if output is None else output
    if output.exists() and not output.is_dir():
        raise InputError("output_not_folder", f"output {quoted(output)} is not a folder", "Give a folder's name.")

    from emotivetalk.evaluation.ablations import settings_of
    from emotivetalk.evaluation.evaluate import evaluate as measure
    from emotivetalk.evaluation.reader import Reader
    from emotivetalk.evaluation.report import write_report
    from emotivetalk.evaluation.settings import EvaluationSettings
    from emotivetalk.models.pipeline import load_pipeline
    from emotivetalk.progress import progress_bar
    from emotivetalk.training.ablation import train_ablation

    measured: Path | None = folder
    if ablation.trains:
        measured = train_ablation(ablation, folder, output / "training", training_corpus, size, settings or [])
    if measured is None:
        typer.echo("Go on with the same command.")
        raise typer.Exit(STOPPED)
    whole = EvaluationSettings.slice(steps, seed) if part else EvaluationSettings(num_steps=steps, seed=seed)
    with progress_bar("frames") as bar:
        report = measure(
            load_pipeline(measured),
            Reader.from_pretrained(instrument),
            corpus,
            settings_of(ablation, whole),
            progress=bar.at,
            ablation=ablation,
        )
    typer.echo(write_report(report, checkpoint_id(measured), output, ablation))
