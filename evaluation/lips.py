"""Figures of the lips: mouth opening in the video against the true opening of the speech, also over lags (ours)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from emotivetalk.evaluation import metrics
from emotivetalk.evaluation.figures import Figure, Lags
from emotivetalk.evaluation.measurements import Measurement
from emotivetalk.evaluation.reader import Reading, mouth_opening

Openings = list[Float[np.ndarray, " frames"]]


def lip_figures(key: str, title: str, measurements: Sequence[Measurement]) -> list[Figure]:
    """Return the figures of the lips over some clips.

    The floor compares each clip with the speech of the next one.

    Raises:
        ValueError: there are no measurements.
    """
    measured, truth = openings([measurement.reading for measurement in measurements]), true_openings(measurements)
    mismatched = [(a[: len(b)], b[: len(a)]) for a, b in zip(measured, [*truth[1:], truth[0]], strict=True)]
    return [
        Figure(
            key=f"mouth_r.{key}",
            title=f"{title}: r",
            value=metrics.correlation(measured, truth),
            ceiling=metrics.correlation(openings([measurement.truth for measurement in measurements]), truth),
            floor=metrics.correlation(*zip(*mismatched, strict=True)),
        )
    ]


def mouth_lags(title: str, measurements: Sequence[Measurement]) -> Lags:
    """Correlate mouth opening at each lag, for generated and for true frames."""
    truth = true_openings(measurements)
    return Lags(
        title,
        metrics.lag_curve(openings([measurement.reading for measurement in measurements]), truth),
        metrics.lag_curve(openings([measurement.truth for measurement in measurements]), truth),
    )


def openings(readings: Sequence[Reading]) -> Openings:
    """Return the mouth opening that the reader measured, one track per clip; see `reader.mouth_opening`."""
    return [reading.opening.numpy() for reading in readings]


def true_openings(measurements: Sequence[Measurement]) -> Openings:
    """Return the mouth opening of the corpus's lip parameters, one track per clip."""
    return [mouth_opening(measurement.case.lip).numpy() for measurement in measurements]
