"""What real video cannot give: the true motion of lips, face and head, which only the synthetic corpus knows."""

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
    """Whether a corpus is synthetic; one that `emotivetalk prepare` made is not. No command mixes the two."""
    return corpus[0].has_truth


def require_truth(corpus: Corpus, stage: str, why: str) -> None:
    """Refuse real video.

    Args:
        stage: by its name.
        why: what the stage does with the truth, completing "it ...".

    Raises:
        InputError: the corpus is of real video.
    """
    if not has_truth(corpus):
        raise InputError(
            "corpus_without_truth",
            f"the stage {stage} cannot be trained on real video: it {why}",
            "Train it on a corpus from `emotivetalk synthesize`, and the other stages on the real one.",
        )


def true_lips(corpus: Corpus, clips: Sequence[int]) -> Float[Tensor, "clips frames 6"] | None:
    """Lip parameters of these clips, which are of equal length; None where nobody knows them."""
    return torch.stack([torch.tensor(corpus[clip].lip) for clip in clips]) if has_truth(corpus) else None


def statistics(
    corpus: Corpus, read: Callable[[Clip], Float[np.ndarray, "frames parameters"]]
) -> tuple[Float[np.ndarray, " parameters"], Float[np.ndarray, " parameters"]]:
    """Mean and standard deviation of true parameters, of clips drawn at random: those that follow each other share an emotion.

    Args:
        read: which parameters.
    """
    some = np.random.default_rng(0).permutation(len(corpus))[:_STATISTICS_CLIPS]
    rows = np.concatenate([read(corpus[int(clip)]) for clip in some])
    return rows.mean(0), rows.std(0) + 1e-6
