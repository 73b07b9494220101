"""What real video cannot give: the true motion of lips, face and head, which only the synthetic corpus knows."""

from __future__ import annotations

from corpus.records import Corpus
from media.errors import InputError


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
