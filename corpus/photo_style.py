"""Change colors, light and background of a portrait (ours)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from emotivetalk.corpus.landmarks import CHIN, FOREHEAD, OVAL, SOURCE_SIZE, FramedPortrait
from emotivetalk.media.image_ops import fill_polygon, gaussian_blur, guided_filter, resize
from emotivetalk.media.segmentation import GrabCutLabel, connected_component, grab_cut, open_and_close

_BACKGROUND_CHANCE = 0.4
_CUT_SIZE = 128  # pixels: side of the picture that the person is segmented in

Plane = Float[np.ndarray, "size size"]


@dataclass(frozen=True)
class Style:
    """Changes to a portrait; the default changes nothing.

    Attributes:
        gains: factors for red, green and blue.
        gamma: exponent; values above 1 darken.
        saturation: factor; 1 keeps the saturation.
        light: gradients of brightness towards the right and towards the bottom.
        background_seed: seed of a new background; None keeps the old one.
    """

    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    saturation: float = 1.0
    light: tuple[float, float] = (0.0, 0.0)
    background_seed: int | None = None

    @staticmethod
    def sample(rng: np.random.Generator) -> Style:
        """Sample a random style within the range of ordinary photographs."""
        gains = 1 + 0.05 * rng.uniform(-1, 1, 3)
        light = rng.normal(size=2) * (0.12, 0.08)
        return Style(
            gains=(round(float(gains[0]), 3), round(float(gains[1]), 3), round(float(gains[2]), 3)),
            gamma=round(float(np.exp(rng.uniform(-0.22, 0.22))), 3),
            saturation=round(float(rng.uniform(0.75, 1.15)), 3),
            light=(round(float(np.clip(light[0], -0.25, 0.25)), 3), round(float(np.clip(light[1], -0.2, 0.2)), 3)),
            background_seed=int(rng.integers(2**31)) if rng.random() < _BACKGROUND_CHANCE else None,
        )


def restyled(portrait: FramedPortrait, style: Style) -> FramedPortrait:
    """Apply a style to a portrait. Landmarks do not change."""
    if style == Style():
        return portrait
    picture = portrait.picture.permute(1, 2, 0).numpy()
    if style.background_seed is not None:
        person = person_mask(portrait)
        background = _background(np.random.default_rng(style.background_seed), picture, person)
        picture = background + (picture - background) * person[..., None]
    picture = picture**style.gamma * np.array(style.gains, np.float32)
    gray = picture.mean(-1, keepdims=True)
    picture = gray + (picture - gray) * style.saturation
    axis = (np.arange(SOURCE_SIZE, dtype=np.float32) + 0.5) / SOURCE_SIZE * 2 - 1
    center = portrait.points[list(OVAL)].mean(0)
    x, y = np.tanh(2 * (axis - center[0]))[None, :, None], np.tanh(2 * (axis - center[1]))[:, None, None]
    picture = picture * (1 + style.light[0] * x + style.light[1] * y)
    changed = torch.from_numpy(np.clip(picture, 0, 1).astype(np.float32)).permute(2, 0, 1).contiguous()
    return FramedPortrait(changed, portrait.points, portrait.depth)


def person_mask(portrait: FramedPortrait) -> Plane:
    """Segment the person with hair and shoulders: GrabCut (Rother et al., 2004), initialized from the landmarks."""
    picture = (portrait.picture.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    small = resize(picture, _CUT_SIZE, _CUT_SIZE, "area")
    axis = (np.arange(_CUT_SIZE) + 0.5) / _CUT_SIZE * 2 - 1
    x, y = axis[None, :], axis[:, None]
    outline = portrait.points[list(OVAL)]
    (left, right), (top, chin) = outline[:, 0][[28, 8]], portrait.points[[FOREHEAD, CHIN], 1]
    center, half, tall = (left + right) / 2, (right - left) / 2, chin - top
    radius = np.hypot((x - center) / (1.9 * half), (y - (top + chin) / 2 + 0.12 * tall) / (0.95 * tall))
    labels = np.full((_CUT_SIZE, _CUT_SIZE), GrabCutLabel.PROBABLE_BACKGROUND, np.uint8)
    shoulders = (y > chin + 0.15) & (abs(x - center) < 0.4 + 1.5 * (y - chin))
    labels[(radius < 0.95) | shoulders] = GrabCutLabel.PROBABLE_FOREGROUND
    labels[(radius > 1.25) & (y < chin - 0.1 * tall)] = GrabCutLabel.BACKGROUND
    body = (y > chin - 0.05) & (abs(x - center) < 0.30 + 0.9 * np.clip(y - chin - 0.1, 0, 1))
    body = body | ((y > 0.80) & (abs(x - center) < 0.60)) | ((y > 0.92) & (abs(x - center) < 0.80))
    labels[np.broadcast_to(body, labels.shape)] = GrabCutLabel.FOREGROUND
    fill_polygon(labels, np.round((outline + 1) / 2 * _CUT_SIZE).astype(np.int32), GrabCutLabel.FOREGROUND)
    foreground = open_and_close(grab_cut(small, labels, num_iterations=3), opening_px=3, closing_px=5)
    row = min(int((top + chin + 2) / 4 * _CUT_SIZE), _CUT_SIZE - 1)
    person = connected_component(foreground, row, int((center + 1) / 2 * _CUT_SIZE))
    mask = gaussian_blur(resize(person.astype(np.float32), SOURCE_SIZE, SOURCE_SIZE, "cubic"), 2)
    gray = picture.astype(np.float32).mean(-1) / 255
    return np.clip(guided_filter(gray, mask, radius_px=8, smoothness=1e-3) * 1.3 - 0.15, 0, 1)


def _background(rng: np.random.Generator, picture: np.ndarray, person: Plane) -> Float[np.ndarray, "size size 3"]:
    """Draw a wall with a color, a gradient and a soft pattern, about as bright as the old background."""
    outside = (1 - person)[..., None] + 1e-3
    mean = (picture * outside).sum((0, 1)) / outside.sum()
    color = np.clip(mean.mean() * np.exp(rng.normal(size=3) * 0.12) * np.exp(rng.normal() * 0.2), 0.08, 0.92)
    axis = np.linspace(-1, 1, SOURCE_SIZE, dtype=np.float32)
    slope = rng.normal(size=2) * 0.15
    gradient = 1 + slope[0] * axis[None, :] + slope[1] * axis[:, None]
    cells = int(rng.integers(3, 9))
    pattern = resize(rng.normal(size=(cells, cells, 3)).astype(np.float32), SOURCE_SIZE, SOURCE_SIZE, "cubic")
    grain = gaussian_blur(rng.normal(size=picture.shape).astype(np.float32), 1.0) * 0.015
    wall = color * gradient[..., None] * (1 + 0.10 * float(rng.random()) * pattern) + grain
    return np.clip(wall, 0, 1).astype(np.float32)
