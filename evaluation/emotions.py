"""Figures of the emotions: recognition, intensity, and the contribution of EDI (ours)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from emotivetalk.corpus.parameters import EMOTION_TARGETS, EXPRESSION
from emotivetalk.evaluation import metrics
from emotivetalk.evaluation.cases import INTENSITY_LEVELS
from emotivetalk.evaluation.figures import Confusion, Figure
from emotivetalk.evaluation.measurements import Measurement
from emotivetalk.evaluation.metrics import Estimate
from emotivetalk.evaluation.reader import Reading
from emotivetalk.models.emotion import EMOTIONS

_INDEPENDENT_OF_INTENSITY = ("blink", "gaze_x", "gaze_y")

Levels = Float[np.ndarray, "groups levels"]


def emotion_figures(key: str, title: str, measurements: Sequence[Measurement]) -> list[Figure]:
    """Return the share of clips whose target emotion is recognized.

    The floor compares each clip's recognized emotion with the targets of all other clips.
    """
    targets = target_emotions(measurements)
    agrees = predicted_emotions(measurements)[:, None] == targets
    agreement_with_others = (agrees.sum(1) - agrees.diagonal()) / max(1, len(measurements) - 1)
    return [
        Figure(
            key=f"emotion.{key}",
            title=title,
            value=metrics.accuracy(predicted_emotions(measurements), targets),
            ceiling=metrics.accuracy(_predictions_on_truth(measurements), targets),
            floor=metrics.mean_estimate(agreement_with_others),
        )
    ]


def emotion_confusion(title: str, measurements: Sequence[Measurement]) -> Confusion:
    """Count clips by target and recognized emotion."""
    counts = metrics.confusion(predicted_emotions(measurements), target_emotions(measurements), len(EMOTIONS))
    return Confusion(title, counts)


def copied_figure(measurements: Sequence[Measurement]) -> Figure:
    """Return the share of clips that show the portrait's emotion; a network that copies the portrait scores high."""
    portrait_emotions = np.array([measurement.case.portrait_emotion for measurement in measurements])
    return Figure(
        key="emotion.copied",
        title="the portrait's own emotion is read instead",
        value=metrics.accuracy(predicted_emotions(measurements), portrait_emotions),
        ceiling=metrics.accuracy(_predictions_on_truth(measurements), portrait_emotions),
    )


def edi_figure(measurements: Sequence[Measurement], without: Sequence[Measurement]) -> Figure:
    """Return the recognition rate with EDI less the rate of the same clips without it.

    Ceiling: the rate with EDI, as if no clip were recognized without it. Floor: no difference.

    Raises:
        ValueError: the numbers of clips differ.
    """
    if len(measurements) != len(without):
        raise ValueError(f"{len(measurements)} clips with EDI and {len(without)} without. Measure the same clips.")
    correct_with = (predicted_emotions(measurements) == target_emotions(measurements)).astype(float)
    correct_without = (predicted_emotions(without) == target_emotions(without)).astype(float)
    return Figure(
        key="edi.margin",
        title=f"emotion by label falls without EDI, from {correct_with.mean():.2f} to {correct_without.mean():.2f}: by",
        value=metrics.mean_estimate((correct_with - correct_without).tolist()),
        ceiling=metrics.mean_estimate(correct_with.tolist()),
        floor=metrics.mean_estimate([0.0]),
    )


def level_figures(groups: Sequence[Sequence[Measurement]]) -> list[Figure]:
    """Return rank correlations of requested and measured intensity, over all clips and within each group.

    Spearman's correlation gives equal requests the same rank, so with n levels and many clips it cannot exceed
    sqrt(1 - 1 / n^2): 0.94 for three levels. Within a group no requests are equal, and the maximum is 1. The first figure
    shows if a level means the same for every face and emotion, the second if a higher level is stronger. The floor
    shuffles the measured intensities.
    """
    requested = np.array([[measurement.case.intensity for measurement in group] for group in groups])
    measured = np.array([[expression_strength(m.reading, m.case.target_emotion) for m in group] for group in groups])
    true = np.array([[expression_strength(m.truth, m.case.target_emotion) for m in group] for group in groups])
    shuffled = np.random.default_rng(0).permuted(measured, axis=1)
    return [
        Figure(key, title, rank(measured, requested), rank(true, requested), rank(shuffled, requested))
        for key, title, rank in (
            (
                "intensity",
                f"intensity of {len(INTENSITY_LEVELS)} levels, rank correlation over all clips",
                rank_over_all,
            ),
            ("intensity_within", "the same within each clip", rank_within),
        )
    ]


def rank_over_all(measured: Levels, requested: Levels) -> Estimate:
    """Compute Spearman's correlation of all values together; intervals are over groups."""
    return metrics.bootstrap(
        lambda index: metrics.rank_correlation(measured[index].ravel(), requested[index].ravel()), len(measured)
    )


def rank_within(measured: Levels, requested: Levels) -> Estimate:
    """Average Spearman's correlation within each group."""
    return metrics.mean_estimate([metrics.rank_correlation(*pair) for pair in zip(measured, requested, strict=True)])


def expression_strength(reading: Reading, emotion: int) -> float:
    """Project a clip's mean expression on the line from neutral (0) to the emotion's target (1).

    Blinks and gaze do not count. `EMOTION_TARGETS` holds the targets.
    """
    counts = torch.tensor([name not in _INDEPENDENT_OF_INTENSITY for name in EXPRESSION])
    targets = torch.from_numpy(EMOTION_TARGETS)
    direction = (targets[emotion] - targets[0]) * counts
    return float((reading.expression.mean(0) - targets[0]) @ direction / direction.square().sum())


def predicted_emotions(measurements: Sequence[Measurement]) -> Int[np.ndarray, " clips"]:
    """Return the emotion that the reader recognizes in each generated clip."""
    return np.array([measurement.reading.clip_emotion for measurement in measurements])


def target_emotions(measurements: Sequence[Measurement]) -> Int[np.ndarray, " clips"]:
    """Return the emotion that each clip should show."""
    return np.array([measurement.case.target_emotion for measurement in measurements])


def _predictions_on_truth(measurements: Sequence[Measurement]) -> Int[np.ndarray, " clips"]:
    return np.array([measurement.truth.clip_emotion for measurement in measurements])
