"""Measurements whose readings of generated and true frames are given by a test."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from emotivetalk.corpus.parameters import EMOTION_TARGETS
from emotivetalk.evaluation.cases import EvaluationCase
from emotivetalk.evaluation.measurements import Measurement
from emotivetalk.evaluation.reader import Reading
from emotivetalk.models.emotion import EmotionLabel, EmotionSource

FRAMES = 60


def reading(emotion: Tensor | int, expression: Tensor | None = None, lip: Tensor | None = None) -> Reading:
    """Return a reading with this emotion, given for the clip or for each frame."""
    emotions = torch.full((FRAMES,), emotion) if isinstance(emotion, int) else emotion
    num = len(emotions)
    return Reading(
        lip=torch.zeros(num, 6) if lip is None else lip,
        expression=torch.zeros(num, 12) if expression is None else expression,
        pose=torch.zeros(num, 6),
        emotion=torch.nn.functional.one_hot(emotions, 8).float() * 5,
    )


def case(target: int = 0, intensity: float = 1.0, emotion: EmotionSource = None, num: int = FRAMES) -> EvaluationCase:
    return EvaluationCase(
        identity_seed=0,
        portrait=torch.zeros(3, 8, 8),
        waveform=torch.zeros(640 * num),
        emotion=emotion if emotion is not None else EmotionLabel("neutral"),
        target_emotion=target,
        intensity=intensity,
        portrait_emotion=0,
        lip=torch.zeros(num, 6),
        expression=torch.zeros(num, 12),
        pose=torch.zeros(num, 6),
    )


def measurement(case: EvaluationCase, generated: Reading, true: Reading) -> Measurement:
    return Measurement(case, generated, true, np.zeros((8, 8, 3), np.uint8))


def face(emotion: int, amount: float) -> Tensor:
    """Return frames with an expression between neutral (0) and an emotion's target (1)."""
    neutral, full = torch.from_numpy(EMOTION_TARGETS[0]), torch.from_numpy(EMOTION_TARGETS[emotion])
    return (neutral + amount * (full - neutral)).expand(FRAMES, -1)
