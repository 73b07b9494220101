"""Names of the avatar's parameters: the ground truth of every frame of the synthetic corpus (ours).

A frame is a pure function of the person (`emotivetalk.corpus.avatar.Identity`) and of three short vectors. Lip and
expression parameters have no unit; they are about 0 at rest and 1 at full strength. POSE lists the units of poses.
"""

from typing import Final

import numpy as np

LIP: Final = ("jaw", "wide", "pucker", "press", "tuck", "tongue")
"""Effects of speech on the mouth: opening, corners apart, rounding, lips pressed, lip under teeth, tongue raised."""

EXPRESSION: Final = (
    "brow_in",
    "brow_out",
    "furrow",
    "eye_wide",
    "squint",
    "blink",
    "smile",
    "asym",
    "sneer",
    "blush",
    "gaze_x",
    "gaze_y",
)
"""Effects of emotion on the face; `smile` < 0 turns the corners of the mouth down, `blush` < 0 is pallor."""

WANDERING: Final = tuple(name for name in EXPRESSION if name not in ("blink", "asym", "blush"))
"""Expression parameters whose motion is evaluated; blinks are counted instead."""

POSE: Final = ("tx", "ty", "rot", "scale", "yaw", "pitch")
"""Pose of the head: shift (half pictures), roll (radians), scale (1 at rest), yaw and pitch (about -1..1)."""

POSE_AT_REST: Final = np.array([0, 0, 0, 1, 0, 0], np.float32)

# Expression of each emotion at full intensity: columns of EXPRESSION, rows of emotivetalk.models.emotion.EMOTIONS.
# Fear and surprise share raised brows and wide eyes, so the other columns differ clearly: fear furrows the brows, lowers
# the corners of the mouth and pales; surprise arches the outer brows and blushes slightly.
EMOTION_TARGETS: Final = np.array(
    [
        [0.00, 0.00, 0.00, 0.00, 0.00, 0, 0.08, 0.0, 0.00, 0.00, 0.00, 0.00],
        [-0.35, 0.05, 1.00, 0.20, 0.45, 0, -0.60, 0.0, 0.40, 0.35, 0.00, 0.00],
        [-0.10, 0.10, 0.10, -0.40, 0.40, 0, 0.10, 1.2, 0.10, 0.00, 0.45, 0.15],
        [-0.20, -0.35, 0.70, -0.35, 0.70, 0, -0.55, 0.1, 1.10, 0.00, 0.00, 0.10],
        [1.00, -0.10, 0.60, 0.80, 0.00, 0, -0.65, 0.0, 0.00, -0.60, 0.00, -0.10],
        [0.25, 0.30, 0.00, -0.05, 0.45, 0, 1.05, 0.0, 0.00, 0.90, 0.00, 0.00],
        [1.00, -0.45, 0.20, -0.50, 0.05, 0, -0.95, 0.0, 0.00, 0.10, 0.00, 0.55],
        [0.95, 1.25, 0.00, 1.05, 0.00, 0, 0.12, 0.0, 0.00, 0.20, 0.00, 0.00],
    ],
    np.float32,
)

# Factors of motion by emotion at full intensity, in the order of EMOTIONS.
BLINK_RATE_BY_EMOTION: Final = np.array([1, 0.8, 0.9, 1.1, 1.3, 1, 0.9, 0.9])
LIFT_BY_EMOTION: Final = np.array([1, 0.6, 0.9, 0.6, 0.8, 1.1, 0.7, 1])  # lowered or worried brows rise less
SWAY_BY_EMOTION: Final = np.array([0.9, 1.2, 0.8, 0.9, 0.9, 1.2, 0.7, 1.1])
NOD_BY_EMOTION: Final = np.array([1, 1.5, 0.7, 0.8, 0.6, 1.3, 0.5, 1.1])
JAW_BY_EMOTION: Final = np.array([0.95, 1.15, 0.82, 0.92, 0.86, 1.05, 0.75, 1.15], np.float32)
