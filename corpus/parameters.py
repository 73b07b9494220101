"""The names of the numbers that move an avatar's face: the ground truth of every frame of the synthetic corpus (ours).

A frame of an avatar is a pure function of who it is (`emotivetalk.corpus.avatar.Identity`) and of three short vectors, all floats
without a unit, about 0 at rest and about 1 at full strength. Poses are in the units written beside them.
"""

from typing import Final

import numpy as np

LIP: Final = ("jaw", "wide", "pucker", "press", "tuck", "tongue")
"""What speech does to the mouth: opening, corners apart, rounding, lips pressed, lip under teeth, tongue raised."""

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
"""What emotion does to the rest of the face; `smile` < 0 turns the corners down, `blush` < 0 is pallor."""

WANDERING: Final = tuple(name for name in EXPRESSION if name not in ("blink", "asym", "blush"))
"""The expression parameters whose motion is measured; blinks are counted instead."""

POSE: Final = ("tx", "ty", "rot", "scale", "yaw", "pitch")
"""Where the head is: shift (half pictures), roll (radians), scale (1 = as framed), yaw and pitch (about -1..1)."""

POSE_AT_REST: Final = np.array([0, 0, 0, 1, 0, 0], np.float32)

# Columns as in EXPRESSION, rows as in emotivetalk.models.emotion.EMOTIONS: the face of each emotion at full intensity.
# Fear and surprise share their raised brows and wide eyes, so the rest is kept apart: fear knits the brows, drops the
# corners and pales; surprise arches the outer brows and flushes a little.
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
