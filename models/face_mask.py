"""Face mask M of the paper: a soft ellipse around the face (the shape is ours)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class FaceRegion:
    """Ellipse in a framed picture, in fractions of its side. The default is where framing puts a face.

    It covers the whole head, because the expression moves the head too.
    """

    center_x: float = 0.5
    center_y: float = 0.5
    half_width: float = 0.40
    half_height: float = 0.46

    def mask(self, height: int, width: int) -> Float[Tensor, "1 height width"]:
        """Draw the mask: 1 inside, 0 outside, with an edge about an eighth of the ellipse wide."""
        x = ((torch.arange(width) + 0.5) / width - self.center_x) / self.half_width
        y = ((torch.arange(height) + 0.5) / height - self.center_y) / self.half_height
        radius = (x[None, :].square() + y[:, None].square()).sqrt()
        return (4.5 - 4 * radius).clamp(0, 1)[None]
