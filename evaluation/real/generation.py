"""Self-driven generation: a real clip's first frame and its own speech make a video to compare with the clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from emotivetalk.corpus.preparing.sources import SUFFIXES
from emotivetalk.errors import InputError
from emotivetalk.files import quoted
from emotivetalk.media.audio import load_speech
from emotivetalk.media.expressions import read_expression_video
from emotivetalk.media.mux import VideoWriter
from emotivetalk.models.emotion import EmotionSpeech, EmotionVideo
from emotivetalk.models.pipeline import EmotiveTalkPipeline
from emotivetalk.timebase import SAMPLES_PER_FRAME

REAL, GENERATED = "real", "generated"
_MAX_S = 60.0


@dataclass(frozen=True)
class GeneratedAgain:
    """Folders of the real and of the generated clips, and a line for each clip that is left out."""

    real: Path
    generated: Path
    left_out: tuple[str, ...]


def generate_again(
    pipeline: EmotiveTalkPipeline,
    folder: Path,
    output: Path,
    *,
    seed: int,
    num_steps: int | None,
    by_video: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> GeneratedAgain:
    """Generate a video for each real clip, and write the cropped real clips beside them.

    Args:
        folder: videos with sound and one face each; the first minute of each is used.
        output: folder for the folders "real" and "generated".
        by_video: drive the face with the clip's own expressions (the paper's "audio and video") instead of its voice.
        progress: called with (clips done, clips in total).

    A clip without a face or without speech is left out.

    Raises:
        InputError: there are no videos, or none has a face and speech; the message is that of the last one.
    """
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES] if folder.is_dir() else []
    if not paths:
        raise InputError(
            "folder_missing",
            f"there are no videos in {quoted(folder)}",
            f"Give a folder with files that end with {' '.join(SUFFIXES)}.",
        )
    folders = output / REAL, output / GENERATED
    for subfolder in folders:
        subfolder.mkdir(parents=True, exist_ok=True)
    side, left_out = pipeline.image_size, []
    for done, path in enumerate(paths, start=1):
        try:
            frames = read_expression_video(path, side, _MAX_S)
            speech = load_speech(path).waveform[: len(frames) * SAMPLES_PER_FRAME]
        except InputError as error:
            left_out.append(f"{path.name} is left out: {error.message}")
            if len(left_out) == len(paths):
                raise
            continue
        tensors = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
        emotion = EmotionVideo(tensors) if by_video else EmotionSpeech()
        parts = pipeline(tensors[0], torch.from_numpy(speech), emotion, seed=seed, num_steps=num_steps)
        with VideoWriter(folders[1] / f"{path.stem}.mp4", side, side, waveform=speech) as writer:
            for part in parts:
                writer.write(part.numpy())
        with VideoWriter(folders[0] / f"{path.stem}.mp4", side, side, waveform=speech) as writer:
            writer.write(frames)
        if progress is not None:
            progress(done, len(paths))
    return GeneratedAgain(*folders, tuple(left_out))
