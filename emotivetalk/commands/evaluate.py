"""`emotivetalk evaluate`: how well a checkpoint does, beside its ceiling and its floor."""

from pathlib import Path
from typing import Annotated

import typer

from emotivetalk.commands.evaluation_options import DEFAULT_CORPUS, Checkpoint, Corpus, Reader, Seed, Steps
from emotivetalk.errors import InputError
from emotivetalk.files import quoted
from emotivetalk.media.checkpoints import checkpoint_id, find_checkpoint
from emotivetalk.resources import find_config

FAILED = 1


def evaluate(
    checkpoint: Checkpoint = None,
    corpus: Corpus = DEFAULT_CORPUS,
    output: Annotated[Path, typer.Option("-o", "--output", help="The report's folder.")] = Path("build/evaluation"),
    reader: Reader = None,
    part: Annotated[bool, typer.Option("--slice", help="A small part, in about a minute.")] = False,
    steps: Steps = None,
    seed: Seed = 0,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail with exit status 1 if a figure misses what must hold.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(help="Fail with exit status 1 if a row falls by more than its interval in this file."),
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Write the rows into this file, for --against.")] = None,
    real: Annotated[
        Path | None, typer.Option(help="A folder of real videos: the field's metrics, instead of a corpus's truth.")
    ] = None,
    generated: Annotated[
        Path | None,
        typer.Option(help="With --real: generated videos of the same names; without it the checkpoint makes them."),
    ] = None,
    by_video: Annotated[
        bool, typer.Option("--by-video", help="With --real: the real videos' expressions drive the face too.")
    ] = False,
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="With --real: a metric's network, as TorchScript; may be given again."),
    ] = None,
) -> None:
    """Measure lips, emotion, pictures and drift of a checkpoint on people, voices and sentences it never met.

    With --real, FID, FVD, E-FID, Sync-C, Sync-D, CSIM, LPIPS, PSNR and SSIM of videos beside real ones; docs/evaluation.md
    says which weights they want.

    \b
    Example:
      emotivetalk evaluate checkpoints/starter --corpus build/corpus/starter -o build/evaluation
      emotivetalk evaluate --slice --against evaluation/reference.json
      emotivetalk evaluate --real clips --generated made --weights i3d=i3d.pt
    """
    if output.exists() and not output.is_dir():
        raise InputError("output_not_folder", f"output {quoted(output)} is not a folder", "Give a folder's name.")
    if real is not None:
        if part or strict or against or keep:
            raise typer.BadParameter("--real goes without --slice, --strict, --against and --keep.")
        _evaluate_real(checkpoint, real, generated, output, weights or [], steps, seed, by_video)
        return
    if generated is not None or weights or by_video:
        raise typer.BadParameter("--generated, --weights and --by-video go with --real.")
    folder = find_checkpoint(checkpoint)
    instrument = find_reader(reader)
    check_corpus(corpus)
    if against is not None:
        against = find_config(against, "evaluation")

    from emotivetalk.evaluation.evaluate import evaluate as measure
    from emotivetalk.evaluation.figures import Settings
    from emotivetalk.evaluation.reader import Reader
    from emotivetalk.evaluation.reference import falls, read_reference, reference_of, write_reference
    from emotivetalk.evaluation.report import write_report
    from emotivetalk.models.pipeline import load_pipeline
    from emotivetalk.progress import progress_bar

    reference = None if against is None else read_reference(against)
    settings = Settings.slice(steps, seed) if part else Settings(num_steps=steps, seed=seed)
    network = Reader.from_pretrained(instrument)
    with progress_bar("frames") as bar:
        report = measure(load_pipeline(folder), network, corpus, settings, progress=bar.at)
    typer.echo(write_report(report, checkpoint_id(folder), output))
    for figure in report.failures:
        typer.echo(f"misses what must hold: {figure.title}, {figure.value.value:.2f} {figure.unit}".rstrip(), err=True)
    fallen = [] if reference is None else falls(report, reference)
    for fall in fallen:
        typer.echo(f"fell: {fall}", err=True)
    if keep is not None:
        write_reference(reference_of(report, checkpoint_id(folder)), keep)
    if fallen or (strict and report.failures):
        raise typer.Exit(FAILED)


def _evaluate_real(
    checkpoint: Path | None,
    real: Path,
    generated: Path | None,
    output: Path,
    options: list[str],
    steps: int | None,
    seed: int,
    by_video: bool,
) -> None:
    from emotivetalk.evaluation.real.generation import generate_again
    from emotivetalk.evaluation.real.measure import measure_folders
    from emotivetalk.evaluation.real.report import write_real_report
    from emotivetalk.evaluation.real.weights import weights_from
    from emotivetalk.progress import progress_bar

    weights = weights_from(options)
    made = str(generated)
    if generated is None:
        from emotivetalk.models.pipeline import load_pipeline

        folder = find_checkpoint(checkpoint)
        made = checkpoint_id(folder)
        with progress_bar("clips generated") as bar:
            real, generated = generate_again(
                load_pipeline(folder), real, output, seed=seed, num_steps=steps, by_video=by_video, progress=bar.at
            )
    with progress_bar("clips compared") as bar:
        report = measure_folders(real, generated, weights, progress=bar.at)
    typer.echo(write_real_report(report, str(real), made, output))
    for line in report.lacks:
        typer.echo(line)


def check_corpus(corpus: Path) -> None:
    """Raises InputError where there is no folder."""
    if not corpus.is_dir():
        message = f"there is no corpus at {quoted(corpus)}"
        raise InputError("corpus_missing", message, f"Make one with `emotivetalk synthesize -o {corpus}`.")


def find_reader(folder: Path | None) -> Path:
    """The reader's folder that the user named, or the one that ships beside the starter.

    Raises:
        InputError: there is no network there.
    """
    from emotivetalk.media.checkpoints import STARTER

    found = STARTER.with_name("reader") if folder is None else folder
    if not (found / "config.json").is_file():
        raise InputError(
            "reader_missing",
            f"there is no reader at {quoted(found)}",
            "Train one with `emotivetalk train train_configs/reader_starter.yaml`, and name it with --reader.",
        )
    return found
