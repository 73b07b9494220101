"""True motion of lips, face and head, which is known for synthetic corpora only, and not for real video."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.corpus.records import Clip, Corpus
from emotivetalk.errors import InputError

_STATISTICS_CLIPS = 256


def has_truth(corpus: Corpus) -> bool:
    """Tell whether a corpus is synthetic, which its first clip shows: no command mixes synthetic clips and real video."""
    return corpus[0].has_truth


def require_truth(corpus: Corpus, stage: str, reason: str) -> None:
    """Reject real video.

    Args:
        corpus: the corpus of a stage.
        stage: name of the stage.
        reason: the stage's use of the truth, completing "it ...".

    Raises:
        InputError: the corpus is of real video.
    """
    if not has_truth(corpus):
        raise InputError(
            "corpus_without_truth",
            f"the stage {stage} cannot be trained on real video: it {reason}",
            "Train this stage on a corpus from `emotivetalk synthesize`, and the other stages on the real one.",
        )


def true_lips(corpus: Corpus, clips: Sequence[int]) -> Float[Tensor, "clips frames 6"] | None:
    """Stack the lip parameters of clips of equal length; None if they are unknown."""
    return torch.stack([torch.tensor(corpus[clip].lip) for clip in clips]) if has_truth(corpus) else None


def parameter_statistics(
    corpus: Corpus, read: Callable[[Clip], Float[np.ndarray, "frames parameters"]]
) -> tuple[Float[np.ndarray, " parameters"], Float[np.ndarray, " parameters"]]:
    """Compute mean and standard deviation of true parameters over random clips; consecutive clips share an emotion.

    Args:
        corpus: a synthetic corpus.
        read: returns a clip's parameters.
    """
    clips = np.random.default_rng(0).permutation(len(corpus))[:_STATISTICS_CLIPS]
    rows = np.concatenate([read(corpus[int(clip)]) for clip in clips])
    return rows.mean(0), rows.std(0) + 1e-6
