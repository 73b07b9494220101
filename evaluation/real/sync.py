"""Sync-C and Sync-D: lip synchrony by a trained SyncNet (Chung and Zisserman, "Out of time", 2016).

At each moment the embedding of five frames is compared with embeddings of 0.2 s of speech at offsets of up to 15 frames.
Sync-D is the smallest mean distance over offsets; Sync-C is the median distance less the smallest.
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
_NUM_FRAMES, _NUM_STEPS, _STEPS_PER_FRAME = 5, 20, 4
_SIZE = 224
_BATCH_SIZE = 16

SyncNet = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class SyncScore:
    """Synchrony of one clip.

    Attributes:
        distance: Sync-D.
        confidence: Sync-C.
        offset: frames by which the video is late, at the smallest distance.
    """

    distance: float
    confidence: float
    offset: int


def sync_score(
    network: SyncNet, frames: Float[Tensor, "frames 3 height width"], waveform: Float[np.ndarray, " samples"]
) -> SyncScore:
    """Compute the score of one clip from frames of a cropped face (RGB in 0..1) and its 16 kHz speech.

    Raises:
        ValueError: the clip is shorter than five frames.
    """
    visual, audio = embeddings(network, frames, waveform)
    return best_offset(visual, audio)


@torch.no_grad()
def embeddings(
    network: SyncNet, frames: Float[Tensor, "frames 3 height width"], waveform: Float[np.ndarray, " samples"]
) -> tuple[Float[Tensor, "moments dim"], Float[Tensor, "moments dim"]]:
    """Embed the frames and the speech of each moment that has five frames and 0.2 s of speech.

    Raises:
        ValueError: the clip is shorter than that.
    """
    pictures = resized(frames, _SIZE) * 255
    speech = torch.from_numpy(mfcc(waveform))
    num = min(len(pictures) - _NUM_FRAMES, (speech.shape[1] - _NUM_STEPS) // _STEPS_PER_FRAME) + 1
    if num < 1:
        raise ValueError(
            f"a clip of {len(frames)} frames is too short for SyncNet, which needs {_NUM_FRAMES} with sound."
        )
    visual, audio = [], []
    for start in range(0, num, _BATCH_SIZE):
        moments = range(start, min(start + _BATCH_SIZE, num))
        mouths = torch.stack([pictures[t : t + _NUM_FRAMES].transpose(0, 1) for t in moments])
        steps = [speech[None, :, _STEPS_PER_FRAME * t : _STEPS_PER_FRAME * t + _NUM_STEPS] for t in moments]
        mouth_embeddings, speech_embeddings = network(mouths, torch.stack(steps))
        visual.append(mouth_embeddings.flatten(1).float())
        audio.append(speech_embeddings.flatten(1).float())
    return torch.cat(visual), torch.cat(audio)


def best_offset(
    visual: Float[Tensor, "moments dim"], audio: Float[Tensor, "moments dim"], max_offset: int = MAX_OFFSET
) -> SyncScore:
    """Find the offset of the smallest mean distance; beyond the clip's ends the speech is zero, as in SyncNet's code."""
    padding = audio.new_zeros(max_offset, audio.shape[1])
    padded = torch.cat([padding, audio, padding])
    offsets = range(-max_offset, max_offset + 1)
    distances = torch.stack(
        [(visual - padded[max_offset + o : max_offset + o + len(visual)] + 1e-6).norm(dim=1).mean() for o in offsets]
    )
    best = int(distances.argmin())
    return SyncScore(float(distances[best]), float(distances.median() - distances[best]), -offsets[best])
