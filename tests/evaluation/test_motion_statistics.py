"""Motion figures: true motion has no deviation; frozen and trembling faces have a large one."""

import numpy as np
import pytest
import torch

from emotivetalk.evaluation.motion_statistics import (
    MAX_DEVIATION,
    deviation,
    interpolate_blinks,
    motion_figures,
    motion_rows,
)
from tests.evaluation.made_measurements import FRAMES, case, measurement, reading

RANDOM = torch.Generator().manual_seed(0)


def moving(num: int = 12) -> list[torch.Tensor]:
    """Return clips with smooth noise in every parameter and one blink."""
    tracks = []
    for _ in range(num):
        noise = torch.randn(1, 12, FRAMES + 8, generator=RANDOM)
        track = torch.nn.functional.avg_pool1d(noise, 9, 1)[0].T.contiguous()
        track[:, 5] = 0
        track[20:23, 5] = 1
        tracks.append(track)
    return tracks


def figures(generated: list[torch.Tensor], true: list[torch.Tensor]):
    measurements = [measurement(case(), reading(0, a), reading(0, b)) for a, b in zip(generated, true, strict=True)]
    assert len(motion_rows(measurements)) == 5
    return {figure.key.removeprefix("motion."): figure for figure in motion_figures(measurements)}


def test_expressions_but_the_lids_are_interpolated_over_blinks():
    track = torch.linspace(0, 1, FRAMES)[:, None].repeat(1, 12)
    track[:, 5] = 0
    measured = track.clone()
    measured[20:23] = 0  # the reader loses expressions of closed eyes
    measured[19:24, 5] = torch.tensor([0.1, 0.5, 1, 0.5, 0.1])
    opened = interpolate_blinks(reading(0, measured)).expression
    others = [column for column in range(12) if column != 5]
    assert torch.allclose(opened[:, others], track[:, others], atol=1e-6)
    assert torch.equal(opened[:, 5], measured[:, 5])
    for lids in (0.0, 1.0):  # no blink, or no open eyes
        measured[:, 5] = lids
        assert torch.equal(interpolate_blinks(reading(0, measured)).expression, measured)


def test_true_motion_has_no_deviation():
    true = moving()
    for figure in figures(true, true).values():
        assert figure.value.value == pytest.approx(0, abs=1e-6)
        assert figure.floor.value > MAX_DEVIATION


def test_other_motion_of_the_same_distribution_is_within_bounds():
    found = figures(moving(24), moving(24))
    assert found["velocity"].value.value < MAX_DEVIATION
    assert found["blinks"].value.value == pytest.approx(0, abs=1e-6)


def test_twice_the_motion_deviates_in_variance_alone():
    true = moving()
    found = figures([2 * track for track in true], true)
    assert found["variance"].value.value == pytest.approx(3, rel=1e-4)
    assert found["velocity"].value.value == pytest.approx(0, abs=1e-5)  # in units of its own spread


def test_a_frozen_and_a_trembling_face_are_detected():
    true = moving()
    still = figures([track[:1].expand(FRAMES, -1) for track in true], true)
    assert still["variance"].value.value == pytest.approx(1, abs=1e-3)
    assert still["blinks"].value.value == pytest.approx(1)
    tremble = figures([track + 0.5 * torch.randn(track.shape, generator=RANDOM) for track in true], true)
    assert tremble["velocity"].value.value > MAX_DEVIATION and tremble["high"].value.value > MAX_DEVIATION


def test_too_much_does_not_compensate_for_too_little():
    assert deviation([2.0, 0.0], [1.0, 1.0]) == 1
    assert deviation([1.0], [1.0]) == 0
    assert np.isfinite(deviation([1.0], [0.0]))


def test_blinks_are_left_out_if_the_truth_has_none():
    true = moving()
    for track in true:
        track[:, 5] = 0
    assert "blinks" not in figures(moving(), true)
    assert "velocity" in figures(moving(), true)
