"""`emotivetalk evaluate`: how well a checkpoint does, beside its ceiling and its floor."""

from pathlib import Path
from typing import Annotated

import typer

from media.checkpoints import checkpoint_id, find_checkpoint
from media.errors import InputError
from media.files import quoted

FAILED = 1


def evaluate(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="A checkpoint folder; without it, the starter that ships with the project."),
    ] = None,
    corpus: Annotated[Path, typer.Option(help="A corpus with held-out people, from `emotivetalk synthesize`.")] = Path(
        "build/corpus/starter"
    ),
    output: Annotated[Path, typer.Option("-o", "--output", help="The report's folder.")] = Path("build/evaluation"),
    reader: Annotated[
        Path | None, typer.Option(help="The network that reads the frames; without it, the one that ships.")
    ] = None,
    part: Annotated[bool, typer.Option("--slice", help="A small part, in less than a minute.")] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Denoising steps [default: the checkpoint's].")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the noise.")] = 0,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail with exit status 1 if a figure misses what must hold.")
    ] = False,
) -> None:
    """Measure lips, emotion, pictures and drift of a checkpoint on people, voices and sentences it never met.

    \b
    Example:
      emotivetalk evaluate checkpoints/starter --corpus build/corpus/starter -o build/evaluation
      emotivetalk evaluate --slice -o build/evaluation
    """
    folder = find_checkpoint(checkpoint)
    instrument = find_reader(reader)
    if not corpus.is_dir():
        message = f"there is no corpus at {quoted(corpus)}"
        raise InputError("corpus_missing", message, f"Make one with `emotivetalk synthesize -o {corpus}`.")
    if output.exists() and not output.is_dir():
        raise InputError("output_not_folder", f"output {quoted(output)} is not a folder", "Give a folder's name.")

    from emotivetalk.progress import progress_bar
    from evaluation.evaluate import evaluate as measure
    from evaluation.figures import Settings
    from evaluation.reader import Reader
    from evaluation.report import write_report
    from models.pipeline import load_pipeline

    settings = Settings.slice(steps, seed) if part else Settings(num_steps=steps, seed=seed)
    network = Reader.from_pretrained(instrument)
    with progress_bar("frames") as bar:
        report = measure(load_pipeline(folder), network, corpus, settings, progress=bar.at)
    typer.echo(write_report(report, checkpoint_id(folder), output))
    for figure in report.failures:
        typer.echo(f"misses what must hold: {figure.title}, {figure.value.value:.2f} {figure.unit}".rstrip(), err=True)
    if strict and report.failures:
        raise typer.Exit(FAILED)


def find_reader(folder: Path | None) -> Path:
    """The reader's folder that the user named, or the one that ships beside the starter.

    Raises:
        InputError: there is no network there.
    """
    from media.checkpoints import STARTERS

    candidates = [starter.with_name("reader") for starter in STARTERS] if folder is None else [folder]
    found = next((path for path in candidates if (path / "config.json").is_file()), None)
    if found is None:
        raise InputError(
            "reader_missing",
            f"there is no reader at {quoted(candidates[0])}",
            "Train one with `emotivetalk train train_configs/reader_starter.yaml`, and name it with --reader.",
        )
    return found
