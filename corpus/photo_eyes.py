"""Eyelids and gaze of a photographed face (ours).

The skin between lid and brow stretches as the lid closes. The strip at the edge of the lid, with lashes and make-up,
moves without stretching. Between the lids, the iris moves and the white beside it is compressed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.corpus.canvas import bell, smoothstep
from emotivetalk.corpus.photo_face import Eye
from emotivetalk.corpus.photo_motion import Maps, look_up

_GAZE_X = 0.30  # of half the eye's width: shift at gaze_x = 1
_GAZE_Y = 0.28  # of the opening's height: shift at gaze_y = 1
_LASHES = 0.28  # of the opening's height: width of the strip that is not stretched

Weight = Float[Tensor, "batch 1 1"]


@dataclass(frozen=True)
class EyeMotion:
    """Motion of lids and gaze on each frame.

    Attributes:
        blink: 0 is open, 1 is shut.
        upper, lower: drop of the upper lid and rise of the lower lid, as fractions of the eye's opening.
        gaze_x, gaze_y: gaze parameters.
    """

    blink: Weight
    upper: Weight
    lower: Weight
    gaze_x: Weight
    gaze_y: Weight

    @staticmethod
    def of(expression: dict[str, Float[Tensor, " batch"]]) -> EyeMotion:
        """Compute the motion from the expression parameters by name."""
        e = {name: values.view(-1, 1, 1) for name, values in expression.items()}
        blink = e["blink"].clamp(0, 1)
        upper = 0.20 * e["squint"] + 0.08 * e["furrow"] - 0.24 * e["eye_wide"].clamp(-1.2, 1.2)
        lower = 0.20 * e["squint"] + 0.08 * e["smile"].clamp(min=0) - 0.06 * e["eye_wide"].clamp(-1, 1.2)
        return EyeMotion(
            blink,
            torch.lerp(upper.clamp(-0.32, 0.45), torch.full_like(blink, 0.88), blink),
            torch.lerp(lower.clamp(-0.10, 0.35), torch.full_like(blink, 0.10), blink),
            e["gaze_x"],
            e["gaze_y"],
        )


@dataclass(frozen=True)
class EyeMaps:
    """Sampling positions in the photograph for the parts of an eye, and their coverage of each pixel.

    Attributes:
        skin, ball: positions of lids and eyeball.
        mirrored: positions on the other side of the iris, which replace the eyeball that the photograph's lids cover.
        covered: share of each eyeball pixel that the lids cover in the photograph.
        lid: share of each skin pixel that is lid folded away in the photograph, which has no texture.
        is_ball: share of each pixel that is eyeball.
        shade: factor for the colors of the skin.
    """

    skin: Maps
    ball: Maps
    mirrored: Maps
    covered: Float[Tensor, "batch rows columns"]
    lid: Float[Tensor, "batch rows columns"]
    is_ball: Float[Tensor, "batch rows columns"]
    shade: Float[Tensor, "batch rows columns"]


def eye_maps(eye: Eye, points: Maps, motion: EyeMotion, pixel: float) -> EyeMaps:
    """Compute the maps near one eye.

    Args:
        points: position of each pixel in the photograph with lids and gaze at rest.
        pixel: width of a frame pixel in half pictures.
    """
    x, y = points[:, 0], points[:, 1]
    top, bottom = look_up(eye.upper, x), look_up(eye.lower, x)
    opening = (bottom - top).clamp(min=0)
    within = smoothstep(eye.left, eye.left + 0.15 * eye.half, x) * smoothstep(eye.right, eye.right - 0.15 * eye.half, x)
    drop, rise = motion.upper * opening * within, motion.lower * opening * within
    upper, lower = top + drop, bottom - rise

    lashes = _LASHES * eye.height
    reach = max(0.9 * (float(eye.upper.min()) - eye.brow_bottom), 1.3 * eye.height)
    above = upper - y
    stretched = lashes + (above - lashes) * (reach - lashes) / (reach + drop - lashes)
    from_above = top - torch.where(above < lashes, above, torch.where(above < reach + drop, stretched, above - drop))
    reach = torch.full_like(x, 1.4 * eye.height)
    below = y - lower
    from_below = bottom + torch.where(below < reach + rise, below * reach / (reach + rise), below - rise)
    skin_y = torch.where(y < (upper + lower) / 2, from_above, from_below)

    cover = ((y - upper) / pixel + 0.5).clamp(0, 1) * ((lower - y) / pixel + 0.5).clamp(0, 1)
    is_ball = cover * smoothstep(0, 2.5 * pixel, opening) * within.clamp(max=1)

    shift_x, shift_y = _GAZE_X * eye.half * motion.gaze_x, _GAZE_Y * eye.height * motion.gaze_y
    away = (x - eye.iris_x - shift_x).abs()
    room = max(min(eye.right - eye.iris_x, eye.iris_x - eye.left), 1.3 * eye.iris_radius)
    falloff = 1 - smoothstep(eye.iris_radius, 1.05 * room, away)
    ball_x = x - shift_x * falloff
    moved = (4 * (shift_x.abs() / eye.half + shift_y.abs() / eye.height + motion.upper.abs())).clamp(0, 1)
    ball_y = y - shift_y * falloff
    margin = 0.14 * opening * moved
    first, last = top + margin, bottom - 0.5 * margin
    covered = smoothstep(margin, -0.04 * eye.height - 0.5 * margin, ball_y - top) * moved
    mirrored_y = torch.maximum(torch.minimum(2 * eye.iris_y - ball_y, last), first)
    ball_y = torch.maximum(torch.minimum(ball_y, last), first)

    line = torch.exp(-(((y - upper) / (1.4 * pixel)) ** 2)) * within
    crease = bell(x - eye.center, y - (top - 0.25 * eye.height), 0.9 * eye.half, 0.20 * eye.height)
    lid = bell(x - eye.center, y - (top + 0.35 * opening), 0.7 * eye.half, 0.35 * eye.height)
    bare = smoothstep(0.5 * lashes, 1.1 * lashes, above) * smoothstep(0.9, 0.5, above / (reach + drop)) * within
    closing = motion.blink**2
    shade = 1 - closing * (0.22 * line + 0.07 * crease - 0.05 * lid)
    return EyeMaps(
        skin=torch.stack([x, skin_y], 1),
        ball=torch.stack([ball_x, ball_y], 1),
        mirrored=torch.stack([ball_x, mirrored_y], 1),
        covered=covered,
        lid=0.75 * closing * bare,
        is_ball=is_ball,
        shade=shade,
    )
