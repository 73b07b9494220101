"""`emotivetalk evaluate`: measure a checkpoint and report it beside its ceiling and its floor."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from emotivetalk.evaluation.kinds import Kind
from emotivetalk.files import quoted
from emotivetalk.media.checkpoints import checkpoint_id, find_checkpoint
from emotivetalk.output import say
from emotivetalk.resources import find_config

if TYPE_CHECKING:
    from emotivetalk.media.face_observer import FaceObserver

FAILED = 1


def evaluate(
    checkpoint: CheckpointArgument = None,
    corpus: CorpusOption = DEFAULT_CORPUS,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the report.")] = Path("build/evaluation"),
    reader: ReaderOption = None,
    part: Annotated[
        bool, typer.Option("--slice", help="Measure a small part, in about two minutes for each kind of people.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Measure fewer clips of most figures, in about four minutes for each kind.")
    ] = False,
    kind: Annotated[
        Kind | None, typer.Option(help="Kind of people to measure; by default all that the corpus holds out.")
    ] = None,
    num_steps: NumStepsOption = None,
    seed: SeedOption = 0,
    face_mesh_python: Annotated[
        Path | None,
        typer.Option(help="Python with mediapipe, and dlib for the identity; it reads the frames independently."),
    ] = None,
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
        if part or quick or kind or strict or against or keep:
            raise typer.BadParameter("--real goes without --slice, --quick, --kind, --strict, --against and --keep.")
        _evaluate_real(checkpoint, real, generated, output, weights or [], num_steps, seed, by_video, face_mesh_python)
        return
    if generated is not None or weights or by_video:
        raise typer.BadParameter("--generated, --weights and --by-video go with --real.")
    folder = find_checkpoint(checkpoint)
    reader_folders = find_readers(reader)
    check_corpus(corpus)
    if against is not None:
        against = find_config(against, "evaluation")

    from emotivetalk.evaluation.evaluate import evaluate as measure
    from emotivetalk.evaluation.reader import load_readers
    from emotivetalk.evaluation.reference import find_regressions, read_reference, reference_of, write_reference
    from emotivetalk.evaluation.report import write_report
    from emotivetalk.evaluation.settings import EvaluationSettings
    from emotivetalk.models.pipeline import load_pipeline
    from emotivetalk.progress import progress_bar

    reference = None if against is None else read_reference(against)
    settings = EvaluationSettings(num_steps=num_steps, seed=seed)
    if part or quick:
        settings = EvaluationSettings.slice(num_steps, seed) if part else EvaluationSettings.quick(num_steps, seed)
    readers = load_readers(reader_folders)
    with progress_bar("frames") as bar, _open_observer(face_mesh_python) as observer:
        report = measure(
            load_pipeline(folder),
            readers,
            corpus,
            settings,
            progress=bar.at,
            kinds=() if kind is None else (kind,),
            observer=observer,
        )
    say(write_report(report, checkpoint_id(folder), output))
    failures = [(found.kind, figure) for found in report.kinds for figure in found.failures]
    for name, figure in failures:
        say(f"misses its threshold: {name}, {figure.title}, {figure.value.value:.2f} {figure.unit}".rstrip(), err=True)
    fallen = [] if reference is None else find_regressions(report, reference)
    for fall in fallen:
        say(f"fell: {fall}", err=True)
    if keep is not None:
        write_reference(reference_of(report, checkpoint_id(folder)), keep)
    if fallen or (strict and failures):
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
    face_mesh_python: Path | None,
) -> None:
    from emotivetalk.evaluation.real.generation import generate_again
    from emotivetalk.evaluation.real.measure import measure_folders
    from emotivetalk.evaluation.real.report import write_real_report
    from emotivetalk.evaluation.real.weights import weights_from
    from emotivetalk.progress import progress_bar

    weights = weights_from(options)
    made, left_out = str(generated), ()
    if generated is None:
        from emotivetalk.models.pipeline import load_pipeline

        folder = find_checkpoint(checkpoint)
        made = checkpoint_id(folder)
        with progress_bar("clips generated") as bar:
            again = generate_again(
                load_pipeline(folder), real, output, seed=seed, num_steps=num_steps, by_video=by_video, progress=bar.at
            )
        real, generated, left_out = again.real, again.generated, again.left_out
    with progress_bar("clips compared") as bar, _open_observer(face_mesh_python) as observer:
        report = measure_folders(real, generated, weights, progress=bar.at, observer=observer)
    report = replace(report, lacks=(*left_out, *report.lacks))
    say(write_real_report(report, str(real), made, output))
    for line in report.lacks:
        say(line)


def _open_observer(python: Path | None) -> AbstractContextManager["FaceObserver | None"]:
    if python is None:
        return nullcontext()
    from emotivetalk.media.face_observer import FaceObserver

    return FaceObserver(python)


def check_corpus(corpus: Path) -> None:
    """Raise InputError unless the corpus is a folder."""
    if not corpus.is_dir():
        message = f"there is no corpus at {quoted(corpus)}"
        raise InputError("corpus_missing", message, f"Make one with `emotivetalk synthesize -o {corpus}`.")


def find_readers(folder: Path | None) -> dict[Kind, Path]:
    """Return the reader's folder for each kind: the one that the user named, or those that ship beside the starter.

    Raises:
        InputError: a folder holds no network.
    """
    from emotivetalk.media.checkpoints import STARTER

    names: dict[Kind, str] = {"avatars": "reader", "photographs": "reader_photographs"}
    found: dict[Kind, Path] = {
        kind: STARTER.with_name(name) if folder is None else folder for kind, name in names.items()
    }
    for path in found.values():
        if not (path / "config.json").is_file():
            raise InputError(
                "reader_missing",
                f"there is no reader at {quoted(path)}",
                "Train one with `emotivetalk train train_configs/reader_starter.yaml`, and name it with --reader.",
            )
    return found
