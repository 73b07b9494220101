"""`emotivetalk evaluate`: measure a checkpoint and report it beside its ceiling and its floor."""

from pathlib import Path
from typing import Annotated

import typer

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
from emotivetalk.resources import find_config

FAILED = 1


def evaluate(
    checkpoint: CheckpointArgument = None,
    corpus: CorpusOption = DEFAULT_CORPUS,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the report.")] = Path("build/evaluation"),
    reader: ReaderOption = None,
    part: Annotated[bool, typer.Option("--slice", help="Measure a small part, in about a minute.")] = False,
    num_steps: NumStepsOption = None,
    seed: SeedOption = 0,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with status 1 if a figure misses its threshold.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(help="Exit with status 1 if a row falls by more than its interval in this file."),
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Write the rows to this file, for a later --against.")] = None,
    real: Annotated[
        Path | None,
        typer.Option(
            help="Folder of real videos: compute the field's metrics on them instead of measuring on a corpus."
        ),
    ] = None,
    generated: Annotated[
        Path | None,
        typer.Option(
            help="With --real: folder of generated videos of the same names; by default the checkpoint makes them."
        ),
    ] = None,
    by_video: Annotated[
        bool, typer.Option("--by-video", help="With --real: take the expressions from the real videos too.")
    ] = False,
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="With --real: network of a metric, as TorchScript; may be repeated."),
    ] = None,
) -> None:
    """Measure lips, emotion, picture quality and drift of a checkpoint on held-out people, voices and sentences.

    With --real, compute FID, FVD, E-FID, Sync-C, Sync-D, CSIM, LPIPS, PSNR and SSIM against real videos;
    docs/evaluation.md lists the weights that they need.

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
        _evaluate_real(checkpoint, real, generated, output, weights or [], num_steps, seed, by_video)
        return
    if generated is not None or weights or by_video:
        raise typer.BadParameter("--generated, --weights and --by-video go with --real.")
    folder = find_checkpoint(checkpoint)
    instrument = find_reader(reader)
    check_corpus(corpus)
    if against is not None:
        against = find_config(against, "evaluation")

    from emotivetalk.evaluation.evaluate import evaluate as measure
    from emotivetalk.evaluation.reader import Reader
    from emotivetalk.evaluation.reference import find_regressions, read_reference, reference_of, write_reference
    from emotivetalk.evaluation.report import write_report
    from emotivetalk.evaluation.settings import EvaluationSettings
    from emotivetalk.models.pipeline import load_pipeline
    from emotivetalk.progress import progress_bar

    reference = None if against is None else read_reference(against)
    settings = EvaluationSettings.slice(num_steps, seed) if part else EvaluationSettings(num_steps=num_steps, seed=seed)
    network = Reader.from_pretrained(instrument)
    with progress_bar("frames") as bar:
        report = measure(load_pipeline(folder), network, corpus, settings, progress=bar.at)
    say(write_report(report, checkpoint_id(folder), output))
    for figure in report.failures:
        say(f"misses its threshold: {figure.title}, {figure.value.value:.2f} {figure.unit}".rstrip(), err=True)
    fallen = [] if reference is None else find_regressions(report, reference)
    for fall in fallen:
        say(f"fell: {fall}", err=True)
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
    num_steps: int | None,
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
                load_pipeline(folder), real, output, seed=seed, num_steps=num_steps, by_video=by_video, progress=bar.at
            )
    with progress_bar("clips compared") as bar:
        report = measure_folders(real, generated, weights, progress=bar.at)
    say(write_real_report(report, str(real), made, output))
    for line in report.lacks:
        say(line)


def check_corpus(corpus: Path) -> None:
    """Raise InputError unless the corpus is a folder."""
    if not corpus.is_dir():
        message = f"there is no corpus at {quoted(corpus)}"
        raise InputError("corpus_missing", message, f"Make one with `emotivetalk synthesize -o {corpus}`.")


def find_reader(folder: Path | None) -> Path:
    """Return the reader's folder: the one that the user named, or the one that ships beside the starter.

    Raises:
        InputError: the folder holds no network.
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
