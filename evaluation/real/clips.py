"""Pairs of real and generated videos with the same name in two folders (ours)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.corpus.preparing.sources import SUFFIXES
from emotivetalk.errors import InputError
from emotivetalk.files import quoted
from emotivetalk.media.audio import load_speech
from emotivetalk.media.video import read_frames


@dataclass(frozen=True)
class PathPair:
    """Paths of a real and a generated video with the same name."""

    name: str
    real: Path
    generated: Path


@dataclass(frozen=True, eq=False)
class ClipPair:
    """Frames of a real and a generated video at 25 frames a second, cut to the shorter; RGB in 0..1.

    Attributes:
        waveform: the real video's sound, 16 kHz mono; None if it has no sound.
    """

    name: str
    real: Float[Tensor, "frames 3 height width"]
    generated: Float[Tensor, "frames 3 height width"]
    waveform: Float[np.ndarray, " samples"] | None


def find_pairs(real: Path, generated: Path) -> list[PathPair]:
    """Match the videos of two folders by name without suffix, sorted by name.

    Raises:
        InputError: a folder is missing, or no name is in both.
    """
    real_videos, generated_videos = _videos(real), _videos(generated)
    names = sorted(real_videos.keys() & generated_videos.keys())
    if not names:
        raise InputError(
            "pairs_missing",
            f"no video of {quoted(generated)} has the name of one in {quoted(real)}",
            "Give the generated videos the names of the real ones.",
        )
    return [PathPair(name, real_videos[name], generated_videos[name]) for name in names]


def read_pairs(pairs: list[PathPair]) -> Iterator[ClipPair]:
    """Read the pairs one at a time.

    Raises:
        InputError: a file is no video, or the two videos of a pair differ in picture size.
    """
    for pair in pairs:
        real, generated = (_frames(path) for path in (pair.real, pair.generated))
        if real.shape[1:] != generated.shape[1:]:
            sizes = " and ".join(f"{frames.shape[3]} x {frames.shape[2]}" for frames in (real, generated))
            raise InputError(
                "pairs_differ",
                f"the videos named '{pair.name}' differ in size: {sizes} pixels",
                "Crop both to the same size; `emotivetalk evaluate --real` without --generated does so.",
            )
        num = min(len(real), len(generated))
        yield ClipPair(pair.name, real[:num], generated[:num], _speech(pair.real))


def _videos(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError("folder_missing", f"there is no folder {quoted(folder)}", "Give a folder of videos.")
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}


def _frames(path: Path) -> Float[Tensor, "frames 3 height width"]:
    return torch.from_numpy(read_frames(path)).permute(0, 3, 1, 2).float() / 255


def _speech(path: Path) -> Float[np.ndarray, " samples"] | None:
    try:
        return load_speech(path).waveform
    except InputError as error:
        if error.code == "audio_missing_stream":
            return None
        raise
