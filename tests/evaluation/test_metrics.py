"""Metrics against closed forms, other libraries, and cases with a known answer."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from skimage.metrics import peak_signal_noise_ratio

from emotivetalk.evaluation import metrics

RANDOM = np.random.default_rng(0)


def speech(num: int = 3, frames: int = 80) -> list[np.ndarray]:
    """Return smooth random tracks with different means."""
    noise = RANDOM.standard_normal((num, frames + 4)).cumsum(1) * 0.1 + 0.5 * RANDOM.standard_normal((num, frames + 4))
    return [track[2:-2] + 10 * i for i, track in enumerate(noise)]


def test_correlation_of_one_clip_is_pearsons():
    one, other = RANDOM.standard_normal((2, 50))
    assert metrics.correlation([one], [other]).value == pytest.approx(stats.pearsonr(one, other).statistic)


def test_correlation_ignores_differences_between_clips():
    levels = [0.0, 10.0, 20.0]
    one = [level + RANDOM.standard_normal(400) for level in levels]
    other = [level + RANDOM.standard_normal(400) for level in levels]
    assert abs(metrics.correlation(one, other).value) < 0.15
    assert np.corrcoef(np.concatenate(one), np.concatenate(other))[0, 1] > 0.95


def test_correlation_ignores_gain_and_offset_of_a_clip():
    truth = speech()
    assert metrics.correlation([3 * track + 5 for track in truth], truth).value == pytest.approx(1)


@pytest.mark.parametrize("late", [-3, 0, 2])
def test_the_lag_curve_peaks_at_the_shift_of_the_track(late):
    long = speech(4, 100)
    truth = [track[10:90] for track in long]
    measured = [track[10 - late : 90 - late] for track in long]
    curve = metrics.lag_curve(measured, truth)
    assert curve.peak_lag == late
    assert max(curve.r) == pytest.approx(1, abs=1e-9)
    assert curve.r[curve.lags.index(0)] == pytest.approx(metrics.correlation(measured, truth).value)


def test_tracks_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match=r"differ in length: \[5\] and \[6\]"):
        metrics.correlation([np.zeros(5)], [np.zeros(6)])
    with pytest.raises(ValueError, match="Lower max_lag"):
        metrics.lag_curve([np.zeros(9)], [np.zeros(9)])


def test_a_constant_track_has_no_correlation():
    assert metrics.correlation([np.ones(20)], speech(1, 20)).value == 0


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=3, max_size=20), st.integers(0, 99))
def test_rank_correlation_is_spearmans(values, seed):
    other = np.random.default_rng(seed).integers(0, 5, len(values))
    if len(set(values)) < 2 or len(set(other.tolist())) < 2:
        assert metrics.rank_correlation(np.array(values), other) == 0
    else:
        expected = stats.spearmanr(values, other).statistic
        assert metrics.rank_correlation(np.array(values), other) == pytest.approx(expected)


def test_the_interval_of_a_mean_is_the_normal_one():
    values = RANDOM.standard_normal(400)
    found = metrics.mean_estimate(values)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert metrics.mean_estimate([2.0]) == metrics.Estimate(2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="no clips"):
        metrics.mean_estimate([])


def test_accuracy_and_confusion_agree():
    predicted, targets = np.array([0, 1, 1, 2, 2, 2]), np.array([0, 1, 2, 2, 2, 0])
    counts = metrics.confusion(predicted, targets, 3)
    assert counts.tolist() == [[1, 0, 1], [0, 1, 0], [0, 1, 2]]
    found = metrics.accuracy(predicted, targets)
    assert found.value == pytest.approx(np.trace(counts) / counts.sum())
    assert 0 <= found.low < found.value < found.high <= 1


def test_psnr_equals_scikit_image_and_uses_only_the_mask():
    truth = torch.rand(3, 3, 16, 16)
    images = (truth + 0.1 * torch.randn_like(truth)).clamp(0, 1)
    found = metrics.psnr(images, truth)
    for i in range(3):
        assert found[i] == pytest.approx(
            peak_signal_noise_ratio(truth[i].numpy(), images[i].numpy(), data_range=1), 1e-4
        )
    mask = torch.zeros(3, 1, 16, 16)
    mask[..., :8] = 1
    half = images.clone()
    half[..., 8:] = 0
    assert np.allclose(metrics.psnr(half, truth, mask), metrics.psnr(half[..., :8], truth[..., :8]))
    assert (metrics.psnr(truth, truth) == metrics.MOST_DB).all()
    assert np.isnan(metrics.psnr(images, truth, torch.zeros(3, 1, 16, 16))).all()


def test_high_pass_falls_with_blur_and_is_one_for_the_truth():
    truth = torch.rand(2, 3, 32, 32)
    assert metrics.high_pass_ratio(truth, truth) == pytest.approx(1)
    assert metrics.high_pass_ratio(0.5 * truth, truth) == pytest.approx(0.25)
    assert metrics.high_pass_ratio(torch.nn.functional.avg_pool2d(truth, 3, 1, 1), truth) < 0.5


def test_drift_measures_slow_change_of_still_pixels():
    frames = torch.rand(1, 3, 8, 8).repeat(100, 1, 1, 1) * 0.5
    frames[..., :4] += 0.3 * torch.rand(100, 3, 8, 4)
    still = torch.zeros(1, 8, 8)
    still[..., 4:] = 1
    assert metrics.drift(frames, still)[-1] == metrics.MOST_DB
    brighter = frames + torch.linspace(0, 0.1, 100)[:, None, None, None]
    found = metrics.drift(brighter, still)
    # The mean of the last second is 75 frames after that of the first.
    assert found[-1] == pytest.approx(-20 * np.log10(0.1 * 75 / 99), abs=0.01)
    assert (np.diff(found) < 0).all()
    with pytest.raises(ValueError, match="two seconds"):
        metrics.drift(frames[:40], still)


def test_jumps_at_borders_are_seams():
    frames = torch.linspace(0, 0.5, 60)[:, None, None, None].expand(60, 3, 4, 4).clone()
    borders = (20, 40)
    assert metrics.border_ratios(metrics.frame_changes(frames), borders) == pytest.approx(1, abs=1e-3)
    frames[20:] += 2 * 0.5 / 59
    frames[40:] += 2 * 0.5 / 59
    assert metrics.border_ratios(metrics.frame_changes(frames), borders) == pytest.approx(3, rel=1e-3)
    with pytest.raises(ValueError, match="borders"):
        metrics.border_ratios(np.ones(10), [40])


def test_motion_statistics_of_noise_and_of_a_wave():
    noise = metrics.motion_statistics([RANDOM.standard_normal(4000)])
    assert noise.velocity == pytest.approx(2 / np.sqrt(np.pi), rel=0.05)
    assert (noise.low, noise.middle, noise.high) == pytest.approx((0.12, 0.28, 0.60), abs=0.03)
    assert noise.variance == pytest.approx(1, rel=0.1)
    seconds = np.arange(1000) / metrics.FRAME_RATE_HZ
    wave = metrics.motion_statistics([2 * np.sin(2 * np.pi * 3 * seconds) + 7])
    assert wave.middle > 0.99
    assert wave.variance == pytest.approx(2, rel=0.01)


def test_each_blink_counts_once():
    lids = np.zeros(100)
    lids[20:24], lids[60] = (0.4, 0.9, 0.45, 0.8), 1.0
    assert metrics.blink_rate([lids]) == pytest.approx(2 / 4)
    assert metrics.blink_rate([np.full(50, 0.4)]) == 0
