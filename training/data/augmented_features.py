"""What a frozen audio encoder hears of augmented speech, whichever of the two it is."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.models.encoders import AudioEncoder, ConvAudioEncoder
from emotivetalk.training.data.augment import augment_mel, augment_waveform


def prepared(
    encoder: AudioEncoder, waveform: Float[Tensor, " samples"], augmented_by: np.random.Generator | None
) -> Tensor:
    """What the encoder begins with, and where an augmentation has its place: a spectrogram or the waveform."""
    if not isinstance(encoder, ConvAudioEncoder):
        return waveform if augmented_by is None else augment_waveform(waveform, augmented_by)
    mel = encoder.log_mel(waveform[None])[0]
    return mel if augmented_by is None else augment_mel(mel, augmented_by)


@torch.no_grad()
def features(encoder: AudioEncoder, heard: Tensor) -> Float[Tensor, "batch frames dim_audio"]:
    """Of clips of equal length, each `prepared`, stacked."""
    return encoder.features(heard) if isinstance(encoder, ConvAudioEncoder) else encoder(heard)
