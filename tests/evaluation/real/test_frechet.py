"""Frechet distances of known features against the closed form."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from emotivetalk.evaluation.real.frechet import FrechetDistance, for_i3d, for_inception

GENERATOR = torch.Generator().manual_seed(0)


def pooled(frames: torch.Tensor) -> torch.Tensor:
    """Return the mean color of each quarter of the picture, as a fake feature extractor."""
    return torch.nn.functional.adaptive_avg_pool2d(frames, 2).flatten(1)


def distance(real: torch.Tensor, generated: torch.Tensor) -> float:
    found = FrechetDistance(lambda rows: rows)
    for half in real.chunk(2):
        found.add(half, real=True)
    found.add(generated, real=False)
    value = found.value()
    assert value is not None
    return value


def test_identical_sets_are_at_distance_zero():
    rows = torch.randn(200, 6, generator=GENERATOR, dtype=torch.float64)
    assert distance(rows, rows.clone()) == pytest.approx(0, abs=1e-6)
    pictures = torch.rand(40, 3, 16, 16, generator=GENERATOR)
    frechet = FrechetDistance(pooled)
    for is_real in (True, False):
        frechet.add(pictures, real=is_real)
    assert frechet.value() == pytest.approx(0, abs=1e-6)


def test_the_distance_of_a_shift_is_its_square():
    rows = torch.randn(300, 4, generator=GENERATOR, dtype=torch.float64)
    shift = torch.tensor([3.0, 0, -4.0, 0])
    assert distance(rows, rows + shift) == pytest.approx(25, rel=1e-6)


def test_the_distance_of_gaussians_is_the_closed_form():
    one = torch.randn(500, 5, generator=GENERATOR, dtype=torch.float64) @ torch.rand(5, 5, generator=GENERATOR).double()
    other = 2 * torch.randn(400, 5, generator=GENERATOR, dtype=torch.float64) + 1
    a, b = np.cov(one.numpy().T), np.cov(other.numpy().T)
    means = np.square(one.numpy().mean(0) - other.numpy().mean(0)).sum()
    wanted = means + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert distance(one, other) == pytest.approx(wanted, rel=1e-4)


def test_a_set_of_one_row_has_no_distance():
    frechet = FrechetDistance(lambda rows: rows)
    assert frechet.value() is None
    frechet.add(torch.zeros(1, 3), real=True)
    frechet.add(torch.zeros(5, 3), real=False)
    assert frechet.value() is None


def test_pictures_are_converted_to_the_networks_inputs():
    frames = torch.rand(35, 3, 20, 20, generator=GENERATOR)
    videos = for_i3d(frames)
    assert videos.shape == (2, 3, 16, 224, 224)
    assert -1 <= videos.min() < -0.5 and 0.5 < videos.max() <= 1
    assert torch.equal(for_i3d(torch.ones(16, 3, 8, 8)), torch.ones(1, 3, 16, 224, 224))
    assert for_i3d(frames[:10]).shape[0] == 0
    assert for_inception(frames[:2]).shape == (2, 3, 299, 299)
    assert 200 < for_inception(frames[:2]).max() <= 255
