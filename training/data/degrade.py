"""Random degradation of pictures as autoencoders, denoisers and codecs cause it: blur, block compression, noise (ours)."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

BLUR_SHARE, COMPRESSION_SHARE, NOISE_SHARE = 0.5, 0.35, 0.6
_BLOCK = 8


def degrade(
    images: Float[Tensor, "frames 3 size size"], generator: np.random.Generator
) -> Float[Tensor, "frames 3 size size"]:
    """Blur, compress and add noise to pictures in -1..1, each with its own probability; about one sample in eight is unchanged.

    Args:
        images: pictures whose side is a multiple of 8 pixels.
        generator: the only source of randomness.
    """
    if generator.random() < BLUR_SHARE:
        images = blur(images, generator.uniform(0.3, 1.1))
    if generator.random() < COMPRESSION_SHARE:
        images = compress(images, generator.uniform(0.05, 0.5))
    if generator.random() < NOISE_SHARE:
        noise = generator.standard_normal(tuple(images.shape), np.float32)
        images = images + generator.uniform(0.005, 0.05) * torch.from_numpy(noise)
    return images


def blur(images: Float[Tensor, "frames 3 H W"], sigma: float) -> Float[Tensor, "frames 3 H W"]:
    """Convolve with a Gaussian of `sigma` pixels, at most about 1.5."""
    offsets = torch.arange(-3, 4, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(images, (3, 3, 3, 3), mode="replicate").flatten(0, 1)[:, None]
    rows = F.conv2d(padded, kernel.view(1, 1, 7, 1))
    return F.conv2d(rows, kernel.view(1, 1, 1, 7)).view_as(images)


def compress(images: Float[Tensor, "frames 3 size size"], step: float) -> Float[Tensor, "frames 3 size size"]:
    """Quantise the cosine transform of 8 x 8 blocks, as JPEG does, in steps that grow from `step` with the frequency."""
    transform = _cosine_transform().to(images)
    blocks = images.unflatten(-1, (-1, _BLOCK)).unflatten(-3, (-1, _BLOCK)).transpose(-3, -2)
    spectrum = transform @ blocks @ transform.T
    order = torch.arange(_BLOCK, dtype=images.dtype)
    steps = step * (0.2 + (order[:, None] + order) / _BLOCK)
    blocks = transform.T @ ((spectrum / steps).round() * steps) @ transform
    return blocks.transpose(-3, -2).flatten(-2).flatten(-3, -2)


def _cosine_transform() -> Float[Tensor, "8 8"]:
    """Build the orthonormal cosine transform of eight samples (DCT-II)."""
    frequency, position = torch.arange(_BLOCK)[:, None], torch.arange(_BLOCK)
    waves = torch.cos(math.pi / _BLOCK * (position + 0.5) * frequency) * math.sqrt(2 / _BLOCK)
    waves[0] /= math.sqrt(2)
    return waves
