"""Figures of the emotions: which one is read, how strong it is, and what EDI has to do with it (ours)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from emotivetalk.corpus.parameters import EMOTION_TARGETS, EXPRESSION
from emotivetalk.evaluation import metrics
from emotivetalk.evaluation.figures import Confusion, Figure
from emotivetalk.evaluation.measurements import Measurement
from emotivetalk.evaluation.metrics import Estimate
from emotivetalk.evaluation.reader import Reading
from emotivetalk.evaluation.test_cases import LEVELS
from emotivetalk.models.emotion import EMOTIONS

_STILL_LEAVES = ("blink", "gaze_x", "gaze_y")  # of which an emotion's strength says nothing

Levels = Float[np.ndarray, "groups levels"]


def emotion_figure(key: str, title: str, measurements: Sequence[Measurement]) -> Figure:
    """Share of clips that are read as asked; floor: what was said, against what was asked of every other clip."""
    asked = wanted(measurements)
    agree = said(measurements)[:, None] == asked
    others = (agree.sum(1) - agree.diagonal()) / max(1, len(measurements) - 1)
    return Figure(
        key=f"emotion.{key}",
        title=title,
        value=metrics.accuracy(said(measurements), asked),
        ceiling=metrics.accuracy(_truly_said(measurements), asked),
        floor=metrics.mean_estimate(others),
    )


def emotion_confusion(title: str, measurements: Sequence[Measurement]) -> Confusion:
    """Which emotion is taken for which."""
    return Confusion(title, metrics.confusion(said(measurements), wanted(measurements), len(EMOTIONS)))


def copied_figure(measurements: Sequence[Measurement]) -> Figure:
    """What a network that copies the portrait's expression is found by."""
    shown = np.array([measurement.case.shown for measurement in measurements])
    return Figure(
        key="emotion.copied",
        title="the portrait's own emotion is read instead",
        value=metrics.accuracy(said(measurements), shown),
        ceiling=metrics.accuracy(_truly_said(measurements), shown),
    )


def edi_figure(measurements: Sequence[Measurement], without: Sequence[Measurement]) -> Figure:
    """By how much the same clips are read as asked less often without EDI: share with, less share without.

    Ceiling: the share with EDI, as if nothing were left without; floor: no difference.

    Raises:
        ValueError: not the same number of clips.
    """
    if len(measurements) != len(without):
        raise ValueError(f"{len(measurements)} clips with EDI, {len(without)} without. Give the same ones.")
    right = (said(measurements) == wanted(measurements)).astype(float)
    left = (said(without) == wanted(without)).astype(float)
    return Figure(
        key="edi.margin",
        title=f"emotion by label falls without EDI, from {right.mean():.2f} to {left.mean():.2f}: by",
        value=metrics.mean_estimate((right - left).tolist()),
        ceiling=metrics.mean_estimate(right.tolist()),
        floor=metrics.mean_estimate([0.0]),
    )


def level_figures(groups: Sequence[Sequence[Measurement]]) -> list[Figure]:
    """Commanded against read intensity over all clips, and within each clip by itself; floor: the read ones shuffled.

    Spearman's correlation shares ranks among equal commands, so with n levels and many clips no reading comes over
    sqrt(1 - 1 / n^2): 0.94 with three. Within a clip there are no equal commands, and the highest is 1. The first says
    whether a command means the same on every face and in every emotion, the second whether more asked is more shown.
    """
    commanded = np.array([[measurement.case.level for measurement in group] for group in groups])
    read = np.array(
        [[strength(measurement.reading, measurement.case.wanted) for measurement in group] for group in groups]
    )
    true = np.array(
        [[strength(measurement.truth, measurement.case.wanted) for measurement in group] for group in groups]
    )
    shuffled = np.random.default_rng(0).permuted(read, axis=1)
    return [
        Figure(key, title, rank(read, commanded), rank(true, commanded), rank(shuffled, commanded))
        for key, title, rank in (
            ("intensity", f"intensity of {len(LEVELS)} levels, rank correlation over all clips", rank_over_all),
            ("intensity_within", "the same within each clip", rank_within),
        )
    ]


def rank_over_all(read: Levels, commanded: Levels) -> Estimate:
    """Spearman's correlation of all numbers at once; intervals over groups."""
    return metrics.bootstrap(
        lambda index: metrics.rank_correlation(read[index].ravel(), commanded[index].ravel()), len(read)
    )


def rank_within(read: Levels, commanded: Levels) -> Estimate:
    """The mean over groups of Spearman's correlation within each."""
    return metrics.mean_estimate([metrics.rank_correlation(*pair) for pair in zip(read, commanded, strict=True)])


def strength(reading: Reading, emotion: int) -> float:
    """How far the clip's mean expression has gone from neutral to the emotion's face: 0 to 1.

    The projection on the way from the one to the other (`EMOTION_TARGETS`), blinks and gaze left out.
    """
    counts = torch.tensor([name not in _STILL_LEAVES for name in EXPRESSION])
    targets = torch.from_numpy(EMOTION_TARGETS)
    way = (targets[emotion] - targets[0]) * counts
    return float((reading.expression.mean(0) - targets[0]) @ way / way.square().sum())


def said(measurements: Sequence[Measurement]) -> Int[np.ndarray, " clips"]:
    """The emotion that is read of each clip."""
    return np.array([measurement.reading.clip_emotion for measurement in measurements])


def wanted(measurements: Sequence[Measurement]) -> Int[np.ndarray, " clips"]:
    """The emotion that was asked for."""
    return np.array([measurement.case.wanted for measurement in measurements])


def _truly_said(measurements: Sequence[Measurement]) -> Int[np.ndarray, " clips"]:
    return np.array([measurement.truth.clip_emotion for measurement in measurements])
