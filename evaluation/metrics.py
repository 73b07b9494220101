"""What is measured, as pure functions of arrays (ours).

Tracks are NumPy arrays of one number per frame, 25 frames a second; pictures are RGB in 0..1. Lists of tracks are one
track per clip, and intervals come from drawing whole clips again, because the frames of a clip are not independent.
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
"""Two pictures without a visible difference; PSNR is not counted higher, so that means stay finite."""

_BLINK_CLOSED, _BLINK_OPEN = 0.5, 0.3
_SPECTRUM_EDGES_HZ = (0.0, 1.5, 5.0, 12.6)

Tracks = Sequence[Float[np.ndarray, " frames"]]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval over clips (both ends the value itself where there is one clip only)."""

    value: float
    low: float
    high: float


def bootstrap(statistic: Callable[[Int[np.ndarray, " clips"]], float], num_clips: int, seed: int = 0) -> Estimate:
    """A statistic of some clips, and its percentile interval over 1000 draws of as many clips with replacement.

    Args:
        statistic: takes the clips' indices, with repetitions.
        num_clips: how many there are.

    Raises:
        ValueError: there are no clips.
    """
    if num_clips < 1:
        raise ValueError("a statistic of no clips does not exist. Give at least one clip.")
    value = statistic(np.arange(num_clips))
    if num_clips == 1:
        return Estimate(value, value, value)
    draws = np.random.default_rng(seed).integers(num_clips, size=(NUM_RESAMPLES, num_clips))
    low, high = np.nanpercentile([statistic(index) for index in draws], [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def mean_estimate(values: Sequence[float]) -> Estimate:
    """The mean of one value per clip."""
    array = np.asarray(values, np.float64)
    return bootstrap(lambda index: float(array[index].mean()), len(array))


# ---------------------------------------------------------------------------------------------------- correlation


@dataclass(frozen=True)
class LagCurve:
    """Correlation with one track moved against the other. lag > 0: the first one is late, in frames."""

    lags: tuple[int, ...]
    r: tuple[float, ...]

    @property
    def peak_lag(self) -> int:
        """Where the correlation is largest; anything but 0 is an error of synchrony."""
        return self.lags[int(np.argmax(self.r))]


def correlation(measured: Tracks, truth: Tracks) -> Estimate:
    """Pearson's r within clips: each clip's own means are taken off first, so what differs between clips counts nothing.

    Raises:
        ValueError: the clips or their lengths differ.
    """
    moments = np.array([_moments(a, b, 0) for a, b in _pairs(measured, truth)])
    return bootstrap(lambda index: _r(moments[index].sum(0)), len(moments))


def pooled_r(measured: Tracks, truth: Tracks) -> float:
    """The value of `correlation` without its interval.

    Raises:
        ValueError: the clips or their lengths differ.
    """
    return _r(np.sum([_moments(a, b, 0) for a, b in _pairs(measured, truth)], axis=0))


def lag_curve(measured: Tracks, truth: Tracks, max_lag: int = 8) -> LagCurve:
    """The correlation within clips at lags of -max_lag .. max_lag frames, where the two overlap.

    Raises:
        ValueError: the clips or their lengths differ, or a clip is not longer than two frames and the largest lag.
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
    """Sums of a b, a a and b b about their means, of a[t + lag] and b[t]."""
    a, b = (a[lag:], b[: len(b) - lag]) if lag >= 0 else (a[:lag], b[-lag:])
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b), float(a @ a), float(b @ b)


def _r(moments: np.ndarray) -> float:
    """No correlation where one of the two never moves."""
    both, one, other = moments
    return float(both / np.sqrt(one * other)) if one * other > 1e-18 else 0.0


def rank_correlation(one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"]) -> float:
    """Spearman's: Pearson's r of the ranks, ties sharing their mean rank; 0 where one is constant."""
    return _r(np.array(_moments(_ranks(one), _ranks(other), 0)))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


# ------------------------------------------------------------------------------------------------------- classes


def accuracy(said: Int[np.ndarray, " clips"], wanted: Int[np.ndarray, " clips"]) -> Estimate:
    """How many of the clips say what was wanted."""
    hits = (np.asarray(said) == np.asarray(wanted)).astype(np.float64)
    return bootstrap(lambda index: float(hits[index].mean()), len(hits))


def confusion(
    said: Int[np.ndarray, " clips"], wanted: Int[np.ndarray, " clips"], num_classes: int
) -> Int[np.ndarray, "wanted said"]:
    """How many clips of each wanted class (rows) said each class (columns)."""
    counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (np.asarray(wanted), np.asarray(said)), 1)
    return counts


# ------------------------------------------------------------------------------------------------------ pictures


def psnr(
    images: Float[Tensor, "frames 3 H W"],
    truth: Float[Tensor, "frames 3 H W"],
    mask: Float[Tensor, "frames 1 H W"] | None = None,
) -> Float[np.ndarray, " frames"]:
    """Peak signal to noise in dB of each frame, at most 60; of the pixels by the weight of `mask` only, if given.

    A frame whose mask is empty has none: NaN.
    """
    error = (images - truth).square().mean(1)
    weight = torch.ones_like(error) if mask is None else mask[:, 0].expand_as(error)
    mean = (error * weight).flatten(1).sum(1) / weight.flatten(1).sum(1)
    return (-10 * mean.double().clamp(min=10 ** (-MOST_DB / 10)).log10()).numpy()


def high_pass_ratio(images: Float[Tensor, "frames 3 H W"], truth: Float[Tensor, "frames 3 H W"]) -> float:
    """Energy of what a 3 x 3 mean takes away, over the truth's: below 1 is soft, above is noisy."""

    def energy(pictures: Tensor) -> Tensor:
        return (pictures - F.avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)).square().mean()

    return float(energy(images) / energy(truth))


def drift(
    frames: Float[Tensor, "frames 3 H W"], still: Float[Tensor, "1 H W"], frames_per_s: int = FRAME_RATE_HZ
) -> Float[np.ndarray, " seconds"]:
    """PSNR in dB of each second's mean picture against the first second's, where nothing should move.

    The last one is the clip's drift; 60 is none.

    Raises:
        ValueError: the clip is shorter than two seconds.
    """
    seconds = len(frames) // frames_per_s
    if seconds < 2:
        raise ValueError(
            f"the clip has {len(frames)} frames; drift needs two seconds of {frames_per_s}. Take a longer one."
        )
    means = torch.stack([frames[i * frames_per_s : (i + 1) * frames_per_s].mean(0) for i in range(seconds)])
    return psnr(means[1:], means[:1].expand_as(means[1:]), still.expand(seconds - 1, 1, *still.shape[-2:]))


def still_mask(frames: Float[Tensor, "frames 3 H W"], share: float = 1 / 3) -> Float[Tensor, "1 H W"]:
    """1 on the given share of pixels that change least from frame to frame: what is not the head.

    Slow drift is no change from frame to frame, so it does not hide itself.
    """
    changes = (frames[1:] - frames[:-1]).abs().mean((0, 1))
    return (changes <= changes.flatten().quantile(share)).float()[None]


def frame_changes(frames: Float[Tensor, "frames 3 H W"]) -> Float[np.ndarray, " steps"]:
    """Mean absolute difference of each frame from the one before."""
    return (frames[1:] - frames[:-1]).abs().mean((1, 2, 3)).double().numpy()


def border_ratios(changes: Float[np.ndarray, " steps"], borders: Sequence[int]) -> Float[np.ndarray, " borders"]:
    """How much changes at each border, over the median of what changes elsewhere; 1 is no seam.

    Args:
        changes: of `frame_changes`: entry t - 1 is the step into frame t.
        borders: frames that begin a chunk or a segment; those outside the clip do not count.

    Raises:
        ValueError: no border lies inside the clip, or nothing else does.
    """
    at = np.zeros(len(changes), bool)
    at[[border - 1 for border in borders if 0 < border <= len(changes)]] = True
    if not at.any() or at.all():
        raise ValueError(f"of {len(changes)} steps, {int(at.sum())} are borders. Give a clip that has both kinds.")
    return changes[at] / max(float(np.median(changes[~at])), 1e-9)


# -------------------------------------------------------------------------------------------------------- motion


@dataclass(frozen=True)
class Motion:
    """How a track moves. A network may score well by its means while its motion is noise or is frozen.

    velocity: mean step from frame to frame in standard deviations; white noise has 1.13, slow motion little.
    low, middle, high: shares of its power below 1.5 Hz, to 5 Hz, and above.
    variance: within clips.
    """

    velocity: float
    low: float
    middle: float
    high: float
    variance: float


def motion(tracks: Tracks) -> Motion:
    """See `Motion`; pooled over clips, each about its own mean.

    Raises:
        ValueError: there are no tracks.
    """
    if not len(tracks):
        raise ValueError("there is no track to describe. Give at least one.")
    return pooled_motion(np.sum([motion_sums(track) for track in tracks], axis=0))


def motion_sums(track: Float[np.ndarray, " frames"]) -> Float[np.ndarray, "7"]:
    """What of one track adds up over tracks: steps and squares with their numbers, and the power of each band."""
    centred = np.asarray(track, np.float64) - np.mean(track)
    spectrum = np.abs(np.fft.rfft(centred)[1:]) ** 2 / len(track)
    hertz = np.fft.rfftfreq(len(track), 1 / FRAME_RATE_HZ)[1:]
    power = np.histogram(hertz, _SPECTRUM_EDGES_HZ, weights=spectrum)[0]
    steps = np.abs(np.diff(centred))
    return np.array([steps.sum(), len(steps), np.square(centred).sum(), len(centred), *power])


def pooled_motion(sums: Float[np.ndarray, "7"]) -> Motion:
    """The motion of tracks whose `motion_sums` were added."""
    steps, num_steps, squares, num_frames, *power = sums
    variance = float(squares / num_frames)
    low, middle, high = (np.array(power) / max(float(np.sum(power)), 1e-12)).tolist()
    return Motion(float(steps / num_steps / max(np.sqrt(variance), 1e-9)), low, middle, high, variance)


def blink_rate(blinks: Tracks) -> float:
    """Blinks a second: lids that close beyond a half, each counted once until they are open again."""
    return sum(map(count_blinks, blinks)) * FRAME_RATE_HZ / max(1, sum(len(track) for track in blinks))


def count_blinks(track: Float[np.ndarray, " frames"]) -> int:
    """How many there are in one track; see `blink_rate`."""
    count, is_closed = 0, False
    for value in track:
        if not is_closed and value > _BLINK_CLOSED:
            count, is_closed = count + 1, True
        elif is_closed and value < _BLINK_OPEN:
            is_closed = False
    return count
