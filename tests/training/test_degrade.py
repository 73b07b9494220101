"""Spoiling: the transforms against closed forms, and the same from the same seed."""

import math

import numpy as np
import pytest
import torch
from scipy import fft

from emotivetalk.training.data.degrade import blur, compress, spoil


def test_blur_keeps_what_is_even_and_damps_a_wave_as_a_gaussian_does():
    assert torch.allclose(blur(torch.full((1, 3, 16, 16), 0.4), 1.0), torch.tensor(0.4), atol=1e-6)
    wave = torch.cos(2 * math.pi * torch.arange(64) / 8).expand(1, 3, 64, 64)
    sigma, omega = 0.9, 2 * math.pi / 8
    inner = (slice(None), slice(None), slice(8, -8), slice(8, -8))
    assert torch.allclose(blur(wave, sigma)[inner], math.exp(-0.5 * (sigma * omega) ** 2) * wave[inner], atol=5e-3)


def test_compression_rounds_the_cosine_transform_of_blocks():
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.allclose(compress(images, 1e-5), images, atol=1e-4)
    found = compress(images, 0.4)
    block = fft.dctn(found[1, 2, 8:16, 16:24].double().numpy(), norm="ortho")
    steps = 0.4 * (0.2 + np.add.outer(np.arange(8), np.arange(8)) / 8)
    assert np.allclose(block / steps, np.round(block / steps), atol=1e-3)
    true = fft.dctn(images[1, 2, 8:16, 16:24].double().numpy(), norm="ortho")
    assert (np.abs(block - true) <= steps / 2 + 1e-4).all()


@pytest.mark.parametrize("seed", range(4))
def test_spoiling_is_a_function_of_the_seed_and_small(seed):
    images = torch.nn.functional.interpolate(torch.rand(2, 3, 8, 8) * 2 - 1, size=64, mode="bilinear")
    one, again = (spoil(images, np.random.default_rng(seed)) for _ in range(2))
    assert torch.equal(one, again)
    assert (one - images).square().mean().sqrt() < 0.15
