"""Painting signed distances on a batch of pictures (ours)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Field = Float[Tensor, "batch height width"]
"""One number per pixel, such as a coordinate, a distance or a coverage."""


def smoothstep(low: float | Tensor, high: float | Tensor, x: Tensor) -> Tensor:
    """Compute a cubic ramp from 0 at `low` to 1 at `high`; either may be the larger."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def bell(x: Tensor, y: Tensor, width: float | Tensor, height: float | Tensor) -> Tensor:
    """Compute a Gaussian with peak 1 at the origin that falls to 1/e at `width` and `height`."""
    return torch.exp(-((x / width) ** 2 + (y / height) ** 2))


def ellipse(x: Tensor, y: Tensor, width: float | Tensor, height: float | Tensor) -> Tensor:
    """Compute the approximate signed distance to an ellipse with these half-axes; negative inside."""
    smaller = torch.minimum(torch.as_tensor(width), torch.as_tensor(height))
    return (torch.sqrt((x / width) ** 2 + (y / height) ** 2 + 1e-9) - 1) * smaller


def superellipse(x: Tensor, y: Tensor, width: float | Tensor, height: float | Tensor, power: float) -> Tensor:
    """Compute the normalized radius: 1 on the superellipse, less inside. A larger `power` makes it more square."""
    return ((x / width).abs() ** power + (y / height).abs() ** power + 1e-9) ** (1 / power)


@dataclass(frozen=True)
class Canvas:
    """Pictures, with the coordinates of their pixels in the plane of the face.

    `region` returns a smaller canvas on the same memory, so that a feature is computed only where it is.
    """

    image: Float[Tensor, "batch 3 height width"]
    x: Field
    y: Field
    pixel: float
    """Width of a pixel in face units."""

    def cover(self, distance: Tensor, softness: float = 1.0) -> Tensor:
        """Compute how much of each pixel is inside (0..1) a signed distance, with an edge `softness` pixels wide."""
        return (0.5 - distance / (self.pixel * softness)).clamp(0, 1)

    def paint(self, color: Float[Tensor, "batch 3 h w"], coverage: Field) -> None:
        """Blend a color into the picture by its coverage."""
        self.image.lerp_(color.to(self.image.dtype), coverage.unsqueeze(1))

    def shade(self, factor: Field) -> None:
        """Multiply the picture; factors below 1 darken it."""
        self.image.mul_(factor.unsqueeze(1))

    def light(self, amount: Field) -> None:
        """Add white light."""
        self.image.add_(amount.unsqueeze(1))

    def shifted(self, dx: Tensor, dy: Tensor) -> Canvas:
        """Return a canvas with shifted coordinates, for features that move as the head turns."""
        return Canvas(self.image, self.x - dx, self.y - dy, self.pixel)

    def region(self, left: float, right: float, top: float, bottom: float) -> Canvas:
        """Return the part in which any picture has face coordinates within these bounds."""
        step = 4
        x, y = self.x[:, ::step, ::step], self.y[:, ::step, ::step]
        inside = ((x > left) & (x < right) & (y > top) & (y < bottom)).any(0)
        rows, columns = inside.any(1).nonzero(), inside.any(0).nonzero()
        if not len(rows) or not len(columns):
            empty = (slice(0, 0), slice(0, 0))
            return Canvas(self.image[:, :, *empty], self.x[:, *empty], self.y[:, *empty], self.pixel)
        height, width = self.x.shape[1:]
        part = (
            slice(max(0, int(rows[0]) * step - step), min(height, int(rows[-1]) * step + 2 * step)),
            slice(max(0, int(columns[0]) * step - step), min(width, int(columns[-1]) * step + 2 * step)),
        )
        return Canvas(self.image[:, :, *part], self.x[:, *part], self.y[:, *part], self.pixel)
