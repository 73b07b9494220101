"""Sync-C and Sync-D (Chung and Zisserman, "Out of time", 2016): do a trained ear and eye find lips and speech together.

At each moment the embedding of five frames is compared with those of 0.2 s of speech at offsets of up to 15 frames.
Sync-D is the smallest mean distance over offsets; Sync-C how far it lies below the median one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.evaluation.real.frechet import resized
from emotivetalk.evaluation.real.mfcc import mfcc

MAX_OFFSET = 15
_FRAMES, _STEPS, _STEPS_PER_FRAME = 5, 20, 4
_SIZE = 224
_AT_ONCE = 16

SyncNet = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Sync:
    """distance: Sync-D. confidence: Sync-C. offset: frames by which the video is late where they fit best."""

    distance: float
    confidence: float
    offset: int


def sync_of(
    network: SyncNet, frames: Float[Tensor, "frames 3 height width"], waveform: Float[np.ndarray, " samples"]
) -> Sync:
    """Of one clip: frames RGB in 0..1 of a framed face, and its 16 kHz speech.

    Raises:
        ValueError: the clip is shorter than five frames.
    """
    seen, heard = embeddings(network, frames, waveform)
    return best_offset(seen, heard)


@torch.no_grad()
def embeddings(
    network: SyncNet, frames: Float[Tensor, "frames 3 height width"], waveform: Float[np.ndarray, " samples"]
) -> tuple[Float[Tensor, "moments dim"], Float[Tensor, "moments dim"]]:
    """SyncNet's of each moment that has five frames and 0.2 s of speech.

    Raises:
        ValueError: there is none.
    """
    pictures = resized(frames, _SIZE) * 255
    speech = torch.from_numpy(mfcc(waveform))
    num = min(len(pictures) - _FRAMES, (speech.shape[1] - _STEPS) // _STEPS_PER_FRAME) + 1
    if num < 1:
        raise ValueError(f"a clip of {len(frames)} frames is too short for SyncNet, which sees {_FRAMES}.")
    seen, heard = [], []
    for start in range(0, num, _AT_ONCE):
        moments = range(start, min(start + _AT_ONCE, num))
        mouths = torch.stack([pictures[t : t + _FRAMES].transpose(0, 1) for t in moments])
        steps = [speech[None, :, _STEPS_PER_FRAME * t : _STEPS_PER_FRAME * t + _STEPS] for t in moments]
        one, other = network(mouths, torch.stack(steps))
        seen.append(one.flatten(1).float())
        heard.append(other.flatten(1).float())
    return torch.cat(seen), torch.cat(heard)


def best_offset(
    seen: Float[Tensor, "moments dim"], heard: Float[Tensor, "moments dim"], max_offset: int = MAX_OFFSET
) -> Sync:
    """Mean distances at every offset; beyond the clip's ends the speech is zeros, as SyncNet's own evaluation has it."""
    silence = heard.new_zeros(max_offset, heard.shape[1])
    padded = torch.cat([silence, heard, silence])
    offsets = range(-max_offset, max_offset + 1)
    distances = torch.stack(
        [(seen - padded[max_offset + o : max_offset + o + len(seen)] + 1e-6).norm(dim=1).mean() for o in offsets]
    )
    least = int(distances.argmin())
    return Sync(float(distances[least]), float(distances.median() - distances[least]), -offsets[least])
