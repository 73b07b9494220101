"""FID, FVD and E-FID: Fréchet distance between Gaussians fitted to two sets of features (torchmetrics)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

INCEPTION_SIZE, I3D_SIZE, EXPRESSION_SIZE = 299, 224, 224
VIDEO_FRAMES = 16
"""Length of I3D's windows, which do not overlap."""
_BATCH_SIZE = 16


class _PrecomputedFeatures(nn.Module):
    """Identity that replaces torchmetrics' Inception, because the features are computed beforehand."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


class FrechetDistance:
    """|mean - mean'|^2 + trace(C + C' - 2 (C C')^(1/2)) of two sets of features, accumulated over clips.

    Args:
        features: network from pictures or videos to one feature row each.
    """

    def __init__(self, features: Callable[[Tensor], Float[Tensor, "rows dim"]]) -> None:
        self._features = features
        self._metric: FrechetInceptionDistance | None = None
        self.num_rows = {True: 0, False: 0}

    @torch.no_grad()
    def add(self, inputs: Tensor, *, real: bool) -> None:
        """Add pictures or videos to the real or to the generated set."""
        for batch in inputs.split(_BATCH_SIZE):
            rows = self._features(batch).flatten(1).double()
            if self._metric is None:
                self._metric = FrechetInceptionDistance(feature=_PrecomputedFeatures(rows.shape[1]))
            self._metric.update(rows, real=real)
            self.num_rows[real] += len(rows)

    def value(self) -> float | None:
        """Return the distance; None if a set has fewer than two rows. It is biased upwards below a few thousand rows."""
        if self._metric is None or min(self.num_rows.values()) < 2:
            return None
        return max(0.0, float(self._metric.compute()))


def for_inception(frames: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames 3 299 299"]:
    """Convert RGB in 0..1 to Inception's input: 299 x 299, 0..255."""
    return resized(frames, INCEPTION_SIZE) * 255


def for_i3d(frames: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "videos 3 16 224 224"]:
    """Convert RGB in 0..1 to I3D's input: windows of 16 frames, 224 x 224, -1..1. Remaining frames are dropped."""
    num = len(frames) // VIDEO_FRAMES
    windows = resized(frames[: num * VIDEO_FRAMES], I3D_SIZE) * 2 - 1
    return windows.unflatten(0, (num, VIDEO_FRAMES)).transpose(1, 2)


def resized(frames: Float[Tensor, "frames 3 height width"], size: int) -> Float[Tensor, "frames 3 size size"]:
    """Resize pictures to a square, bilinear with antialiasing."""
    if not len(frames) or frames.shape[-2:] == (size, size):
        return frames
    return F.interpolate(frames, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
