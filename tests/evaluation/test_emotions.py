"""Figures of the emotions on readings with a known answer."""

import numpy as np
import pytest

from emotivetalk.evaluation.cases import INTENSITY_LEVELS
from emotivetalk.evaluation.emotions import edi_figure, emotion_figures, expression_strength, level_figures
from tests.evaluation.made_measurements import case, face, measurement, reading


def recognized(emotions: list[int], targets: list[int]):
    """Return clips with these targets in which the reader recognizes these emotions."""
    pairs = zip(emotions, targets, strict=True)
    return [measurement(case(target), reading(emotion), reading(target)) for emotion, target in pairs]


def test_a_perfect_generator_scores_the_ceiling_and_a_constant_one_the_floor():
    targets = list(range(8)) * 2
    (perfect,) = emotion_figures("label", "", recognized(targets, targets))
    assert perfect.value.value == perfect.ceiling.value == 1
    assert perfect.floor.value == pytest.approx(1 / 15)
    (constant,) = emotion_figures("label", "", recognized([3] * 16, targets))
    assert constant.value.value == pytest.approx(1 / 8)
    assert constant.floor.value == pytest.approx(constant.value.value, abs=0.01)


def test_edi_margin_is_the_loss_of_recognition_without_it():
    targets = list(range(8))
    with_edi, without = recognized(targets, targets), recognized([*targets[:2], *[0] * 6], targets)
    found = edi_figure(with_edi, without)
    assert found.value.value == pytest.approx(6 / 8)
    assert found.value.low > 0 and found.ceiling.value == 1 and found.floor.value == 0
    assert edi_figure(with_edi, with_edi).value.value == 0
    with pytest.raises(ValueError, match="8 clips with EDI and 3 without"):
        edi_figure(with_edi, without[:3])


@pytest.mark.parametrize("emotion", [1, 4, 7])
@pytest.mark.parametrize("amount", [0.0, 0.4, 1.0])
def test_strength_is_the_projection_from_neutral_to_the_target(emotion, amount):
    assert expression_strength(reading(emotion, face(emotion, amount)), emotion) == pytest.approx(amount, abs=1e-5)


def groups(strength):
    """Return a group for each emotion but neutral, with expressions of `strength(emotion, level)` at each level."""
    return [
        [
            measurement(case(e, level), reading(e, face(e, strength(e, level))), reading(e, face(e, level + 0.001 * e)))
            for level in INTENSITY_LEVELS
        ]
        for e in range(1, 8)
    ]


def test_ties_keep_the_correlation_over_all_clips_below_one():
    over_all, within = level_figures(groups(lambda e, level: level + 0.001 * e))
    assert over_all.value.value == pytest.approx(np.sqrt((1 - 1 / 9) / (1 - 1 / 21**2)))
    assert over_all.value.value == pytest.approx(over_all.ceiling.value)
    assert within.value.value == within.ceiling.value == 1


def test_faces_of_different_strength_are_ordered_within_clips_only():
    over_all, within = level_figures(groups(lambda e, level: 0.1 * level + 0.5 * e))
    assert within.value.value == 1
    assert over_all.value.value < 0.4


def test_one_strength_for_all_is_no_correlation():
    over_all, within = level_figures(groups(lambda e, level: 0.5 + 0.001 * e))
    assert abs(over_all.value.value) < 1e-6 and within.value.value == 0
