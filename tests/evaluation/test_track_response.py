"""A time-coded track: delays that were put there are found."""

import pytest
import torch

from emotivetalk.evaluation.track_response import Change, changes, follow, track_figures
from emotivetalk.models.emotion import EmotionKey, EmotionLabel, EmotionTrack
from tests.evaluation.measured import case, measurement, reading

FADE_S = 0.4
TRACK = EmotionTrack(
    tuple(EmotionKey(t, EmotionLabel(e)) for t, e in ((0.0, "angry"), (2.0, "happy"), (4.0, "sad"))), FADE_S
)
NUM = 150


def said(late: int) -> torch.Tensor:
    """The commanded emotions, each `late` frames after the middle of its fade."""
    frames = torch.full((NUM,), 1)
    frames[55 + late :] = 5
    frames[105 + late :] = 6
    return frames


def measurements(late: int, num: int = 3):
    return [measurement(case(6, emotion=TRACK, num=NUM), reading(said(late)), reading(said(0))) for _ in range(num)]


def test_commands_are_read_off_the_track():
    first, second = changes(measurements(0)[0])
    assert (first.emotion, first.start, first.stop) == (5, 50, 100)
    assert first.middle == pytest.approx(55)
    assert (second.emotion, second.start, second.stop) == (6, 100, NUM)
    with pytest.raises(ValueError, match="track"):
        changes(measurement(case(), reading(0), reading(0)))


@pytest.mark.parametrize("late", [0, 5, 10])
def test_the_delay_is_the_one_that_was_put_there(late):
    delay, arrives = track_figures(measurements(late))
    assert delay.value.value == pytest.approx(late / 25, abs=0.045)  # smoothing hides a frame
    assert delay.ceiling.value == pytest.approx(0, abs=0.045)
    assert arrives.value.value == 1


def test_a_face_that_never_changes_is_as_late_as_it_can_be():
    held = [measurement(case(6, emotion=TRACK, num=NUM), reading(torch.full((NUM,), 1)), reading(said(0)))] * 2
    delay, arrives = track_figures(held)
    assert delay.value.value > 1.5
    assert arrives.value.value == 0 and arrives.ceiling.value == 1


def test_a_flicker_is_no_arrival():
    logits = reading(torch.full((NUM,), 1)).emotion
    logits[58] = torch.nn.functional.one_hot(torch.tensor(5), 8) * 5.0
    assert not follow(logits, Change(5, 50, 55.0, 100)).arrived
