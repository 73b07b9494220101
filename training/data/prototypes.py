"""Prototypes of the frozen emotion mapping: mean expression latents of each emotion at each intensity level."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.corpus.records import Corpus
from emotivetalk.errors import InputError
from emotivetalk.models.emotion import EMOTIONS, NEUTRAL, NUM_LEVELS


def intensity_level(intensity: float) -> int:
    """Return the nearest prototype level of an intensity in 0..1; `NUM_LEVELS - 1` is full intensity."""
    return round(intensity * (NUM_LEVELS - 1))


def emotion_levels(corpus: Corpus) -> dict[tuple[int, int], np.ndarray]:
    """Collect the positions of the clips that stay in one emotion, by (emotion, intensity level)."""
    positions: dict[tuple[int, int], list[int]] = {}
    for position, clip in enumerate(corpus):
        if not clip.changes_emotion:
            positions.setdefault((clip.emotion, intensity_level(clip.intensity)), []).append(position)
    return {key: np.array(values) for key, values in positions.items()}


def emotion_prototypes(
    corpus: Corpus, expression: Float[Tensor, "clips frames dim"]
) -> Float[Tensor, "emotions levels dim"]:
    """Average the latents of the clips of each emotion and level. Level 0, and every level of neutral, is the neutral face.

    Raises:
        InputError: the corpus has no neutral clips.
    """
    levels = emotion_levels(corpus)
    means = expression.mean(1)
    neutral_levels = [levels[NEUTRAL, level] for level in range(1, NUM_LEVELS) if (NEUTRAL, level) in levels]
    if not neutral_levels:
        raise InputError(
            "corpus_without_neutral",
            "the corpus has no neutral clips, from which every other emotion is measured",
            "Add neutral clips, or train on another corpus.",
        )
    neutral = torch.cat([means[positions] for positions in neutral_levels]).mean(0)
    prototypes = neutral.repeat(len(EMOTIONS), NUM_LEVELS, 1)
    for (emotion, level), positions in levels.items():
        if emotion != NEUTRAL:
            prototypes[emotion, level] = means[positions].mean(0)
    return prototypes
