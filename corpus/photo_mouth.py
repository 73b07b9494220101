"""Draw the inside of a photographed mouth: teeth, tongue and dark background (ours).

A photograph with shut lips does not show the inside, so it is synthesized. Each person has two rows of teeth as small
textures, colored like the whites of the eyes. Upper teeth move with the skull, lower teeth and tongue with the jaw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.corpus.canvas import bell, smoothstep
from emotivetalk.corpus.landmarks import SOURCE_SIZE, FramedPortrait
from emotivetalk.corpus.photo_face import PhotoFace
from emotivetalk.corpus.photo_motion import at, grid_points, look_up

_HEIGHT, _WIDTH = 64, 192  # pixels: size of the texture of a row of teeth
_REACH = 1.0  # half mouths: distance from the middle to the texture's edge
_TALL = 0.60  # half mouths: height of the texture
UPPER_EDGE = 0.17  # half mouths: length of the upper incisors below the line between the lips
_LOWER_EDGE = -0.10  # half mouths: height of the lower incisors relative to the lower lip
_UPPER_TEETH = (0.33, 0.26, 0.27, 0.20)  # half mouths: widths from the middle outwards
_LOWER_TEETH = (0.21, 0.23, 0.25, 0.24)

Plane = Float[Tensor, "batch rows columns"]
Scalar = Float[Tensor, "batch 1 1"]


@dataclass(frozen=True)
class MouthState:
    """State of the mouth on each frame: `drop` of the jaw in half pictures, and lip parameters."""

    drop: Scalar
    tongue: Scalar
    tuck: Scalar
    pucker: Scalar


@dataclass(frozen=True)
class MouthInside:
    """Textures and colors of the inside of one person's mouth."""

    upper: Float[Tensor, "1 4 64 192"]
    lower: Float[Tensor, "1 4 64 192"]
    white: Float[Tensor, "3 1 1"]
    light_from_right: float

    @staticmethod
    def of(portrait: FramedPortrait, face: PhotoFace, seed: int) -> MouthInside:
        """Sample teeth from `seed` and light them like the portrait."""
        rng = np.random.default_rng(seed)
        white = (
            _white_of_the_eyes(portrait, face)
            * torch.tensor(rng.uniform([0.98, 0.92, 0.84], [1.0, 0.96, 0.92])).float()
        )
        white = white * (float(np.clip(1.2 * float(white.mean()), 0.72, 0.90)) / float(white.mean()))
        cheeks = [
            at(
                portrait.picture[None],
                torch.tensor([face.center_x + s * 0.55 * face.half_width, face.nose_y]).view(1, 2, 1, 1),
            ).mean()
            for s in (-1, 1)
        ]
        light = float(((cheeks[1] - cheeks[0]) / (cheeks[0] + cheeks[1] + 1e-3)).clamp(-0.3, 0.3))
        return MouthInside(
            _row(_UPPER_TEETH, rng, upper=True), _row(_LOWER_TEETH, rng, upper=False), white.view(3, 1, 1), light
        )

    def paint(
        self, face: PhotoFace, x: Plane, y: Plane, below_lip: Plane, state: MouthState
    ) -> Float[Tensor, "batch 3 rows columns"]:
        """Draw the inside of the mouth for all pixels where it may be visible.

        Args:
            x, y: coordinates of the pixels in the plane of the face.
            below_lip: distance below the edge of the upper lip.
        """
        m = face.mouth
        u = (x - face.mouth_x) / m
        depth = (y - face.mouth_y) / m
        drop = state.drop / m
        light = (1 + 0.5 * self.light_from_right * u.clamp(-1, 1)) * (1 - 0.38 * u.abs().clamp(max=1.1) ** 2)
        dark = u.new_tensor([0.20, 0.075, 0.070]).view(3, 1, 1) * (0.6 + 0.4 * self.white.mean())
        throat = 1 - 0.60 * bell(u, depth - 0.25 - 0.3 * drop, 0.65, 0.30 + 0.25 * drop)
        inside = dark * (throat * light).unsqueeze(1)

        raised = state.tongue.clamp(0, 1.2)
        tongue_y = depth - drop - 0.02 + 0.10 * raised * (1 + drop)
        radius = torch.sqrt((u / 0.66) ** 2 + (tongue_y / (0.28 + 0.06 * raised + 0.10 * drop)) ** 2 + 1e-6)
        shape = smoothstep(1.12, 0.82, radius)
        flesh = u.new_tensor([0.80, 0.40, 0.39]).view(3, 1, 1) * self.white.mean()
        rounding = 0.62 + 0.38 * smoothstep(1.0, 0.2, radius) - 0.10 * bell(u, tongue_y + 0.05, 0.05, 0.25)
        gloss = 0.10 * bell(u + 0.12, tongue_y + 0.12, 0.22, 0.05)
        tongue = flesh * (rounding * light).unsqueeze(1) + gloss.unsqueeze(1)
        inside = torch.lerp(inside, tongue, (shape * 0.92).unsqueeze(1))

        lower = self._teeth(self.lower, u, (depth - drop - _LOWER_EDGE) / _TALL + 0.25)
        hidden = (1 - 0.95 * raised.clamp(0, 1) * bell(u, torch.zeros_like(u), 0.6, 1)).unsqueeze(1)
        inside = torch.lerp(
            inside,
            lower[:, :3] * (0.80 * light * (1 - 0.6 * state.pucker.clamp(0, 1))).unsqueeze(1),
            lower[:, 3:] * hidden,
        )
        upper = self._teeth(
            self.upper, u, (depth - UPPER_EDGE - 0.03 * state.tuck + 0.10 * state.pucker) / _TALL + 0.75
        )
        behind = 1 - 0.65 * state.pucker.clamp(0, 1)  # rounded lips shade the teeth
        inside = torch.lerp(inside, upper[:, :3] * (light * behind).unsqueeze(1), upper[:, 3:] * behind.unsqueeze(1))
        shadow = 1 - 0.42 * torch.exp(-((below_lip.clamp(min=0) / (0.09 * m)) ** 2)) * (
            1 - 0.7 * state.tuck.clamp(0, 1)
        )
        return inside * shadow.unsqueeze(1)

    def _teeth(self, row: Tensor, u: Plane, v: Plane) -> Float[Tensor, "batch 4 rows columns"]:
        """Sample a row of teeth and color it; v is 0 at the top of the texture and 1 at the bottom."""
        painted = at(row.expand(len(u), -1, -1, -1), torch.stack([u / _REACH, 2 * v - 1], 1))
        within = (v > 0) & (v < 1) & (u.abs() < _REACH)
        return torch.cat([painted[:, :3] * self.white, painted[:, 3:] * within.unsqueeze(1)], 1)


def _row(widths: tuple[float, ...], rng: np.random.Generator, upper: bool) -> Float[Tensor, "1 4 64 192"]:
    """Draw a row of teeth: color relative to white, and coverage."""
    u = ((torch.arange(_WIDTH) + 0.5) / _WIDTH * 2 - 1).view(1, -1) * _REACH
    v = ((torch.arange(_HEIGHT) + 0.5) / _HEIGHT).view(-1, 1) * _TALL
    if not upper:
        v = _TALL - v
    size = float(rng.uniform(0.92, 1.06))
    middle = float(rng.uniform(-0.03, 0.03))
    gap = float(rng.uniform(0.10, 0.22))
    uneven = float(rng.uniform(0.002, 0.012)) * (1.0 if upper else 0.6)
    arc = float(rng.uniform(0.03, 0.09))
    tone = torch.zeros(_HEIGHT, _WIDTH)
    cover = torch.zeros(_HEIGHT, _WIDTH)
    for side in (-1, 1):
        start = 0.0
        for number, width in enumerate(widths):
            width *= size * (1 + float(rng.normal()) * 0.03)
            across = (side * (u - middle) - start) / width * 2 - 1
            inside = (across.abs() <= 1).float()
            canine = 0.012 if number == 2 else (-0.012 if number == 1 else 0.0)
            edge = 0.75 * _TALL + canine + float(rng.normal()) * uneven - arc * u**2
            edge = edge - 0.035 * (number + 1) ** 0.3 * across.abs() ** 4 if upper else edge - 0.018 * across.abs() ** 4
            here = inside * ((edge - v) / 0.012 + 0.5).clamp(0, 1)
            round_ = 1 - 0.10 * across.abs() ** 3 - gap * torch.exp(-(((1 - across.abs()) * width / 0.022) ** 2))
            gloss = 0.06 * bell(across + 0.25, (v - edge + 0.16), 0.35, 0.08)
            rim = -0.06 * torch.exp(-(((edge - v) / 0.03) ** 2))
            body = 1 - 0.12 * smoothstep(0.14, 0.36, edge - v)
            tone = torch.where(here > 0, (round_ + gloss + rim) * body * (1 - 0.06 * number), tone)
            cover = torch.maximum(cover, here)
            start += width
        cover = cover * (1 - smoothstep(start - 0.06, start, side * (u - middle)))
    gum_line = 0.07 + 0.03 * torch.cos(u * 22)
    gum = smoothstep(gum_line + 0.03, gum_line - 0.03, v) if upper else torch.zeros_like(tone)
    color = tone * torch.ones(3, 1, 1)
    pink = torch.tensor([0.86, 0.50, 0.50]).view(3, 1, 1) * torch.ones_like(tone)
    color = torch.lerp(color, pink * 0.9, gum * 0.9)
    return torch.cat([color, cover[None]])[None]


def _white_of_the_eyes(portrait: FramedPortrait, face: PhotoFace) -> Float[Tensor, " 3"]:
    """Estimate the color of the eyes' whites from the brightest fifth of the pixels beside the irises."""
    x, y = grid_points(SOURCE_SIZE)
    found = []
    for eye in face.eyes:
        beside = ((x - eye.iris_x).abs() > 1.1 * eye.iris_radius) & (x > eye.left) & (x < eye.right)
        open_ = (y > look_up(eye.upper, x) + 0.15 * eye.height) & (y < look_up(eye.lower, x) - 0.1 * eye.height)
        found.append(portrait.picture[:, beside & open_])
    pixels = torch.cat(found, 1)
    if pixels.shape[1] < 20:
        return torch.full((3,), 0.7)
    brightness = pixels.mean(0)
    bright = pixels[:, brightness >= brightness.quantile(0.8)].mean(1)
    neutral = bright.mean() * torch.tensor([1.03, 0.99, 0.98])
    return torch.lerp(bright, neutral, 0.6)
