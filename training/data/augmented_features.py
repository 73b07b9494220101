"""Features of augmented speech from a frozen audio encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.models.encoders import AudioEncoder, AudioInput
from emotivetalk.training.data.augment import augment_mel, augment_waveform

_AUGMENTATIONS: Final[Mapping[AudioInput, Callable[[Tensor, np.random.Generator], Tensor]]] = {
    "log_mel": augment_mel,
    "waveform": augment_waveform,
}


@torch.no_grad()
def encoder_input(
    encoder: AudioEncoder, waveform: Float[Tensor, " samples"], augmentation: np.random.Generator | None
) -> Tensor:
    """Compute what the encoder's trained layers read (a spectrogram, or the waveform), augmented if a generator is given."""
    inputs = encoder.to_input(waveform[None])[0]
    return inputs if augmentation is None else _AUGMENTATIONS[encoder.input_kind](inputs, augmentation)


@torch.no_grad()
def encode_inputs(encoder: AudioEncoder, inputs: Tensor) -> Float[Tensor, "batch frames dim_audio"]:
    """Compute the features of stacked results of `encoder_input`, of clips of equal length."""
    return encoder.features(inputs)
