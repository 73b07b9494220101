"""Eyelids and gaze of a photograph (ours).

Skin between lid and brow stretches as the lid comes down, but the strip next to its edge, with lashes and make-up, moves
without being stretched. Inside the opening the iris moves and the white beside it gives way.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.corpus.canvas import bell, smoothstep
from emotivetalk.corpus.photo_face import Eye
from emotivetalk.corpus.photo_motion import Maps, look_up

_GAZE_X = 0.30  # of half the eye's width, at gaze_x = 1
_GAZE_Y = 0.28  # of the opening's height, at gaze_y = 1
_LASHES = 0.28  # of the opening's height: the strip that is not stretched

Weight = Float[Tensor, "batch 1 1"]


@dataclass(frozen=True)
class EyeMotion:
    """What the lids and the gaze do on each frame; lids as fractions of the eye's opening."""

    blink: Weight
    upper: Weight
    lower: Weight
    gaze_x: Weight
    gaze_y: Weight

    @staticmethod
    def of(expression: dict[str, Float[Tensor, " batch"]]) -> EyeMotion:
        """From the expression's parameters by name. `upper` sinks the upper lid, `lower` raises the lower one."""
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
    """Where in the photograph to look for the parts of an eye, and how much of each pixel is what.

    Attributes:
        skin, ball: where to find lids and eyeball.
        mirrored: where to find the eyeball that the photograph's lids cover, on the other side of the iris.
        unseen: how much of a pixel of the eyeball is covered in the photograph.
        lid: how much of the skin is lid that was folded away, and has no texture of its own.
        is_ball: how much of a pixel is eyeball.
        shade: what to multiply the skin by.
    """

    skin: Maps
    ball: Maps
    mirrored: Maps
    unseen: Float[Tensor, "batch rows columns"]
    lid: Float[Tensor, "batch rows columns"]
    is_ball: Float[Tensor, "batch rows columns"]
    shade: Float[Tensor, "batch rows columns"]


def eye_maps(eye: Eye, points: Maps, motion: EyeMotion, pixel: float) -> EyeMaps:
    """Place lids and gaze near one eye.

    Args:
        points: where in the photograph each pixel would be from if lids and gaze rested.
        pixel: width of a pixel of the frame.
    """
    x, y = points[:, 0], points[:, 1]
    top, bottom = look_up(eye.upper, x), look_up(eye.lower, x)
    opening = (bottom - top).clamp(min=0)
    within = smoothstep(eye.left, eye.left + 0.15 * eye.half, x) * smoothstep(eye.right, eye.right - 0.15 * eye.half, x)
    sinks, rises = motion.upper * opening * within, motion.lower * opening * within
    upper, lower = top + sinks, bottom - rises

    lashes = _LASHES * eye.height
    reach = max(0.9 * (float(eye.upper.min()) - eye.brow_bottom), 1.3 * eye.height)
    above = upper - y
    stretched = lashes + (above - lashes) * (reach - lashes) / (reach + sinks - lashes)
    from_above = top - torch.where(above < lashes, above, torch.where(above < reach + sinks, stretched, above - sinks))
    reach = torch.full_like(x, 1.4 * eye.height)
    below = y - lower
    from_below = bottom + torch.where(below < reach + rises, below * reach / (reach + rises), below - rises)
    skin_y = torch.where(y < (upper + lower) / 2, from_above, from_below)

    cover = ((y - upper) / pixel + 0.5).clamp(0, 1) * ((lower - y) / pixel + 0.5).clamp(0, 1)
    is_ball = cover * smoothstep(0, 2.5 * pixel, opening) * within.clamp(max=1)

    shift_x, shift_y = _GAZE_X * eye.half * motion.gaze_x, _GAZE_Y * eye.height * motion.gaze_y
    away = (x - eye.iris_x - shift_x).abs()
    room = max(min(eye.right - eye.iris_x, eye.iris_x - eye.left), 1.3 * eye.iris_radius)
    gives = 1 - smoothstep(eye.iris_radius, 1.05 * room, away)
    ball_x = x - shift_x * gives
    moved = (4 * (shift_x.abs() / eye.half + shift_y.abs() / eye.height + motion.upper.abs())).clamp(0, 1)
    ball_y = y - shift_y * gives
    margin = 0.14 * opening * moved
    first, last = top + margin, bottom - 0.5 * margin
    unseen = smoothstep(margin, -0.04 * eye.height - 0.5 * margin, ball_y - top) * moved
    mirrored_y = torch.maximum(torch.minimum(2 * eye.iris_y - ball_y, last), first)
    ball_y = torch.maximum(torch.minimum(ball_y, last), first)

    line = torch.exp(-(((y - upper) / (1.4 * pixel)) ** 2)) * within
    crease = bell(x - eye.center, y - (top - 0.25 * eye.height), 0.9 * eye.half, 0.20 * eye.height)
    lid = bell(x - eye.center, y - (top + 0.35 * opening), 0.7 * eye.half, 0.35 * eye.height)
    bare = smoothstep(0.5 * lashes, 1.1 * lashes, above) * smoothstep(0.9, 0.5, above / (reach + sinks)) * within
    closing = motion.blink**2
    shade = 1 - closing * (0.22 * line + 0.07 * crease - 0.05 * lid)
    return EyeMaps(
        skin=torch.stack([x, skin_y], 1),
        ball=torch.stack([ball_x, ball_y], 1),
        mirrored=torch.stack([ball_x, mirrored_y], 1),
        unseen=unseen,
        lid=0.75 * closing * bare,
        is_ball=is_ball,
        shade=shade,
    )
