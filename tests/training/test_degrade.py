"""Degradation of pictures: the transforms against closed forms, and their random choice."""

import math

import numpy as np
import pytest
import torch
from scipy import fft

from emotivetalk.training.data import degrade as module
from emotivetalk.training.data.degrade import blur, compress, degrade

NUM_SEEDS = 300


def smooth_pictures() -> torch.Tensor:
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=32, mode="bilinear")


def rms(difference: torch.Tensor) -> float:
    return float(difference.square().mean().sqrt())


def test_blur_keeps_a_constant_and_damps_a_wave_as_a_gaussian_does():
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
def test_degradation_is_a_function_of_the_seed(seed):
    images = smooth_pictures()
    one, again = (degrade(images, np.random.default_rng(seed)) for _ in range(2))
    assert torch.equal(one, again)


def test_most_samples_are_degraded_and_all_of_them_a_little():
    images = smooth_pictures()
    changes = [rms(degrade(images, np.random.default_rng(seed)) - images) for seed in range(NUM_SEEDS)]
    share_unchanged = sum(change == 0 for change in changes) / NUM_SEEDS
    expected = (1 - module.BLUR_SHARE) * (1 - module.COMPRESSION_SHARE) * (1 - module.NOISE_SHARE)
    assert share_unchanged == pytest.approx(expected, abs=0.06)
    assert 0.01 < float(np.median(changes)) < 0.1
    assert max(changes) < 0.15


@pytest.mark.parametrize("shares", [(1, 0, 0), (0, 1, 0), (0, 0, 1)], ids=["blur", "compression", "noise"])
def test_each_degradation_is_applied(monkeypatch, shares):
    for name, share in zip(("BLUR_SHARE", "COMPRESSION_SHARE", "NOISE_SHARE"), shares, strict=True):
        monkeypatch.setattr(module, name, share)
    images = smooth_pictures()
    degraded = [degrade(images, np.random.default_rng(seed)) for seed in range(8)]
    assert all(0 < rms(one - images) < 0.15 for one in degraded)
    assert len({rms(one) for one in degraded}) == 8  # each seed draws another strength


def test_without_a_degradation_pictures_are_unchanged(monkeypatch):
    for name in ("BLUR_SHARE", "COMPRESSION_SHARE", "NOISE_SHARE"):
        monkeypatch.setattr(module, name, 0)
    images = smooth_pictures()
    assert torch.equal(degrade(images, np.random.default_rng(0)), images)
