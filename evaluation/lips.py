"""Figures of the lips: mouth opening in the video against the speech's truth, and along lags (ours)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from evaluation import metrics
from evaluation.figures import Figure, Lags
from evaluation.reader import Reading, mouth_opening
from evaluation.takes import Take

Openings = list[Float[np.ndarray, " frames"]]


def mouth_figure(key: str, title: str, takes: Sequence[Take]) -> Figure:
    """Pearson's r within clips; floor: everybody is compared with the next one's speech.

    Raises:
        ValueError: there are no takes.
    """
    measured, truth = openings([take.reading for take in takes]), true_openings(takes)
    pairs = [(a[: len(b)], b[: len(a)]) for a, b in zip(measured, [*truth[1:], truth[0]], strict=True)]
    return Figure(
        key=f"mouth_r.{key}",
        title=f"{title}: r",
        value=metrics.correlation(measured, truth),
        ceiling=metrics.correlation(openings([take.truth for take in takes]), truth),
        floor=metrics.correlation(*zip(*pairs, strict=True)),
    )


def mouth_lags(title: str, takes: Sequence[Take]) -> Lags:
    """The same along lags, of generated frames and of true ones."""
    truth = true_openings(takes)
    return Lags(
        title,
        metrics.lag_curve(openings([take.reading for take in takes]), truth),
        metrics.lag_curve(openings([take.truth for take in takes]), truth),
    )


def openings(readings: Sequence[Reading]) -> Openings:
    """What the reader sees of the mouths, a track for each clip; see `evaluation.reader.mouth_opening`."""
    return [reading.opening.numpy() for reading in readings]


def true_openings(takes: Sequence[Take]) -> Openings:
    """What the corpus says of them."""
    return [mouth_opening(take.scene.lip).numpy() for take in takes]
