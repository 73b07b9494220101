"""`emotivetalk prepare`: make a training corpus from raw video."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emotivetalk.errors import InputError
from emotivetalk.files import quoted
from emotivetalk.media.checkpoints import find_checkpoint
from emotivetalk.output import say

if TYPE_CHECKING:
    from emotivetalk.actors.preparing.driver import Preparation

PRECOMPUTED_FRAMES = 16  # frames of a clip that the ethd stage uses by default


def prepare(
    raw: Annotated[list[str], typer.Argument(metavar="RAW...", help="Videos, folders of videos, or URLs of either.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the corpus; an unfinished one is resumed.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="CSV with path,emotion,intensity,speaker,text; by default labels come from the file names."),
    ] = None,
    labelled_only: Annotated[
        bool, typer.Option("--labelled-only", help="Drop videos without a label instead of treating them as neutral.")
    ] = False,
    seconds: Annotated[float, typer.Option(min=0.4, max=60, help="Length of a clip, seconds.")] = 2.56,
    size: Annotated[int, typer.Option(min=64, max=1024, help="Side of a clip's pictures, pixels.")] = 256,
    min_face: Annotated[int, typer.Option(min=16, help="Minimum width of a face in the raw video, pixels.")] = 64,
    min_sharpness: Annotated[
        float, typer.Option(min=0, help="Minimum variance of the smoothed face's Laplacian at 256 x 256.")
    ] = 5.0,
    min_speech: Annotated[float, typer.Option(min=0, max=1, help="Minimum share of a clip that has speech.")] = 0.15,
    max_offset: Annotated[
        int, typer.Option(min=0, max=14, help="Maximum shift of the sound against the lips, frames.")
    ] = 10,
    held_out: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the speakers that are kept out of training.")
    ] = 0.1,
    sync_checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint whose encoders measure synchrony; the default is the starter.")
    ] = None,
    sync: Annotated[
        bool, typer.Option("--sync/--no-sync", help="Measure synchrony, and shift sound that is off.")
    ] = True,
    precompute: Annotated[
        Path | None,
        typer.Option(
            metavar="CHECKPOINT", help="Also write motion, VAE and audio latents for training to CORPUS/latents."
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Number of processes; the default is one per CPU.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Address of a running Ray cluster; by default one is started on this machine.")
    ] = None,
) -> None:
    """Prepare raw video for training: cut it into shots, track faces, score clips, and keep the good ones.

    File names of MEAD, HDTF, RAVDESS and CREMA-D are understood. The same command again does only what is missing.
    CORPUS/report.md lists what was kept and dropped, with reasons.

    \b
    Example:
      emotivetalk prepare ~/MEAD ~/extra --labels extra.csv -o build/corpus/real
    """
    _check_installed()
    from emotivetalk.progress import progress_bar

    checkpoint = _sync_checkpoint(sync_checkpoint) if sync else None

    from emotivetalk.actors.preparing.driver import PreparationLaunch, prepare_corpus
    from emotivetalk.corpus.preparing.labels import read_labels
    from emotivetalk.corpus.preparing.settings import PrepareSettings, weights_hash
    from emotivetalk.corpus.preparing.sources import find_sources
    from emotivetalk.timebase import FRAME_RATE_HZ

    settings = PrepareSettings(
        num_frames=round(seconds * FRAME_RATE_HZ),
        size=size,
        min_face=min_face,
        min_sharpness=min_sharpness,
        min_speech=min_speech,
        max_offset=max_offset,
        held_out=held_out,
        labelled_only=labelled_only,
        sync=None if checkpoint is None else weights_hash(checkpoint),
    )
    if precompute is not None:
        _check_precompute(precompute)
    sources = find_sources(raw, {} if labels is None else read_labels(labels))
    with progress_bar("files") as bar:
        made = prepare_corpus(sources, output, settings, checkpoint, PreparationLaunch(workers, address), bar.at)
    _say(output, made)
    if precompute is not None and made.shards:
        _precompute(output, precompute, size, settings.num_frames)


def _check_installed() -> None:
    from emotivetalk.media.raw_video import require_decord

    require_decord()
    for package in ("ray", "pandas", "pyarrow", "fsspec"):
        if find_spec(package) is None:
            raise InputError(
                "packages_missing",
                f"preparing raw video needs the package {package}, which is not installed",
                "Install it with: pip install 'emotivetalk[prepare]'.",
            )


def _sync_checkpoint(given: Path | None) -> Path:
    from emotivetalk.corpus.preparing.synchrony import check_sync_checkpoint

    checkpoint = given or find_checkpoint(None)
    check_sync_checkpoint(checkpoint)
    return checkpoint


def _check_precompute(checkpoint: Path) -> None:
    for network in ("vae", "lip_encoder", "expression_encoder", "audio_encoder"):
        if not (checkpoint / network / "config.json").is_file():
            raise InputError(
                "checkpoint_incomplete",
                f"{quoted(checkpoint)} has no {network}/, which --precompute needs",
                "Name a checkpoint that has it.",
            )


def _precompute(output: Path, checkpoint: Path, size: int, num_frames: int) -> None:
    from emotivetalk.corpus.records import SPLITS
    from emotivetalk.training.data.latents import audio_features, motion_latents, video_latents

    cache = output / "latents"
    window = min(PRECOMPUTED_FRAMES, num_frames)
    for split in SPLITS:
        if not any(output.glob(f"{split}-*.parquet")):
            continue
        motion_latents(output, split, checkpoint, cache)
        video_latents(output, split, checkpoint, cache, size, window)
        audio_features(output, split, checkpoint, cache)
        say(f"{cache}: latents and audio features of {split}")


def _say(output: Path, made: "Preparation") -> None:
    from emotivetalk.corpus.preparing.report import KEPT, count_clips, count_files

    files, clips = count_files(made.rows), count_clips(made.rows)
    say(
        f"{output}: {len(made.rows)} files ({made.num_new} new), {files.get(KEPT, 0)} of them used; "
        f"{clips.get(KEPT, 0)} of {sum(clips.values())} clips kept, in {len(made.shards)} shards"
    )
    dropped = {name: count for name, count in [*files.items(), *clips.items()] if name not in (KEPT, "no_clip")}
    if dropped:
        say("dropped: " + ", ".join(f"{count} {name}" for name, count in sorted(dropped.items())))
    say(made.report[1])
