"""Figures of the lips: mouth opening in the video against the speech's truth, and along lags (ours)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from emotivetalk.evaluation import metrics
from emotivetalk.evaluation.figures import Figure, Lags
from emotivetalk.evaluation.measurements import Measurement
from emotivetalk.evaluation.reader import Reading, mouth_opening

Openings = list[Float[np.ndarray, " frames"]]


def mouth_figure(key: str, title: str, measurements: Sequence[Measurement]) -> Figure:
    """Pearson's r within clips; floor: everybody is compared with the next one's speech.

    Raises:
        ValueError: there are no takes.
    """
    measured, truth = openings([measurement.reading for measurement in measurements]), true_openings(measurements)
    pairs = [(a[: len(b)], b[: len(a)]) for a, b in zip(measured, [*truth[1:], truth[0]], strict=True)]
    return Figure(
        key=f"mouth_r.{key}",
        title=f"{title}: r",
        value=metrics.correlation(measured, truth),
        ceiling=metrics.correlation(openings([measurement.truth for measurement in measurements]), truth),
        floor=metrics.correlation(*zip(*pairs, strict=True)),
    )


def mouth_lags(title: str, measurements: Sequence[Measurement]) -> Lags:
    """The same along lags, of generated frames and of true ones."""
    truth = true_openings(measurements)
    return Lags(
        title,
        metrics.lag_curve(openings([measurement.reading for measurement in measurements]), truth),
        metrics.lag_curve(openings([measurement.truth for measurement in measurements]), truth),
    )


def openings(readings: Sequence[Reading]) -> Openings:
    """What the reader sees of the mouths, a track for each clip; see `emotivetalk.evaluation.reader.mouth_opening`."""
    return [reading.opening.numpy() for reading in readings]


def true_openings(measurements: Sequence[Measurement]) -> Openings:
    """What the corpus says of them."""
    return [mouth_opening(measurement.case.lip).numpy() for measurement in measurements]
