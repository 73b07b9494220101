"""Glasses on a photographed face (ours). They move with the head and not with the brows.

Few portraits have glasses, and landmarks do not show which. So some training people get glasses that are drawn once per
person, as a layer in the plane of the face.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from emotivetalk.corpus.canvas import smoothstep, superellipse
from emotivetalk.corpus.landmarks import SOURCE_SIZE
from emotivetalk.corpus.photo_face import PhotoFace
from emotivetalk.corpus.photo_motion import grid_points

_COLORS = ((0.07, 0.06, 0.06), (0.22, 0.12, 0.07), (0.35, 0.33, 0.30), (0.45, 0.34, 0.16), (0.12, 0.16, 0.26))


@dataclass(frozen=True)
class GlassesStyle:
    """Shape and color of a pair of glasses.

    Attributes:
        color: index into a fixed palette.
        thickness, width, height: of a lens and its rim, in half pictures.
        power: exponent of the superellipse: 2 is round, more is square.
    """

    color: int
    thickness: float
    width: float
    height: float
    power: float

    @staticmethod
    def sample(rng: np.random.Generator) -> GlassesStyle:
        """Sample random glasses."""
        thin = rng.random() < 0.5
        return GlassesStyle(
            color=int(rng.integers(len(_COLORS))),
            thickness=round(float(rng.uniform(0.004, 0.006) if thin else rng.uniform(0.008, 0.014)), 4),
            width=round(float(rng.uniform(0.148, 0.172)), 4),
            height=round(float(rng.uniform(0.095, 0.135)), 4),
            power=round(float(rng.choice([2.0, 2.5, 3.5])), 1),
        )


@dataclass(frozen=True)
class Glasses:
    """Layer over the face (color, coverage, cast shadow) and its upper and lower bound."""

    layer: Float[Tensor, "1 5 size size"]
    top: float
    bottom: float

    @staticmethod
    def of(face: PhotoFace, style: GlassesStyle, light: float) -> Glasses:
        """Draw the glasses that fit a face.

        Args:
            light: mean brightness of the picture, about 0.5.
        """
        x, y = grid_points(SOURCE_SIZE)
        soft = 2 / SOURCE_SIZE
        left, right = face.eyes
        middle = (left.iris_x + right.iris_x) / 2
        tilt = (right.iris_y - left.iris_y) / (right.iris_x - left.iris_x)
        level = (left.iris_y + right.iris_y) / 2 + tilt * (x - middle)
        apart = (right.iris_x - left.iris_x) / 2
        width = min(style.width, 0.90 * apart)
        down = y - level - 0.018
        distance, lens = torch.full_like(x, torch.inf), torch.zeros_like(x)
        for eye in face.eyes:
            radius = superellipse(x - eye.iris_x - 0.012 * eye.side, down, width, style.height, style.power)
            rim = (radius - 1) * min(width, style.height)
            distance = torch.minimum(distance, rim.abs() - style.thickness)
            lens = torch.maximum(lens, (0.5 - rim / soft).clamp(0, 1))
        offset = (x - middle).abs()
        bridge = torch.maximum(
            (down + 0.030 + 0.6 * offset**2).abs() - style.thickness, offset - (apart - 0.96 * width)
        )
        hinge = apart + width
        arm = torch.maximum(((down + 0.028).abs() - 0.8 * style.thickness), -(offset - hinge + 0.02))
        arm = torch.maximum(arm, (offset - max(0.97 * face.half_width, hinge)))
        distance = torch.minimum(distance, torch.minimum(bridge, arm))
        cover = (0.5 - distance / (1.3 * soft)).clamp(0, 1)
        color = torch.tensor(_COLORS[style.color]).view(3, 1, 1) * (0.4 + 1.1 * light)
        gloss = 0.16 * torch.exp(-(((distance + 0.6 * style.thickness) / 0.004) ** 2)) * smoothstep(0.02, -0.08, down)
        shadow = F.pad(cover[None, None], (0, 0, 7, 0))[:, :, :SOURCE_SIZE]
        shadow = F.avg_pool2d(shadow, 9, 1, 4)[0, 0] * 0.22 * (1 - cover)
        glint = 0.035 * lens * smoothstep(0.05, -0.08, down + 0.5 * (x - middle))
        layer = torch.cat([(color + gloss).clamp(0, 1), cover[None], (shadow - glint)[None]])
        return Glasses(layer[None], float(level.min()) - style.height - 0.04, float(level.max()) + style.height + 0.09)

    def put_on(self, images: Float[Tensor, "batch 3 h w"], layer: Float[Tensor, "batch 5 h w"]) -> Tensor:
        """Blend the layer over the images."""
        return torch.lerp(images * (1 - layer[:, 4:]), layer[:, :3], layer[:, 3:4])
