"""Offsets of latents with a known lag."""

import numpy as np
import pytest
import torch

from emotivetalk.corpus.preparing.synchrony import MAX_LAG, agreement_curve, offset_of, slice_sound


@pytest.mark.parametrize("late", [-15, -8, -1, 0, 1, 8, 14])
def test_the_lag_of_equal_latents_is_found(late: int) -> None:
    generator = torch.Generator().manual_seed(late + 20)
    latents = torch.randn(160, 32, generator=generator)
    visual = latents[48:112] + 0.5 * torch.randn(64, 32, generator=generator)
    audio = latents[48 - MAX_LAG - late : 112 + MAX_LAG - late]
    offset = offset_of(agreement_curve(visual, audio))
    assert offset.is_sure and offset.frames == pytest.approx(late, abs=0.5)


def test_a_parabola_gives_fractions_of_a_frame() -> None:
    lags = np.arange(-MAX_LAG, MAX_LAG + 1)
    assert offset_of(np.exp(-0.5 * ((lags - 2.4) / 1.5) ** 2)).frames == pytest.approx(2.4, abs=0.1)


def test_the_offset_of_unrelated_latents_is_not_reliable() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        visual, audio = torch.randn(64, 32, generator=generator), torch.randn(94, 32, generator=generator)
        assert not offset_of(agreement_curve(visual, audio)).is_sure


def test_sound_outside_of_the_file_is_silent() -> None:
    sound = np.arange(1, 640 * 3 + 1, dtype=np.float32)
    assert np.array_equal(slice_sound(sound, range(1, 2)), sound[640:1280])
    around = slice_sound(sound, range(-1, 5))
    assert len(around) == 6 * 640 and np.array_equal(around[640 : 4 * 640], sound) and not around[:640].any()
    assert not slice_sound(sound, range(10, 12)).any() and not slice_sound(sound, range(-4, -2)).any()
    assert len(slice_sound(sound, range(-4, -2))) == 2 * 640
