"""Prototypes: the mean expression latents of each emotion at each intensity, the frozen mapping's landmarks."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.corpus.records import Corpus
from emotivetalk.errors import InputError
from emotivetalk.models.emotion import EMOTIONS, NUM_LEVELS


def emotion_levels(corpus: Corpus) -> dict[tuple[int, int], np.ndarray]:
    """Positions of the clips that stay in one emotion, by (emotion, level); level 3 is full intensity."""
    found: dict[tuple[int, int], list[int]] = {}
    for position, clip in enumerate(corpus):
        if not clip.changes_emotion:
            found.setdefault((clip.emotion, round(clip.intensity * 3)), []).append(position)
    return {key: np.array(positions) for key, positions in found.items()}


def emotion_prototypes(
    corpus: Corpus, expression: Float[Tensor, "clips frames dim"]
) -> Float[Tensor, "emotions levels dim"]:
    """Mean latents by emotion and level, over clips. Neutral has one face, so its levels and every level 0 are that.

    Raises:
        InputError: the corpus has no neutral clips.
    """
    levels = emotion_levels(corpus)
    means = expression.mean(1)
    if not any((0, level) in levels for level in range(1, NUM_LEVELS)):
        raise InputError(
            "corpus_without_neutral",
            "the corpus has no neutral clips, from which all other emotions are told",
            "Add some, or train on another corpus.",
        )
    neutral = torch.cat([means[levels[0, level]] for level in range(1, NUM_LEVELS) if (0, level) in levels]).mean(0)
    prototypes = neutral.repeat(len(EMOTIONS), NUM_LEVELS, 1)
    for (emotion, level), positions in levels.items():
        if emotion:
            prototypes[emotion, level] = means[positions].mean(0)
    return prototypes
