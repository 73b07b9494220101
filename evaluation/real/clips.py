"""Clips to compare: a folder of real videos, and one of generated videos with the same names (ours)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.errors import InputError
from emotivetalk.files import quoted
from emotivetalk.media.audio import load_speech
from emotivetalk.media.video import read_frames

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")


@dataclass(frozen=True)
class Pair:
    """One name in both folders."""

    name: str
    real: Path
    generated: Path


@dataclass(frozen=True, eq=False)
class ClipPair:
    """Both videos at 25 frames a second, cut to the shorter, of one size; RGB in 0..1. Speech is the real clip's.

    waveform: 16 kHz mono; None where the real clip has no sound.
    """

    name: str
    real: Float[Tensor, "frames 3 height width"]
    generated: Float[Tensor, "frames 3 height width"]
    waveform: Float[np.ndarray, " samples"] | None


def find_pairs(real: Path, generated: Path) -> list[Pair]:
    """The videos of both folders, by name without ending, in order.

    Raises:
        InputError: a folder is missing, or no name is in both.
    """
    found = [_videos(folder) for folder in (real, generated)]
    names = sorted(found[0].keys() & found[1].keys())
    if not names:
        raise InputError(
            "pairs_missing",
            f"no video of {quoted(generated)} has the name of one in {quoted(real)}",
            "Give the generated videos the names of the real ones.",
        )
    return [Pair(name, found[0][name], found[1][name]) for name in names]


def read_pairs(pairs: list[Pair]) -> Iterator[ClipPair]:
    """Each pair, read when its turn comes.

    Raises:
        InputError: a file that is no video, or two whose pictures differ in size.
    """
    for pair in pairs:
        real, generated = (_frames(path) for path in (pair.real, pair.generated))
        if real.shape[1:] != generated.shape[1:]:
            sizes = " and ".join(f"{one.shape[3]} x {one.shape[2]}" for one in (real, generated))
            raise InputError(
                "pairs_differ",
                f"the videos called '{pair.name}' have {sizes} pixels",
                "Frame both alike; `emotivetalk evaluate --real` without --generated does it.",
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
