"""Motion is alive: true motion is off by nothing, still and trembling faces are off by a lot."""

import numpy as np
import pytest
import torch

from emotivetalk.evaluation.motion_statistics import WITHIN, deviation, lids_open, liveness_figures, motion_rows
from tests.evaluation.measured import FRAMES, case, measurement, reading

RANDOM = torch.Generator().manual_seed(0)


def moving(num: int = 12) -> list[torch.Tensor]:
    """Smooth noise in every parameter, and a blink in every clip."""
    tracks = []
    for _ in range(num):
        noise = torch.randn(1, 12, FRAMES + 8, generator=RANDOM)
        track = torch.nn.functional.avg_pool1d(noise, 9, 1)[0].T.contiguous()
        track[:, 5] = 0
        track[20:23, 5] = 1
        tracks.append(track)
    return tracks


def figures(made: list[torch.Tensor], true: list[torch.Tensor]):
    measurements = [measurement(case(), reading(0, a), reading(0, b)) for a, b in zip(made, true, strict=True)]
    assert len(motion_rows(measurements)) == 5
    return {figure.key.removeprefix("motion."): figure for figure in liveness_figures(measurements)}


def test_brows_are_led_across_blinks_and_lids_are_left():
    track = torch.linspace(0, 1, FRAMES)[:, None].repeat(1, 12)
    track[:, 5] = 0
    seen = track.clone()
    seen[20:23] = 0  # what the reader makes of shut eyes
    seen[19:24, 5] = torch.tensor([0.1, 0.5, 1, 0.5, 0.1])
    opened = lids_open(reading(0, seen)).expression
    others = [column for column in range(12) if column != 5]
    assert torch.allclose(opened[:, others], track[:, others], atol=1e-6)
    assert torch.equal(opened[:, 5], seen[:, 5])
    for lids in (0.0, 1.0):  # never shut, and never open: nothing to lead across, nothing to lead from
        seen[:, 5] = lids
        assert torch.equal(lids_open(reading(0, seen)).expression, seen)


def test_true_motion_is_off_by_nothing():
    true = moving()
    for figure in figures(true, true).values():
        assert figure.value.value == pytest.approx(0, abs=1e-6)
        assert figure.floor.value > WITHIN


def test_other_motion_of_the_same_kind_is_about_as_far_off_as_chance():
    found = figures(moving(24), moving(24))
    assert found["velocity"].value.value < WITHIN
    assert found["blinks"].value.value == pytest.approx(0, abs=1e-6)


def test_twice_the_motion_is_off_by_as_much():
    true = moving()
    found = figures([2 * track for track in true], true)
    assert found["variance"].value.value == pytest.approx(3, rel=1e-4)
    assert found["velocity"].value.value == pytest.approx(0, abs=1e-5)  # in units of its own spread


def test_a_mask_and_a_tremble_are_found():
    true = moving()
    still = figures([track[:1].expand(FRAMES, -1) for track in true], true)
    assert still["variance"].value.value == pytest.approx(1, abs=1e-3)
    assert still["blinks"].value.value == pytest.approx(1)
    tremble = figures([track + 0.5 * torch.randn(track.shape, generator=RANDOM) for track in true], true)
    assert tremble["velocity"].value.value > WITHIN and tremble["high"].value.value > WITHIN


def test_too_much_does_not_make_good_for_too_little():
    assert deviation([2.0, 0.0], [1.0, 1.0]) == 1
    assert deviation([1.0], [1.0]) == 0
    assert np.isfinite(deviation([1.0], [0.0]))
