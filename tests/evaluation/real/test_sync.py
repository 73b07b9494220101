"""Synchrony: a known offset is measured; MFCC follow the sound."""

import numpy as np
import pytest
import torch

from emotivetalk.evaluation.real.mfcc import mfcc
from emotivetalk.evaluation.real.sync import best_offset, sync_score

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("late", [-6, 0, 4])
def test_a_known_offset_is_measured(late):
    speech = torch.from_numpy(RANDOM.standard_normal((80, 8))).float()
    visual, audio = speech[20 - late : 60 - late], speech[20:60]
    found = best_offset(visual, audio)
    assert found.offset == late
    in_step = best_offset(audio, audio)
    assert in_step.distance == pytest.approx(0, abs=1e-4)
    assert in_step.confidence > 2


def test_unrelated_embeddings_have_no_confidence():
    one, other = torch.from_numpy(RANDOM.standard_normal((2, 200, 64))).float()
    found = best_offset(one, other)
    assert found.confidence < 0.1 * found.distance


def loudness_net(mouths: torch.Tensor, speech: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the brightness of the pictures and the loudness of the sound on the same scale."""
    assert mouths.shape[1:] == (3, 5, 224, 224) and speech.shape[1:] == (1, 13, 20)
    return mouths.mean((1, 3, 4)) / 255, (speech[:, 0, 0].unflatten(1, (5, 4)).mean(2) - LOUD[0]) / (LOUD[1] - LOUD[0])


LOUD = tuple(mfcc((level * RANDOM.standard_normal(16000)).astype(np.float32))[0].mean() for level in (0.01, 0.3))


def test_brightness_that_follows_loudness_is_synchronous():
    is_on = RANDOM.random(60) < 0.5
    level = np.where(np.repeat(is_on, 640), 0.3, 0.01)
    waveform = (level * RANDOM.standard_normal(60 * 640)).astype(np.float32)
    frames = torch.from_numpy(is_on.astype(np.float32))[:, None, None, None].expand(60, 3, 8, 8)
    right = sync_score(loudness_net, frames, waveform)
    wrong = sync_score(loudness_net, frames.roll(7, 0), waveform)
    assert right.offset == 0 and abs(wrong.offset - 7) <= 1
    assert right.confidence > 0.2
    with pytest.raises(ValueError, match="too short"):
        sync_score(loudness_net, frames[:3], waveform)


def test_mfcc_have_100_steps_a_second_and_the_first_is_loudness():
    noise = RANDOM.standard_normal(16000).astype(np.float32)
    found = mfcc(0.1 * noise)
    assert found.shape == (13, 99)
    louder = mfcc(0.2 * noise)
    assert louder[0] - found[0] == pytest.approx(np.full(99, 2 * np.log(2)), abs=1e-3)
    assert louder[1:] == pytest.approx(found[1:], abs=1e-2)  # the shape of the spectrum is the same
    assert mfcc(noise[:100]).shape == (13, 1)
    with pytest.raises(ValueError, match="no MFCC"):
        mfcc(noise[:0])


def test_mfcc_distinguish_tones():
    time = np.arange(8000) / 16000
    low, high = (mfcc(np.sin(2 * np.pi * hertz * time).astype(np.float32)) for hertz in (200, 4000))
    assert low[1].mean() > high[1].mean()  # the first cosine is positive at low bands
