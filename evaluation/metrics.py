"""Metrics as pure functions of arrays (ours).

A track is a NumPy array with one number per frame at 25 frames a second; a list of tracks has one per clip. Pictures are
RGB in 0..1. Bootstrap intervals resample whole clips, because the frames of a clip are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from emotivetalk.timebase import FRAME_RATE_HZ

NUM_RESAMPLES = 1000
MOST_DB = 60.0
"""Upper limit of PSNR, so that means stay finite; at this value no difference is visible."""

_BLINK_CLOSED, _BLINK_OPEN = 0.5, 0.3
_SPECTRUM_EDGES_HZ = (0.0, 1.5, 5.0, 12.6)

Tracks = Sequence[Float[np.ndarray, " frames"]]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval over clips. With a single clip, both ends equal the value."""

    value: float
    low: float
    high: float


def bootstrap(statistic: Callable[[Int[np.ndarray, " clips"]], float], num_clips: int, seed: int = 0) -> Estimate:
    """Estimate a statistic and its percentile interval over 1000 resamples of the clips with replacement.

    Args:
        statistic: function of clip indices, which may repeat.
        num_clips: number of clips.

    Raises:
        ValueError: there are no clips.
    """
    if num_clips < 1:
        raise ValueError("there are no clips to estimate a statistic of. Give at least one clip.")
    value = statistic(np.arange(num_clips))
    if num_clips == 1:
        return Estimate(value, value, value)
    draws = np.random.default_rng(seed).integers(num_clips, size=(NUM_RESAMPLES, num_clips))
    low, high = np.nanpercentile([statistic(index) for index in draws], [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def mean_estimate(values: Sequence[float]) -> Estimate:
    """Estimate the mean of one value per clip."""
    array = np.asarray(values, np.float64)
    return bootstrap(lambda index: float(array[index].mean()), len(array))


# ---------------------------------------------------------------------------------------------------- correlation


@dataclass(frozen=True)
class LagCurve:
    """Correlation of two tracks at several lags in frames; at a positive lag the first track is late."""

    lags: tuple[int, ...]
    r: tuple[float, ...]

    @property
    def peak_lag(self) -> int:
        """Lag of the largest correlation; 0 means synchronous."""
        return self.lags[int(np.argmax(self.r))]


def correlation(measured: Tracks, truth: Tracks) -> Estimate:
    """Estimate Pearson's r within clips: each clip's mean is subtracted, so differences between clips do not count.

    Raises:
        ValueError: the clips or their lengths differ.
    """
    moments = np.array([_moments(a, b, 0) for a, b in _pairs(measured, truth)])
    return bootstrap(lambda index: _r(moments[index].sum(0)), len(moments))


def pooled_r(measured: Tracks, truth: Tracks) -> float:
    """Compute the value of `correlation` without its interval.

    Raises:
        ValueError: the clips or their lengths differ.
    """
    return _r(np.sum([_moments(a, b, 0) for a, b in _pairs(measured, truth)], axis=0))


def lag_curve(measured: Tracks, truth: Tracks, max_lag: int = 8) -> LagCurve:
    """Compute the correlation within clips at lags of -max_lag .. max_lag frames, over the overlapping frames.

    Raises:
        ValueError: the clips or their lengths differ, or a clip has fewer than max_lag + 3 frames.
    """
    pairs = _pairs(measured, truth)
    shortest = min(len(a) for a, _ in pairs)
    if shortest < max_lag + 3:
        raise ValueError(f"a clip has {shortest} frames; a lag of {max_lag} needs {max_lag + 3}. Lower max_lag.")
    lags = tuple(range(-max_lag, max_lag + 1))
    return LagCurve(lags, tuple(_r(np.sum([_moments(a, b, lag) for a, b in pairs], axis=0)) for lag in lags))


def _pairs(measured: Tracks, truth: Tracks) -> list[tuple[np.ndarray, np.ndarray]]:
    lengths = [len(track) for track in measured], [len(track) for track in truth]
    if lengths[0] != lengths[1] or not lengths[0]:
        raise ValueError(f"tracks to correlate differ in length: {lengths[0]} and {lengths[1]} frames. Cut them alike.")
    return [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(measured, truth, strict=True)]


def _moments(a: np.ndarray, b: np.ndarray, lag: int) -> tuple[float, float, float]:
    """Sum a b, a a and b b about their means, for a[t + lag] and b[t]."""
    a, b = (a[lag:], b[: len(b) - lag]) if lag >= 0 else (a[:lag], b[-lag:])
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b), float(a @ a), float(b @ b)


def _r(moments: np.ndarray) -> float:
    """Compute r from the moments; 0 if one of the tracks is constant."""
    both, one, other = moments
    return float(both / np.sqrt(one * other)) if one * other > 1e-18 else 0.0


def rank_correlation(one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"]) -> float:
    """Compute Spearman's rank correlation; ties share their mean rank, and a constant input gives 0."""
    return _r(np.array(_moments(_ranks(one), _ranks(other), 0)))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


# ------------------------------------------------------------------------------------------------------- classes


def accuracy(predicted: Int[np.ndarray, " clips"], targets: Int[np.ndarray, " clips"]) -> Estimate:
    """Estimate the share of clips whose predicted class is the target."""
    hits = (np.asarray(predicted) == np.asarray(targets)).astype(np.float64)
    return bootstrap(lambda index: float(hits[index].mean()), len(hits))


def confusion(
    predicted: Int[np.ndarray, " clips"], targets: Int[np.ndarray, " clips"], num_classes: int
) -> Int[np.ndarray, "targets predicted"]:
    """Count clips by target class (rows) and predicted class (columns)."""
    counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (np.asarray(targets), np.asarray(predicted)), 1)
    return counts


# ------------------------------------------------------------------------------------------------------ pictures


def psnr(
    images: Float[Tensor, "frames 3 H W"],
    truth: Float[Tensor, "frames 3 H W"],
    mask: Float[Tensor, "frames 1 H W"] | None = None,
) -> Float[np.ndarray, " frames"]:
    """Compute the peak signal-to-noise ratio of each frame in dB, at most 60.

    Args:
        mask: weight of each pixel; all pixels count equally by default. A frame with an empty mask gives NaN.
    """
    error = (images - truth).square().mean(1)
    weight = torch.ones_like(error) if mask is None else mask[:, 0].expand_as(error)
    mean = (error * weight).flatten(1).sum(1) / weight.flatten(1).sum(1)
    return (-10 * mean.double().clamp(min=10 ** (-MOST_DB / 10)).log10()).numpy()


def high_pass_ratio(images: Float[Tensor, "frames 3 H W"], truth: Float[Tensor, "frames 3 H W"]) -> float:
    """Compute the energy of the difference from a 3 x 3 mean, relative to the truth: below 1 is soft, above 1 is noisy."""

    def energy(pictures: Tensor) -> Tensor:
        return (pictures - F.avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)).square().mean()

    return float(energy(images) / energy(truth))


def drift(
    frames: Float[Tensor, "frames 3 H W"], still: Float[Tensor, "1 H W"], frames_per_s: int = FRAME_RATE_HZ
) -> Float[np.ndarray, " seconds"]:
    """Compute the PSNR in dB of each second's mean picture against the first second's, over pixels that should not move.

    The last value is the clip's drift; 60 means none.

    Args:
        still: mask of the pixels that should not move, see `still_mask`.

    Raises:
        ValueError: the clip is shorter than two seconds.
    """
    seconds = len(frames) // frames_per_s
    if seconds < 2:
        raise ValueError(
            f"the clip has {len(frames)} frames; drift needs two seconds of {frames_per_s}. Give a longer clip."
        )
    means = torch.stack([frames[i * frames_per_s : (i + 1) * frames_per_s].mean(0) for i in range(seconds)])
    return psnr(means[1:], means[:1].expand_as(means[1:]), still.expand(seconds - 1, 1, *still.shape[-2:]))


def still_mask(frames: Float[Tensor, "frames 3 H W"], share: float = 1 / 3) -> Float[Tensor, "1 H W"]:
    """Return 1 on the given share of pixels that change least between frames, which are not part of the head.

    Slow drift hardly changes consecutive frames, so drifting pixels stay in the mask.
    """
    changes = (frames[1:] - frames[:-1]).abs().mean((0, 1))
    return (changes <= changes.flatten().quantile(share)).float()[None]


def frame_changes(frames: Float[Tensor, "frames 3 H W"]) -> Float[np.ndarray, " steps"]:
    """Compute the mean absolute difference of each frame from the one before."""
    return (frames[1:] - frames[:-1]).abs().mean((1, 2, 3)).double().numpy()


def border_ratios(changes: Float[np.ndarray, " steps"], borders: Sequence[int]) -> Float[np.ndarray, " borders"]:
    """Divide the change at each border by the median change elsewhere; 1 means no seam.

    Args:
        changes: result of `frame_changes`; entry t - 1 is the step into frame t.
        borders: first frames of chunks or segments; those outside the clip are ignored.

    Raises:
        ValueError: no step is at a border, or every step is.
    """
    at = np.zeros(len(changes), bool)
    at[[border - 1 for border in borders if 0 < border <= len(changes)]] = True
    if not at.any() or at.all():
        raise ValueError(
            f"{int(at.sum())} of {len(changes)} steps are at borders. Give a clip with steps of both kinds."
        )
    return changes[at] / max(float(np.median(changes[~at])), 1e-9)


# -------------------------------------------------------------------------------------------------------- motion


@dataclass(frozen=True)
class MotionStatistics:
    """Statistics of how tracks move; a track may have the right mean and still be frozen or noisy.

    Attributes:
        velocity: mean absolute step between frames in standard deviations; 1.13 for white noise.
        low, middle, high: shares of the power below 1.5 Hz, from 1.5 to 5 Hz, and above 5 Hz.
        variance: variance within clips.
    """

    velocity: float
    low: float
    middle: float
    high: float
    variance: float


def motion_statistics(tracks: Tracks) -> MotionStatistics:
    """Compute the statistics of tracks, each about its own mean, pooled over clips.

    Raises:
        ValueError: there are no tracks.
    """
    if not len(tracks):
        raise ValueError("there are no tracks. Give at least one.")
    return pooled_motion(np.sum([motion_sums(track) for track in tracks], axis=0))


def motion_sums(track: Float[np.ndarray, " frames"]) -> Float[np.ndarray, "7"]:
    """Compute the sums of one track that add up over tracks: steps, squares, their counts, and the power of each band."""
    centred = np.asarray(track, np.float64) - np.mean(track)
    spectrum = np.abs(np.fft.rfft(centred)[1:]) ** 2 / len(track)
    hertz = np.fft.rfftfreq(len(track), 1 / FRAME_RATE_HZ)[1:]
    power = np.histogram(hertz, _SPECTRUM_EDGES_HZ, weights=spectrum)[0]
    steps = np.abs(np.diff(centred))
    return np.array([steps.sum(), len(steps), np.square(centred).sum(), len(centred), *power])


def pooled_motion(sums: Float[np.ndarray, "7"]) -> MotionStatistics:
    """Compute the statistics from the total of several tracks' `motion_sums`."""
    steps, num_steps, squares, num_frames, *power = sums
    variance = float(squares / num_frames)
    low, middle, high = (np.array(power) / max(float(np.sum(power)), 1e-12)).tolist()
    return MotionStatistics(float(steps / num_steps / max(np.sqrt(variance), 1e-9)), low, middle, high, variance)


def blink_rate(blinks: Tracks) -> float:
    """Compute the number of blinks per second; see `count_blinks`."""
    return sum(map(count_blinks, blinks)) * FRAME_RATE_HZ / max(1, sum(len(track) for track in blinks))


def count_blinks(track: Float[np.ndarray, " frames"]) -> int:
    """Count blinks: the lids close beyond 0.5, and the next blink counts after they open below 0.3."""
    count, is_closed = 0, False
    for value in track:
        if not is_closed and value > _BLINK_CLOSED:
            count, is_closed = count + 1, True
        elif is_closed and value < _BLINK_OPEN:
            is_closed = False
    return count
