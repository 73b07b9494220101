"""Figures of motion: do expressions move as fast, as often and as far as true ones (ours).

A network can say the right emotion and still be a mask, or tremble. So what the reader sees of every expression
parameter is compared between generated and true frames: velocity, three bands of the spectrum, variance, blinks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from emotivetalk.corpus.parameters import EXPRESSION, POSE, WANDERING
from emotivetalk.evaluation import metrics
from emotivetalk.evaluation.figures import Figure, MotionRow
from emotivetalk.evaluation.lips import openings
from emotivetalk.evaluation.measurements import Measurement
from emotivetalk.evaluation.metrics import Estimate, Tracks
from emotivetalk.evaluation.reader import Reading
from emotivetalk.timebase import FRAME_RATE_HZ

Sums = Float[np.ndarray, "clips parameters sums"]
"""What adds up over clips, of each parameter by itself."""

WITHIN = 0.20
"""How far from the truth's, as a share of it, is called alive."""

_ROWS = (("expression", "brow_in"), ("expression", "smile"), ("expression", "gaze_x"), ("pose", "yaw"))
_NAMES = {"expression": EXPRESSION, "pose": POSE}
_BLINK = EXPRESSION.index("blink")
_SHUT = 0.2
_ASPECTS = {
    "velocity": "velocity",
    "low": "power below 1.5 Hz",
    "middle": "power to 5 Hz",
    "high": "power above",
    "variance": "variance",
}


def motion_rows(measurements: Sequence[Measurement]) -> tuple[MotionRow, ...]:
    """How the mouth, a brow, the smile, the gaze and the head move."""
    generated, true = (
        [lids_open(measurement.reading) for measurement in measurements],
        [lids_open(measurement.truth) for measurement in measurements],
    )
    rows = [MotionRow("mouth opening", metrics.motion(openings(generated)), metrics.motion(openings(true)))]
    for group, name in _ROWS:
        pair = (metrics.motion(_tracks(readings, name, group)) for readings in (generated, true))
        rows.append(MotionRow(name, *pair))
    return tuple(rows)


def liveness_figures(measurements: Sequence[Measurement]) -> list[Figure]:
    """How far each aspect of motion is from the truth's: |generated / true - 1|, the mean over expression parameters.

    A mean of ratios would let brows that move twice as much make good for eyes that hardly do. Ceiling: one half of the
    true clips against the other, which shows what chance alone makes of so few clips. Floor: the true frames in a
    random order; shuffling leaves the variance as it is, so there the floor is a face that holds still. All but the blinks
    are read between blinks (`lids_open`).
    """
    lids = [[measurement.reading for measurement in measurements], [measurement.truth for measurement in measurements]]
    generated, true = ([lids_open(reading) for reading in readings] for readings in lids)
    generator = torch.Generator().manual_seed(0)
    shuffled = [_rows(one, torch.randperm(len(one.expression), generator=generator)) for one in true]
    still = [_rows(one, torch.zeros(len(one.expression), dtype=torch.long)) for one in true]
    sums = {id(some): _sums(some) for some in (generated, true, shuffled, still)}
    figures = []
    for name, title in _ASPECTS.items():

        def aspect(rows: Sums, name: str = name) -> list[float]:
            return [getattr(metrics.pooled_motion(column), name) for column in rows.sum(0)]

        broken = sums[id(still if name == "variance" else shuffled)]
        title = f"expressions, {title}: off the truth's by"
        figures.append(_figure(name, title, aspect, sums[id(generated)], sums[id(true)], broken))

    def rate(rows: Sums) -> list[float]:
        blinks, num_frames = rows.sum((0, 1))
        return [float(blinks * FRAME_RATE_HZ / num_frames)]

    made, right, none = (_blinks(some) for some in (*lids, still))
    title = f"blinks a second, {rate(made)[0]:.2f} against {rate(right)[0]:.2f}: off by"
    return [*figures, _figure("blinks", title, rate, made, right, none)]


def lids_open(reading: Reading) -> Reading:
    """The reading with its expressions led straight across blinks, each from a frame before to a frame after it.

    Of shut eyes the reader knows the lids and loses the brows: a surprised face seems to drop them with every blink. On the
    renderer's frames that was more than half of their variance. Lids are left as they are, and so is a clip without open eyes.
    """
    shut = reading.expression[:, _BLINK].numpy() > _SHUT
    near = np.convolve(shut, np.ones(3), "same") > 0
    if near.all() or not near.any():
        return reading
    frames, tracks = np.arange(len(near)), reading.expression.numpy().copy()
    for column in (c for c in range(tracks.shape[1]) if c != _BLINK):
        tracks[near, column] = np.interp(frames[near], frames[~near], tracks[~near, column])
    return replace(reading, expression=torch.from_numpy(tracks))


def deviation(generated: Sequence[float], true: Sequence[float]) -> float:
    """The mean of |generated / true - 1|."""
    return float(np.mean([abs(a - b) / max(b, 1e-6) for a, b in zip(generated, true, strict=True)]))


def _figure(
    key: str, title: str, aspect: Callable[[Sums], list[float]], generated: Sums, true: Sums, broken: Sums
) -> Figure:
    num, half = len(true), max(1, len(true) // 2)

    def off(one: Sums) -> Estimate:
        return metrics.bootstrap(lambda index: deviation(aspect(one[index]), aspect(true[index])), num)

    chance = deviation(aspect(true[:half]), aspect(true[half:] if num > 1 else true))
    return Figure(f"motion.{key}", title, off(generated), Estimate(chance, chance, chance), off(broken))


def _sums(readings: Sequence[Reading]) -> Sums:
    columns = [EXPRESSION.index(name) for name in WANDERING]
    tracks = [reading.expression.numpy() for reading in readings]
    return np.array([[metrics.motion_sums(track[:, column]) for column in columns] for track in tracks])


def _blinks(readings: Sequence[Reading]) -> Sums:
    lids = [reading.expression[:, _BLINK].numpy() for reading in readings]
    return np.array([[[metrics.count_blinks(track), len(track)]] for track in lids], float)


def _tracks(readings: Sequence[Reading], name: str, group: str) -> Tracks:
    column = _NAMES[group].index(name)
    return [getattr(reading, group)[:, column].numpy() for reading in readings]


def _rows(reading: Reading, index: torch.Tensor) -> Reading:
    return replace(reading, **{name: column[index] for name, column in vars(reading).items()})
