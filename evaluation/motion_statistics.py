"""Figures of motion: speed, frequency and range of expressions compared with true ones (ours).

A face can show the right emotion and still be frozen or tremble. So velocity, three bands of the spectrum, variance and
blinks of each expression parameter are compared between generated and true frames, as the reader measures them.
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
"""Sums that add up over clips, for each parameter."""

MAX_DEVIATION = 0.20
"""Largest deviation from the truth, as a share of it, that counts as natural motion."""

_ROWS = (("expression", "brow_in"), ("expression", "smile"), ("expression", "gaze_x"), ("pose", "yaw"))
_NAMES = {"expression": EXPRESSION, "pose": POSE}
_BLINK = EXPRESSION.index("blink")
_SHUT_ABOVE = 0.2
_STATISTICS = {
    "velocity": "velocity",
    "low": "power below 1.5 Hz",
    "middle": "power to 5 Hz",
    "high": "power above",
    "variance": "variance",
}


def motion_rows(measurements: Sequence[Measurement]) -> tuple[MotionRow, ...]:
    """Return the motion statistics of the mouth, a brow, the smile, the gaze and the head."""
    generated = [interpolate_blinks(measurement.reading) for measurement in measurements]
    true = [interpolate_blinks(measurement.truth) for measurement in measurements]
    statistics = metrics.motion_statistics
    rows = [MotionRow("mouth opening", statistics(openings(generated)), statistics(openings(true)))]
    for group, name in _ROWS:
        pair = (statistics(_tracks(readings, name, group)) for readings in (generated, true))
        rows.append(MotionRow(name, *pair))
    return tuple(rows)


def motion_figures(measurements: Sequence[Measurement]) -> list[Figure]:
    """Return the deviation of each statistic from the truth: |generated / true - 1|, averaged over parameters.

    With a mean of ratios, brows that move twice as much would compensate for eyes that hardly move. Ceiling: one half of
    the true clips against the other half, which is the deviation by chance. Floor: the true frames in random order;
    shuffling does not change the variance, so its floor is a face that does not move. All statistics but the blinks
    interpolate over blinks (`interpolate_blinks`). Blinks are left out if none is read in the true frames.
    """
    readings, truths = [measurement.reading for measurement in measurements], [m.truth for m in measurements]
    generated, true = ([interpolate_blinks(reading) for reading in clips] for clips in (readings, truths))
    generator = torch.Generator().manual_seed(0)
    shuffled = [_rows(clip, torch.randperm(len(clip.expression), generator=generator)) for clip in true]
    still = [_rows(clip, torch.zeros(len(clip.expression), dtype=torch.long)) for clip in true]
    generated_sums, true_sums, shuffled_sums, still_sums = (
        _motion_sums(clips) for clips in (generated, true, shuffled, still)
    )
    figures = []
    for name, title in _STATISTICS.items():

        def statistic(sums: Sums, name: str = name) -> list[float]:
            return [getattr(metrics.pooled_motion(column), name) for column in sums.sum(0)]

        floor_sums = still_sums if name == "variance" else shuffled_sums
        title = f"expressions, {title}: off the truth's by"
        figures.append(_figure(name, title, statistic, generated_sums, true_sums, floor_sums))

    def rate(sums: Sums) -> list[float]:
        blinks, num_frames = sums.sum((0, 1))
        return [float(blinks * FRAME_RATE_HZ / num_frames)]

    blink_sums = [_blink_sums(clips) for clips in (readings, truths, still)]
    if rate(blink_sums[1])[0] == 0:
        return figures  # there is nothing to compare with
    title = f"blinks a second, {rate(blink_sums[0])[0]:.2f} against {rate(blink_sums[1])[0]:.2f}: off by"
    return [*figures, _figure("blinks", title, rate, *blink_sums)]


def interpolate_blinks(reading: Reading) -> Reading:
    """Interpolate all expressions but the lids linearly over each blink, from a frame before to a frame after it.

    The reader cannot see the brows' effect on closed eyes: a surprised face seems to lower its brows with each blink. This
    error was more than half of their variance on true frames. A clip without open eyes is returned unchanged.
    """
    shut = reading.expression[:, _BLINK].numpy() > _SHUT_ABOVE
    affected = np.convolve(shut, np.ones(3), "same") > 0
    if affected.all() or not affected.any():
        return reading
    frames, tracks = np.arange(len(affected)), reading.expression.numpy().copy()
    for column in (c for c in range(tracks.shape[1]) if c != _BLINK):
        tracks[affected, column] = np.interp(frames[affected], frames[~affected], tracks[~affected, column])
    return replace(reading, expression=torch.from_numpy(tracks))


def deviation(generated: Sequence[float], true: Sequence[float]) -> float:
    """Average |generated / true - 1|."""
    return float(np.mean([abs(a - b) / max(b, 1e-6) for a, b in zip(generated, true, strict=True)]))


def _figure(
    key: str, title: str, statistic: Callable[[Sums], list[float]], generated: Sums, true: Sums, floor: Sums
) -> Figure:
    num, half = len(true), max(1, len(true) // 2)

    def estimate(sums: Sums) -> Estimate:
        return metrics.bootstrap(lambda index: deviation(statistic(sums[index]), statistic(true[index])), num)

    chance = deviation(statistic(true[:half]), statistic(true[half:] if num > 1 else true))
    return Figure(f"motion.{key}", title, estimate(generated), Estimate(chance, chance, chance), estimate(floor))


def _motion_sums(readings: Sequence[Reading]) -> Sums:
    columns = [EXPRESSION.index(name) for name in WANDERING]
    tracks = [reading.expression.numpy() for reading in readings]
    return np.array([[metrics.motion_sums(track[:, column]) for column in columns] for track in tracks])


def _blink_sums(readings: Sequence[Reading]) -> Sums:
    lids = [reading.expression[:, _BLINK].numpy() for reading in readings]
    return np.array([[[metrics.count_blinks(track), len(track)]] for track in lids], float)


def _tracks(readings: Sequence[Reading], name: str, group: str) -> Tracks:
    column = _NAMES[group].index(name)
    return [getattr(reading, group)[:, column].numpy() for reading in readings]


def _rows(reading: Reading, index: torch.Tensor) -> Reading:
    return replace(reading, **{name: column[index] for name, column in vars(reading).items()})
