"""Takes made by hand: what the reader saw, in the generated frames and in the true ones, is whatever a test says."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from emotivetalk.corpus.parameters import EMOTION_TARGETS
from emotivetalk.evaluation.measurements import Measurement
from emotivetalk.evaluation.reader import Reading
from emotivetalk.evaluation.test_cases import TestCase
from emotivetalk.models.emotion import EmotionLabel, EmotionSource

FRAMES = 60


def reading(emotion: Tensor | int, expression: Tensor | None = None, lip: Tensor | None = None) -> Reading:
    """emotion: of every frame, or the whole clip's."""
    said = torch.full((FRAMES,), emotion) if isinstance(emotion, int) else emotion
    num = len(said)
    return Reading(
        lip=torch.zeros(num, 6) if lip is None else lip,
        expression=torch.zeros(num, 12) if expression is None else expression,
        pose=torch.zeros(num, 6),
        emotion=torch.nn.functional.one_hot(said, 8).float() * 5,
    )


def case(wanted: int = 0, level: float = 1.0, emotion: EmotionSource = None, num: int = FRAMES) -> TestCase:
    return TestCase(
        identity_seed=0,
        portrait=torch.zeros(3, 8, 8),
        waveform=torch.zeros(640 * num),
        emotion=emotion if emotion is not None else EmotionLabel("neutral"),
        wanted=wanted,
        level=level,
        shown=0,
        lip=torch.zeros(num, 6),
        expression=torch.zeros(num, 12),
        pose=torch.zeros(num, 6),
    )


def measurement(of: TestCase, made: Reading, true: Reading) -> Measurement:
    return Measurement(of, made, true, np.zeros((8, 8, 3), np.uint8))


def face(emotion: int, amount: float) -> Tensor:
    """Frames whose expression has gone so far from neutral to an emotion's."""
    neutral, full = torch.from_numpy(EMOTION_TARGETS[0]), torch.from_numpy(EMOTION_TARGETS[emotion])
    return (neutral + amount * (full - neutral)).expand(FRAMES, -1)
