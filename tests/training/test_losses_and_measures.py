"""Contrastive losses, the push loss and validation metrics against closed forms."""

import math

import numpy as np
import pytest
import torch

from emotivetalk.models.log_mel import LogMel
from emotivetalk.training.data.augment import augment_mel, jitter_color, shift
from emotivetalk.training.stages.autoencoder import local_detail
from emotivetalk.training.stages.contrastive import infonce, infonce_within_clips, push
from emotivetalk.training.stages.validation import correlations, retrieval, ridge


def test_infonce_of_equal_views_is_near_zero_and_of_strangers_near_chance():
    torch.manual_seed(0)
    one = torch.eye(16)[None].repeat(3, 1, 1)
    assert infonce_within_clips(one, one, neighbours=0) < 0.01
    same = torch.ones(3, 16, 4)
    assert float(infonce_within_clips(same, same, neighbours=0)) == pytest.approx(math.log(16), rel=1e-4)
    rows = torch.ones(12, 5)
    assert float(infonce(rows, rows)) == pytest.approx(math.log(12), rel=1e-4)


def test_infonce_excludes_neighbouring_frames():
    same = torch.ones(1, 10, 4)
    # In the middle 2 of 9 others are neighbours, at the ends 1: log of what is left, averaged.
    expected = (8 * math.log(8) + 2 * math.log(9)) / 10
    assert float(infonce_within_clips(same, same, neighbours=1)) == pytest.approx(expected, rel=1e-4)


def test_clips_are_no_negatives_of_each_other():
    torch.manual_seed(0)
    one, other = torch.randn(2, 8, 5), torch.randn(2, 8, 5)
    both = infonce_within_clips(one, other)
    apart = (infonce_within_clips(one[:1], other[:1]) + infonce_within_clips(one[1:], other[1:])) / 2
    torch.testing.assert_close(both, apart)


def test_push_is_zero_for_independent_latents_and_grows_with_shared_content():
    torch.manual_seed(0)
    one, other = torch.randn(40, 50, 4), torch.randn(40, 50, 4)
    assert push(one, other) < 0.002
    assert float(push(one, one)) == pytest.approx(1 / 4, abs=0.02)  # ones on the diagonal of a 4 x 4 matrix
    assert push(one, one + 2 * other) < push(one, one + other) < push(one, one)


def test_local_detail_measures_amount_not_position():
    torch.manual_seed(0)
    strands, smooth = torch.randn(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
    moved = (
        strands.unflatten(-1, (8, 8)).flip(-1).flatten(-2).unflatten(-2, (8, 8)).flip(-2).flatten(-3, -2)
    )  # in cells
    expected = math.sqrt(8 / 9)  # of white noise a mean of nine takes a ninth
    assert local_detail(strands).shape == (1, 1, 8, 8)
    assert float(local_detail(strands).square().mean().sqrt()) == pytest.approx(expected, rel=0.03)
    assert (local_detail(strands) - local_detail(moved)).abs().mean() < 0.03
    assert local_detail(smooth)[..., 1:-1, 1:-1].max() < 0.01


def test_ridge_finds_a_linear_map_and_correlations_are_pearsons():
    torch.manual_seed(0)
    inputs, weights = torch.randn(500, 4), torch.randn(4, 2)
    read = ridge(inputs, inputs @ weights + 3, penalty=1e-6)
    torch.testing.assert_close(read(torch.eye(4)), weights + 3, rtol=1e-3, atol=1e-3)
    one, other = torch.randn(200, 2), torch.randn(200, 2)
    expected = [np.corrcoef(one[:, i], other[:, i])[0, 1] for i in range(2)]
    assert correlations(one, other) == pytest.approx(expected, abs=1e-5)


def test_retrieval_is_perfect_for_equal_and_chance_for_independent_latents():
    torch.manual_seed(0)
    one, other = torch.randn(60, 40, 8), torch.randn(60, 40, 8)
    assert retrieval(one, one, 16, 3) == 1.0
    assert retrieval(one, other, 16, 3) == pytest.approx(1 / 16, abs=0.03)


def test_augmented_speech_keeps_its_length_and_its_moments():
    generator = np.random.default_rng(0)
    loud = (torch.arange(64 * 640) // 6400 % 2).float()
    mel = LogMel()((0.2 * loud * torch.randn(64 * 640, generator=torch.Generator().manual_seed(0)))[None])[0]
    energy = mel.mean(1)
    for _ in range(20):
        changed = augment_mel(mel, generator)
        assert changed.shape == mel.shape
        assert torch.isfinite(changed).all()
        assert torch.corrcoef(torch.stack([energy, changed.mean(1)]))[0, 1] > 0.8


def test_augmenting_is_a_function_of_the_generator():
    mel = torch.randn(40, 80, generator=torch.Generator().manual_seed(0))
    one, again = (augment_mel(mel, np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(one, again)


def test_pictures_of_a_clip_get_the_same_light_and_whole_shifts():
    frames = torch.rand(1, 3, 8, 8).repeat(4, 1, 1, 1)
    lit = jitter_color(frames, np.random.default_rng(1))
    assert torch.equal(lit[0], lit[3])
    assert not torch.equal(lit, frames)
    assert torch.equal(shift(frames, 2, 1)[..., 1:, 2:], frames[..., :-1, :-2])
