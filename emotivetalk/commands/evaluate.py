"""`emotivetalk evaluate`: how well a checkpoint does, beside its ceiling and its floor."""

from pathlib import Path
from typing import Annotated

import typer

from emotivetalk.checkpoint import find_checkpoint
from media.errors import InputError
from media.files import quoted


def evaluate(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="A checkpoint folder; without it, the starter that ships with the project."),
    ] = None,
    corpus: Annotated[Path, typer.Option(help="A corpus with held-out people, from `emotivetalk synthesize`.")] = Path(
        "build/corpus/starter"
    ),
    clips: Annotated[int, typer.Option(min=1, help="How many held-out clips are measured.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Draws the clips and the noise.")] = 0,
    output: Annotated[Path, typer.Option("-o", "--output", help="The report's folder.")] = Path("build/evaluation"),
) -> None:
    """Measure lips, emotion, identity and drift of a checkpoint on people, voices and sentences it never met.

    \b
    Example:
      emotivetalk evaluate checkpoints/starter --corpus build/corpus/starter -o build/evaluation
    """
    folder = find_checkpoint(checkpoint)
    if not corpus.is_dir():
        message = f"there is no corpus at {quoted(corpus)}"
        raise InputError("corpus_missing", message, f"Make one with `emotivetalk synthesize -o {corpus}`.")
    if output.exists() and not output.is_dir():
        raise InputError("output_not_folder", f"output {quoted(output)} is not a folder", "Give a folder's name.")

    from evaluation.report import write_report

    report = write_report(folder, corpus, output, num_clips=clips, seed=seed)
    typer.echo(report)
