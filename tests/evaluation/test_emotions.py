"""Figures of the emotions on readings whose answer is known."""

import numpy as np
import pytest

from emotivetalk.evaluation.emotions import edi_figure, emotion_figure, level_figures, strength
from emotivetalk.evaluation.test_cases import LEVELS
from tests.evaluation.measured import case, face, measurement, reading


def said_and_asked(said: list[int], asked: list[int]):
    return [measurement(case(wanted), reading(one), reading(wanted)) for one, wanted in zip(said, asked, strict=True)]


def test_a_perfect_generator_is_at_the_ceiling_and_a_deaf_one_at_the_floor():
    asked = list(range(8)) * 2
    perfect = emotion_figure("label", "", said_and_asked(asked, asked))
    assert perfect.value.value == perfect.ceiling.value == 1
    assert perfect.floor.value == pytest.approx(1 / 15)
    deaf = emotion_figure("label", "", said_and_asked([3] * 16, asked))
    assert deaf.value.value == pytest.approx(1 / 8)
    assert deaf.floor.value == pytest.approx(deaf.value.value, abs=0.01)


def test_edi_is_worth_what_is_lost_without_it():
    asked = list(range(8))
    with_edi, without = said_and_asked(asked, asked), said_and_asked([*asked[:2], *[0] * 6], asked)
    found = edi_figure(with_edi, without)
    assert found.value.value == pytest.approx(6 / 8)
    assert found.value.low > 0 and found.ceiling.value == 1 and found.floor.value == 0
    assert edi_figure(with_edi, with_edi).value.value == 0
    with pytest.raises(ValueError, match="same ones"):
        edi_figure(with_edi, without[:3])


@pytest.mark.parametrize("emotion", [1, 4, 7])
@pytest.mark.parametrize("amount", [0.0, 0.4, 1.0])
def test_strength_is_how_far_the_face_has_gone(emotion, amount):
    assert strength(reading(emotion, face(emotion, amount)), emotion) == pytest.approx(amount, abs=1e-5)


def groups(shown):
    """Of each emotion, a take at each level that shows `shown(emotion, level)`; true frames show the level itself."""
    return [
        [
            measurement(case(e, level), reading(e, face(e, shown(e, level))), reading(e, face(e, level + 0.001 * e)))
            for level in LEVELS
        ]
        for e in range(1, 8)
    ]


def test_ties_keep_the_correlation_over_all_clips_below_one():
    over_all, within = level_figures(groups(lambda e, level: level + 0.001 * e))
    assert over_all.value.value == pytest.approx(np.sqrt((1 - 1 / 9) / (1 - 1 / 21**2)))
    assert over_all.value.value == pytest.approx(over_all.ceiling.value)
    assert within.value.value == within.ceiling.value == 1


def test_faces_that_differ_in_strength_are_ordered_within_clips_only():
    over_all, within = level_figures(groups(lambda e, level: 0.1 * level + 0.5 * e))
    assert within.value.value == 1
    assert over_all.value.value < 0.4


def test_one_strength_for_all_is_no_correlation():
    over_all, within = level_figures(groups(lambda e, level: 0.5 + 0.001 * e))
    assert abs(over_all.value.value) < 1e-6 and within.value.value == 0
