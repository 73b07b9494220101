"""Figures of motion: do expressions move as fast, as often and as far as true ones (ours).

A network can say the right emotion and still be a mask, or tremble. So what the reader sees of every expression
parameter is compared between generated and true frames: velocity, three bands of the spectrum, variance, blinks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int

from corpus.parameters import EXPRESSION, POSE
from evaluation import metrics
from evaluation.figures import Figure, MotionRow
from evaluation.lips import openings
from evaluation.metrics import Estimate, Tracks
from evaluation.reader import Reading
from evaluation.takes import Take

WITHIN = 0.20
"""How far from the truth's, as a share of it, is called alive."""

_MOVING = tuple(name for name in EXPRESSION if name not in ("blink", "asym", "blush"))
_ROWS = (("expression", "brow_in"), ("expression", "smile"), ("expression", "gaze_x"), ("pose", "yaw"))
_NAMES = {"expression": EXPRESSION, "pose": POSE}
_BLINK = EXPRESSION.index("blink")
_ASPECTS = {
    "velocity": "velocity",
    "low": "power below 1.5 Hz",
    "middle": "power to 5 Hz",
    "high": "power above",
    "variance": "variance",
}


def motion_rows(takes: Sequence[Take]) -> tuple[MotionRow, ...]:
    """How the mouth, a brow, the smile, the gaze and the head move."""
    generated, true = [take.reading for take in takes], [take.truth for take in takes]
    rows = [MotionRow("mouth opening", metrics.motion(openings(generated)), metrics.motion(openings(true)))]
    for group, name in _ROWS:
        pair = (metrics.motion(_tracks(readings, name, group)) for readings in (generated, true))
        rows.append(MotionRow(name, *pair))
    return tuple(rows)


def liveness_figures(takes: Sequence[Take]) -> list[Figure]:
    """How far each aspect of motion is from the truth's: |generated / true - 1|, the mean over expression parameters.

    A mean of ratios would let brows that move twice as much make good for eyes that hardly do. Ceiling: one half of the
    true clips against the other, which shows what chance alone makes of so few clips. Floor: the true frames in a
    random order; shuffling leaves the variance as it is, so there the floor is a face that holds still.
    """
    generated, true = [take.reading for take in takes], [take.truth for take in takes]
    generator = torch.Generator().manual_seed(0)
    shuffled = [_rows(one, torch.randperm(len(one.expression), generator=generator)) for one in true]
    still = [_rows(one, torch.zeros(len(one.expression), dtype=torch.long)) for one in true]
    figures = []
    for name, title in _ASPECTS.items():

        def aspect(readings: Sequence[Reading], name: str = name) -> list[float]:
            return [getattr(metrics.motion(_tracks(readings, column)), name) for column in _MOVING]

        broken = still if name == "variance" else shuffled
        figures.append(_figure(name, f"expressions, {title}: off the truth's by", aspect, generated, true, broken))

    def blinks(readings: Sequence[Reading]) -> list[float]:
        return [metrics.blink_rate([reading.expression[:, _BLINK].numpy() for reading in readings])]

    rates = f"{blinks(generated)[0]:.2f} against {blinks(true)[0]:.2f}"
    return [*figures, _figure("blinks", f"blinks a second, {rates}: off by", blinks, generated, true, still)]


def deviation(generated: Sequence[float], true: Sequence[float]) -> float:
    """The mean of |generated / true - 1|."""
    return float(np.mean([abs(a / max(b, 1e-6) - 1) for a, b in zip(generated, true, strict=True)]))


def _figure(
    key: str,
    title: str,
    aspect: Callable[[Sequence[Reading]], list[float]],
    generated: Sequence[Reading],
    true: Sequence[Reading],
    broken: Sequence[Reading],
) -> Figure:
    num, half = len(true), max(1, len(true) // 2)

    def picked(readings: Sequence[Reading], index: Int[np.ndarray, " clips"]) -> list[Reading]:
        return [readings[i] for i in index]

    def off(one: Sequence[Reading]) -> Estimate:
        return metrics.bootstrap(
            lambda index: deviation(aspect(picked(one, index)), aspect(picked(true, index))), num, num_resamples=200
        )

    chance = deviation(aspect(true[:half]), aspect(true[half:] or true))
    return Figure(f"motion.{key}", title, off(generated), Estimate(chance, chance, chance), off(broken))


def _tracks(readings: Sequence[Reading], name: str, group: str = "expression") -> Tracks:
    column = _NAMES[group].index(name)
    return [getattr(reading, group)[:, column].numpy() for reading in readings]


def _rows(reading: Reading, index: torch.Tensor) -> Reading:
    return replace(reading, **{name: column[index] for name, column in vars(reading).items()})
