"""Emotion tracks: known delays are measured."""

import pytest
import torch

from emotivetalk.evaluation.track_response import Command, commands, response_to, track_figures
from emotivetalk.models.emotion import EmotionKey, EmotionLabel, EmotionTrack
from tests.evaluation.made_measurements import case, measurement, reading

FADE_S = 0.4
TRACK = EmotionTrack(
    tuple(EmotionKey(t, EmotionLabel(e)) for t, e in ((0.0, "angry"), (2.0, "happy"), (4.0, "sad"))), FADE_S
)
NUM = 150


def delayed(num_frames: int) -> torch.Tensor:
    """Return the commanded emotions, each `num_frames` after the middle of its fade."""
    emotions = torch.full((NUM,), 1)
    emotions[55 + num_frames :] = 5
    emotions[105 + num_frames :] = 6
    return emotions


def measurements(delay: int, num: int = 3):
    spoken = case(6, emotion=TRACK, num=NUM)
    return [measurement(spoken, reading(delayed(delay)), reading(delayed(0))) for _ in range(num)]


def test_commands_follow_the_track():
    first, second = commands(measurements(0)[0])
    assert (first.emotion, first.start, first.stop) == (5, 50, 100)
    assert first.middle == pytest.approx(55)
    assert (second.emotion, second.start, second.stop) == (6, 100, NUM)
    with pytest.raises(ValueError, match="track"):
        commands(measurement(case(), reading(0), reading(0)))


@pytest.mark.parametrize("late", [0, 5, 10])
def test_a_known_delay_is_measured(late):
    delay, arrives = track_figures(measurements(late))
    assert delay.value.value == pytest.approx(late / 25, abs=0.045)  # smoothing shifts it by up to a frame
    assert delay.ceiling.value == pytest.approx(0, abs=0.045)
    assert arrives.value.value == 1


def test_a_face_that_never_changes_has_the_longest_delay():
    constant = reading(torch.full((NUM,), 1))
    clips = [measurement(case(6, emotion=TRACK, num=NUM), constant, reading(delayed(0)))] * 2
    delay, arrives = track_figures(clips)
    assert delay.value.value > 1.5
    assert arrives.value.value == 0 and arrives.ceiling.value == 1


def test_a_single_frame_is_no_response():
    logits = reading(torch.full((NUM,), 1)).emotion
    logits[58] = torch.nn.functional.one_hot(torch.tensor(5), 8) * 5.0
    assert not response_to(Command(5, 50, 55.0, 100), logits).is_reached
