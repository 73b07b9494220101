"""FID, FVD and E-FID: how far two sets of features are apart, as if each were a Gaussian (torchmetrics' own sum)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

INCEPTION_SIZE, I3D_SIZE, EXPRESSION_SIZE = 299, 224, 224
VIDEO_FRAMES = 16
"""Of each window that I3D sees; windows follow each other without overlap."""
_AT_ONCE = 16


class _Given(nn.Module):
    """Features that were computed already, in the place of torchmetrics' Inception."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


class Frechet:
    """|mean - mean'|^2 + trace(C + C' - 2 (C C')^(1/2)) of two sets of features, gathered clip by clip.

    Args:
        features: pictures or videos to one row each.
    """

    def __init__(self, features: Callable[[Tensor], Float[Tensor, "rows dim"]]) -> None:
        self._features = features
        self._metric: FrechetInceptionDistance | None = None
        self.num_rows = {True: 0, False: 0}

    @torch.no_grad()
    def add(self, inputs: Tensor, *, real: bool) -> None:
        """Takes in some pictures or videos of either set."""
        for part in inputs.split(_AT_ONCE):
            rows = self._features(part).flatten(1).double()
            if self._metric is None:
                self._metric = FrechetInceptionDistance(feature=_Given(rows.shape[1]))
            self._metric.update(rows, real=real)
            self.num_rows[real] += len(rows)

    def value(self) -> float | None:
        """The distance; None where a set has fewer than two rows. Under a few thousand rows it is far too large."""
        if self._metric is None or min(self.num_rows.values()) < 2:
            return None
        return max(0.0, float(self._metric.compute()))


def for_inception(frames: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames 3 299 299"]:
    """RGB in 0..1 to what Inception takes: 299 square, 0..255."""
    return resized(frames, INCEPTION_SIZE) * 255


def for_i3d(frames: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "videos 3 16 224 224"]:
    """RGB in 0..1 to windows of 16 frames, 224 square, -1..1; what is left at the end is not used."""
    num = len(frames) // VIDEO_FRAMES
    windows = resized(frames[: num * VIDEO_FRAMES], I3D_SIZE) * 2 - 1
    return windows.unflatten(0, (num, VIDEO_FRAMES)).transpose(1, 2)


def resized(frames: Float[Tensor, "frames 3 height width"], size: int) -> Float[Tensor, "frames 3 size size"]:
    """Square pictures of another size, bilinear, antialiased."""
    if not len(frames) or frames.shape[-2:] == (size, size):
        return frames
    return F.interpolate(frames, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
