"""Augmentations that keep the labels: of speech (other voices, rooms, microphones) and of pictures (other light, small shifts)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.models.log_mel import FLOOR, SILENCE


def augment_mel(mel: Float[Tensor, "steps bands"], generator: np.random.Generator) -> Float[Tensor, "steps bands"]:
    """Simulate another voice, microphone and room: shifted bands, loudness, spectral tilt and colour, noise, echo, masks.

    The spectrogram is that of `emotivetalk.models.log_mel`, in which 1 is 20 dB. One sample in five is unchanged.
    """
    steps, bands = mel.shape
    if generator.random() < 0.2:
        return mel
    position = torch.arange(bands, dtype=torch.float32)
    stretch, offset = 1 + 0.05 * generator.standard_normal(), 2 * generator.standard_normal()
    source = (stretch * position + float(np.clip(offset, -5, 5))).clamp(0, bands - 1.001)
    low, share = source.long(), source - source.floor()
    mel = mel[:, low] * (1 - share) + mel[:, low + 1] * share
    if generator.random() < 0.2:  # a room: each step contains a decaying part of the steps before it
        decay, wet = generator.uniform(0.5, 0.85), generator.uniform(0.05, 0.3)
        power = 10 ** (2 * (mel - 2))
        tail = torch.zeros(bands)
        for step in range(steps):
            tail = decay * tail + (1 - decay) * power[step]
            power[step] = power[step] + wet * tail
        mel = power.clamp(min=FLOOR).log10() / 2 + 2
    centred = (position / (bands - 1) - 0.5) * 2
    colour = generator.uniform(-0.25, 0.25) * centred
    for cycles in (1, 2, 3):
        colour = colour + 0.05 * generator.standard_normal() * torch.cos(
            torch.pi * cycles * centred + generator.uniform(0, 6.28)
        )
    mel = mel + colour + generator.uniform(-0.4, 0.4)
    if generator.random() < 0.5:
        floor = generator.uniform(-2, -0.7) + generator.uniform(-0.3, 0.3) * centred
        hiss = floor + 0.08 * torch.from_numpy(generator.standard_normal((steps, bands), np.float32))
        mel = torch.logaddexp(4.6 * mel, 4.6 * hiss) / 4.6  # adds powers; 4.6 = 2 ln 10
    for _ in range(generator.integers(3)):
        start = int(generator.integers(bands))
        mel = mel.clone()
        mel[:, start : start + int(generator.integers(1, 9))] = mel.mean()
    return mel.clamp(min=SILENCE)


def augment_waveform(waveform: Float[Tensor, " samples"], generator: np.random.Generator) -> Float[Tensor, " samples"]:
    """Change the loudness and add microphone noise, for encoders that read the waveform; the result stays in -1..1."""
    gain = 10 ** generator.uniform(-0.5, 0.2)
    noise = 10 ** generator.uniform(-4.5, -2) * generator.standard_normal(len(waveform))
    return (gain * waveform + torch.from_numpy(noise.astype(np.float32))).clamp(-1, 1)


def jitter_color(
    images: Float[Tensor, "frames 3 H W"], generator: np.random.Generator
) -> Float[Tensor, "frames 3 H W"]:
    """Change the light of all frames alike, by tint, contrast and brightness; values in -1..1 stay near that range."""
    gain = 1 + 0.15 * generator.standard_normal((1, 3, 1, 1)).astype(np.float32) * 0.5
    contrast, brightness = 1 + generator.uniform(-0.2, 0.2), generator.uniform(-0.15, 0.15)
    return images * torch.from_numpy(gain) * contrast + brightness


def shift(images: Float[Tensor, "frames 3 H W"], dx: int, dy: int) -> Float[Tensor, "frames 3 H W"]:
    """Shift all frames by whole pixels. The border wraps round; the encoders' crops do not reach it."""
    return torch.roll(images, (dy, dx), (2, 3))
