"""Random faces: parameters of single frames for networks that need no speech (ours)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.corpus.parameters import EMOTION_TARGETS, EXPRESSION, POSE_AT_REST

_NOISE = np.array([0.15, 0.15, 0.08, 0.15, 0.1, 0, 0.15, 0.08, 0.08, 0.1, 0.35, 0.25], np.float32)
_CAN_BE_NEGATIVE = ("brow_in", "brow_out", "eye_wide", "smile", "blush", "gaze_x", "gaze_y")
_FLOOR = np.array([-1.2 if name in _CAN_BE_NEGATIVE else 0.0 for name in EXPRESSION], np.float32)
_POSE_SPREAD = np.array([0.025, 0.02, 0.04, 0.015, 0.3, 0.3], np.float32)


@dataclass(frozen=True)
class Faces:
    """Parameters of single frames; `emotivetalk.corpus.parameters` names the columns."""

    lip: Float[Tensor, "batch 6"]
    expression: Float[Tensor, "batch 12"]
    pose: Float[Tensor, "batch 6"]


def sample_faces(num: int, generator: np.random.Generator) -> Faces:
    """Draw faces as they occur in speaking clips, with all emotions, intensities, lip shapes and blinks.

    Args:
        num: number of faces.
        generator: the only source of randomness.
    """
    return Faces(
        *(torch.from_numpy(np.stack(rows)) for rows in zip(*(_face(generator) for _ in range(num)), strict=True))
    )


def _face(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    uniform = generator.uniform
    lip = np.zeros(6, np.float32)
    if uniform() > 0.2:
        jaw, wide, pucker = uniform(0, 1.1), uniform(-0.1, 1), uniform(0, 1) * (uniform() < 0.35)
        press = uniform(0, 1) * (uniform() < 0.2)
        tuck, tongue = uniform(0, 1) * (uniform() < 0.12), uniform(0, 1) * (uniform() < 0.5)
        lip[:] = jaw * (1 - 0.92 * press) * (1 - 0.6 * tuck), wide * (1 - pucker), pucker, press, tuck, tongue
    emotions = generator.integers(len(EMOTION_TARGETS), size=2)
    share, strength = uniform() * (uniform() < 0.3), uniform(0, 1.2)
    expression = strength * (EMOTION_TARGETS[emotions[0]] * (1 - share) + EMOTION_TARGETS[emotions[1]] * share)
    expression = np.maximum(expression + _NOISE * generator.normal(size=12), _FLOOR)
    if uniform() < 0.2:
        expression[EXPRESSION.index("blink")] = uniform(0, 1)
    pose = POSE_AT_REST + _POSE_SPREAD * generator.normal(size=6)
    return lip, expression.astype(np.float32), pose.astype(np.float32)
