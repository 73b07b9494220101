"""Frozen encoders of V-AID (Figure 2): speech to audio features, video frames to lip latents and to expression latents.

The paper takes its encoders from other work. Ours are trained in stage 0, so the system needs no third-party weights: the
lip and the audio encoder by audio-visual synchronisation (`training/stages/lip_sync.py`, `training/stages/audio_encoder.py`),
the expression encoder by emotion labels and by pairs of faces that share expression and pose but neither identity nor lip
motion (`training/stages/expression.py`). Lip latents thus exclude the expression, and expression latents the lip motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn

from emotivetalk.models.log_mel import NUM_MELS, LogMel
from emotivetalk.timebase import FRAME_RATE_HZ, SAMPLES_PER_FRAME

MOTION_SIZE = 128
"""Side in pixels of the pictures that the lip and expression encoders read; other sizes are resampled to it."""

AudioInput: TypeAlias = Literal["log_mel", "waveform"]
"""Input of an audio encoder's trained layers, on which training augments speech."""


class AudioEncoder(Protocol):
    """Encoder of 16 kHz mono speech in -1..1 to one feature vector per video frame; frozen outside stage 0."""

    dim: int
    """Width of the features."""
    context_frames: int
    """Frames to either side that influence a feature, or that are enough of them."""
    input_kind: AudioInput

    def to_input(self, waveform: Float[Tensor, "batch samples"]) -> Tensor:
        """Compute what the trained layers read."""
        ...

    def features(self, inputs: Tensor) -> Float[Tensor, "batch frames dim"]:
        """Compute features from the result of `to_input`."""
        ...

    def __call__(self, waveform: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch frames dim"]:
        """Compute features from speech; frames = ceil(samples / 640)."""
        ...


class TemporalBlock(nn.Module):
    """Residual gated convolution over time, normalised per step, so that no statistics of the clip enter (ours)."""

    def __init__(self, channels: int, kernel_size: int = 5, dilation: int = 1) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.conv = nn.Conv1d(
            channels, 2 * channels, kernel_size, padding=dilation * (kernel_size // 2), dilation=dilation
        )
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, hidden: Float[Tensor, "batch steps channels"]) -> Float[Tensor, "batch steps channels"]:
        value, gate = self.conv(self.norm(hidden).transpose(1, 2)).transpose(1, 2).chunk(2, -1)
        return hidden + self.out(value * torch.sigmoid(gate))


class ConvAudioEncoder(ModelMixin, ConfigMixin):
    """Small audio encoder in the shape of wav2vec 2.0: strided convolutions, then context; one vector per video frame.

    Ours: it starts from a log-mel spectrogram, because little data cannot teach a network to read the raw waveform. Its
    receptive field is finite (`context_frames` to either side), so long speech can be encoded in blocks without seams.

    Args:
        dim: width of the features.
        channels: width of the convolutions.
    """

    context_frames = 16
    input_kind: AudioInput = "log_mel"

    @register_to_config
    def __init__(self, dim: int = 96, channels: int = 128) -> None:
        super().__init__()
        self.dim = dim
        self.log_mel = LogMel()
        self.conv_in = nn.Conv1d(NUM_MELS, channels, 5, padding=2)
        self.fast = nn.Sequential(TemporalBlock(channels), TemporalBlock(channels, dilation=2))
        self.halve = nn.Conv1d(channels, channels, 2, stride=2)
        self.middle = nn.Sequential(TemporalBlock(channels))
        self.quarter = nn.Conv1d(channels, channels, 2, stride=2)
        self.context = nn.Sequential(TemporalBlock(channels), TemporalBlock(channels, dilation=2))
        self.norm_out = nn.LayerNorm(channels)
        self.out = nn.Linear(channels, dim)

    def forward(self, waveform: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch frames dim"]:
        return self.features(self.to_input(waveform).to(self.out.weight.dtype))

    def to_input(self, waveform: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch steps bands"]:
        """Compute the log-mel spectrogram."""
        return self.log_mel(waveform)

    def features(self, inputs: Float[Tensor, "batch steps bands"]) -> Float[Tensor, "batch frames dim"]:
        """Compute features from a log-mel spectrogram of four steps per frame."""
        hidden = self.fast(self.conv_in(inputs.transpose(1, 2)).transpose(1, 2))
        hidden = self.middle(self.halve(hidden.transpose(1, 2)).transpose(1, 2))
        hidden = self.context(self.quarter(hidden.transpose(1, 2)).transpose(1, 2))
        return self.out(self.norm_out(hidden))


class Wav2Vec2AudioEncoder(ModelMixin, ConfigMixin):
    """wav2vec 2.0 of `transformers`; its last hidden states are resampled from about 50 Hz to the video's frame rate.

    Args:
        wav2vec2: configuration of `transformers.Wav2Vec2Model` as a dictionary (`config.to_dict()`). The weights come from
            a checkpoint of this project or from `from_wav2vec2`.
    """

    context_frames = 2 * FRAME_RATE_HZ  # attention has no limit; training crops carry two seconds to either side
    input_kind: AudioInput = "waveform"

    @register_to_config
    def __init__(self, wav2vec2: dict | None = None) -> None:
        super().__init__()
        from transformers import Wav2Vec2Config, Wav2Vec2Model

        settings = Wav2Vec2Config(**(wav2vec2 or {}))
        self.model = Wav2Vec2Model(settings)
        self.dim = settings.hidden_size

    @classmethod
    def from_wav2vec2(cls, source: str | Path) -> Wav2Vec2AudioEncoder:
        """Load wav2vec 2.0 from a folder in transformers' layout or from a hub id."""
        from transformers import Wav2Vec2Model
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        model = Wav2Vec2Model.from_pretrained(source)
        encoder = cls(model.config.to_dict())
        encoder.model.load_state_dict(model.state_dict())
        return encoder

    def forward(self, waveform: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch frames dim"]:
        return self.features(self.to_input(waveform))

    def to_input(self, waveform: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch samples"]:
        """Return the waveform unchanged."""
        return waveform

    def features(self, inputs: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch frames dim"]:
        """Compute features from the waveform, which is padded to whole frames and standardised."""
        num_frames = -(-inputs.shape[-1] // SAMPLES_PER_FRAME)
        padded = F.pad(inputs, (0, num_frames * SAMPLES_PER_FRAME - inputs.shape[-1]))
        standardized = (padded - padded.mean(-1, keepdim=True)) / (padded.std(-1, keepdim=True) + 1e-5)
        states = self.model(standardized).last_hidden_state
        return F.interpolate(states.transpose(1, 2), size=num_frames, mode="linear").transpose(1, 2)


AudioEncoderNetwork: TypeAlias = ConvAudioEncoder | Wav2Vec2AudioEncoder
"""The audio encoders that a checkpoint may hold, the starter's first. This is the only list of them."""


class LipEncoder(ModelMixin, ConfigMixin):
    """Encoder of the mouth of a framed face to `lip_visual` (ours; the paper takes its frozen one from other work).

    Args:
        dim: width of the latents, each of unit variance over the training data.
        channels: widths at 1/2, 1/4 and 1/8 of the crop.
        crop: top, bottom, left and right of the mouth in pictures of side `MOTION_SIZE`.
    """

    @register_to_config
    def __init__(
        self,
        dim: int = 32,
        channels: Sequence[int] = (48, 64, 96),
        crop: Sequence[int] = (66, 114, 36, 92),
    ) -> None:
        super().__init__()
        self.dim = dim
        cells = (crop[1] - crop[0]) // 8 * ((crop[3] - crop[2]) // 8)
        self.net = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, channels[0], 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels[0], channels[1], 3, stride=2, padding=1),
            SpatialBlock(channels[1]),
            nn.Conv2d(channels[1], channels[2], 3, stride=2, padding=1),
            SpatialBlock(channels[2]),
            *_readout(channels[2], cells, dim),
        )
        self.standardize = nn.BatchNorm1d(dim, affine=False)

    def forward(self, images: Float[Tensor, "frames 3 H W"]) -> Float[Tensor, "frames dim"]:
        top, bottom, left, right = self.config["crop"]
        return self.standardize(self.net(to_motion_size(images)[..., top:bottom, left:right]).float())


class ExpressionEncoder(ModelMixin, ConfigMixin):
    """Encoder of a framed face to its expression: brows, lids, gaze, smile and head pose, but not the lips' speech.

    Ours; the paper takes its frozen one from other work. The pose is included, so that Di-CTE also makes head motion. After
    training, `keep_shared_directions` narrows the latents to the directions on which pairs of faces agree.

    Args:
        dim: width of the latents.
        hidden_dim: width of the network's output, before it is narrowed.
        channels: widths at 1/4, 1/8 and 1/16 of the crop.
        crop: top, bottom, left and right of the face in pictures of side `MOTION_SIZE`.
    """

    directions: Float[Tensor, "hidden_dim dim"]
    center: Float[Tensor, "hidden_dim"]

    @register_to_config
    def __init__(
        self,
        dim: int = 20,
        hidden_dim: int = 32,
        channels: Sequence[int] = (64, 96, 128),
        crop: Sequence[int] = (12, 116, 20, 108),
    ) -> None:
        super().__init__()
        self.dim = dim
        sides = [((end - start) // 4 + 3) // 4 for start, end in (crop[:2], crop[2:])]
        self.net = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, channels[0], 3, padding=1),
            SpatialBlock(channels[0]),
            nn.Conv2d(channels[0], channels[1], 3, stride=2, padding=1),
            SpatialBlock(channels[1]),
            nn.Conv2d(channels[1], channels[2], 3, stride=2, padding=1),
            SpatialBlock(channels[2]),
            *_readout(channels[2], sides[0] * sides[1], hidden_dim),
        )
        self.standardize = nn.BatchNorm1d(hidden_dim, affine=False)
        self.register_buffer("directions", torch.eye(hidden_dim)[:, :dim].clone())
        self.register_buffer("center", torch.zeros(hidden_dim))

    def hidden(self, images: Float[Tensor, "frames 3 H W"]) -> Float[Tensor, "frames hidden_dim"]:
        """Compute the latents before narrowing, which the training losses use."""
        top, bottom, left, right = self.config["crop"]
        return self.standardize(self.net(to_motion_size(images)[..., top:bottom, left:right]).float())

    def forward(self, images: Float[Tensor, "frames 3 H W"]) -> Float[Tensor, "frames dim"]:
        return (self.hidden(images) - self.center) @ self.directions

    @torch.no_grad()
    def keep_shared_directions(
        self, one: Float[Tensor, "pairs hidden_dim"], other: Float[Tensor, "pairs hidden_dim"]
    ) -> Float[Tensor, "hidden_dim"]:
        """Narrow the latents to the `dim` directions on which pairs agree best, at unit variance (canonical correlation).

        This removes what pairs differ in, identity and lip motion.

        Args:
            one, other: `hidden` latents of the two faces of each pair.

        Returns:
            The agreement of every direction, best first.
        """
        center = torch.cat([one, other]).mean(0)
        a, b = one - center, other - center
        total = (a.T @ a + b.T @ b) / (2 * len(a)) + 1e-4 * torch.eye(a.shape[1])
        shared = (a.T @ b + b.T @ a) / (2 * len(a))
        whiten = torch.linalg.inv(torch.linalg.cholesky(total))
        agreement, vectors = torch.linalg.eigh(whiten @ shared @ whiten.T)
        self.center.copy_(center)
        self.directions.copy_((whiten.T @ vectors).flip(1)[:, : self.dim])
        return agreement.flip(0)


class SpatialBlock(nn.Module):
    """Residual block of two convolutions (ours)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.conv2(F.silu(self.conv1(F.silu(self.norm(hidden)))))


def to_motion_size(images: Float[Tensor, "frames 3 H W"]) -> Float[Tensor, "frames 3 h w"]:
    """Resample square pictures to `MOTION_SIZE`: multiples of it by averaging, other sizes by interpolation."""
    side = images.shape[-1]
    if side == MOTION_SIZE:
        return images
    if side % MOTION_SIZE == 0:
        return F.avg_pool2d(images, side // MOTION_SIZE)
    return F.interpolate(images, size=(MOTION_SIZE, MOTION_SIZE), mode="bilinear", antialias=True)


def _readout(channels: int, cells: int, dim: int) -> tuple[nn.Module, ...]:
    narrow = 32
    return (
        nn.GroupNorm(8, channels),
        nn.SiLU(),
        nn.Conv2d(channels, narrow, 1),
        nn.Flatten(),
        nn.Linear(narrow * cells, 256),
        nn.SiLU(),
        nn.Linear(256, dim),
    )
