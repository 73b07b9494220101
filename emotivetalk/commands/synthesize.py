"""`emotivetalk synthesize`: make a corpus of speaking avatars and photographs with the ground truth of every frame."""

from pathlib import Path
from typing import Annotated

import typer

from emotivetalk.errors import InputError
from emotivetalk.files import quoted
from emotivetalk.output import say


def synthesize(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the corpus; it may not hold one yet.")],
    identities: Annotated[int, typer.Option(min=1, max=4096, help="Number of people in the training split.")] = 64,
    clips: Annotated[int, typer.Option(min=1, help="Number of training clips of each person.")] = 8,
    held_out: Annotated[
        int,
        typer.Option(
            min=0, max=4096, help="Number of further people that are held out, with their voices and sentences."
        ),
    ] = 8,
    seconds: Annotated[float, typer.Option(min=0.2, max=60, help="Length of a clip, seconds.")] = 2.56,
    seed: Annotated[int, typer.Option(min=0, max=255, help="Random seed; another seed gives other people.")] = 0,
    photographs: Annotated[
        Path | None,
        typer.Option(help="Folder of portraits to make people from. The corpus stores their hashes, not the pictures."),
    ] = None,
    photograph_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the people that come from photographs, not avatars.")
    ] = 0.5,
    face_mesh_python: Annotated[
        Path | None,
        typer.Option(help="Python with mediapipe; it writes landmarks.npz where the folder of portraits has none."),
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Also write a contact sheet and a few videos.")] = False,
) -> None:
    """Make a synthetic corpus: Parquet shards of speech and of the motion of lips, face and head.

    Frames are not stored; training renders them from the records. Needs espeak-ng and flite. Refused photographs and
    the reasons are listed in photographs.tsv.

    \b
    Example:
      emotivetalk synthesize -o build/corpus --identities 64 --clips 8 --held-out 8 --preview
    """
    if output.exists() and not output.is_dir():
        raise InputError("output_not_folder", f"output {quoted(output)} is not a folder", "Give a folder's name.")

    from emotivetalk.corpus.photo_people import PhotoPeople
    from emotivetalk.corpus.portraits import find_landmarks, read_portraits, write_report
    from emotivetalk.corpus.synthesize import synthesize as write_corpus
    from emotivetalk.corpus_preview import write_preview
    from emotivetalk.progress import progress_bar
    from emotivetalk.timebase import FRAME_RATE_HZ

    num_frames = round(seconds * FRAME_RATE_HZ)
    people = None
    if photographs is not None:
        if face_mesh_python is not None and photographs.is_dir() and not (photographs / "landmarks.npz").exists():
            find_landmarks(photographs, face_mesh_python)
        portraits = read_portraits(photographs)
        output.mkdir(parents=True, exist_ok=True)
        write_report(portraits, output / "photographs.tsv")
        say(f"{photographs}: {len(portraits.accepted)} portraits, {len(portraits.refused)} refused")
        people = PhotoPeople(portraits)
    with progress_bar("clips") as bar:
        shards = write_corpus(output, identities, clips, num_frames, held_out, seed, bar.at, people, photograph_share)
    num_bytes = sum(shard.stat().st_size for shard in shards)
    say(f"{output}: {len(shards)} shards, {num_bytes / 1e6:.1f} MB")
    if preview:
        for path in write_preview(output):
            say(path)
