"""Real clips made again by a checkpoint: each one's first frame speaks its own words (the field's self-driven test)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from emotivetalk.errors import InputError
from emotivetalk.evaluation.real.clips import SUFFIXES
from emotivetalk.files import quoted
from emotivetalk.media.audio import load_speech
from emotivetalk.media.expressions import read_expression_video
from emotivetalk.media.mux import VideoWriter
from emotivetalk.models.emotion import EmotionSpeech, EmotionVideo
from emotivetalk.models.pipeline import EmotiveTalkPipeline
from emotivetalk.timebase import SAMPLES_PER_FRAME

REAL, GENERATED = "real", "generated"
_MAX_S = 60.0


def generate_again(
    pipeline: EmotiveTalkPipeline,
    folder: Path,
    output: Path,
    *,
    seed: int,
    num_steps: int | None,
    by_video: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, Path]:
    """Writes the framed real clips and the generated ones under `output`; returns the two folders.

    Args:
        folder: videos with sound and one face each; the first minute of each is taken.
        by_video: the real clip's own expressions drive the face (the paper's "audio and video"), not its voice alone.
        progress: told of clips.

    Raises:
        InputError: no videos, or one without a face or speech.
    """
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES] if folder.is_dir() else []
    if not paths:
        raise InputError("folder_missing", f"there are no videos in {quoted(folder)}", "Give a folder of videos.")
    folders = output / REAL, output / GENERATED
    for made in folders:
        made.mkdir(parents=True, exist_ok=True)
    side = pipeline.image_size
    for done, path in enumerate(paths, start=1):
        frames = read_expression_video(path, side, _MAX_S)
        speech = load_speech(path).waveform[: len(frames) * SAMPLES_PER_FRAME]
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
    return folders
