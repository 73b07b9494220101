"""VAE between pictures and latents: Stable Video Diffusion's, or a small one whose decoder reads the portrait.

The full size uses diffusers' `AutoencoderKLTemporalDecoder` unchanged. The small size (ours) compresses 16 times per side.
Its decoder takes what a talking head hardly changes (hair, glasses, clothes, background) from the portrait, warped to the
head's new position; the latents carry the rest. `LatentCodec` is the common interface for the pipeline and for training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLTemporalDecoder
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.resnet import ResnetBlock2D
from jaxtyping import Float
from torch import Tensor, nn

PATCH = 4
"""Side in pixels of the patches that are folded into channels before the first convolution and unfolded after the last."""


class PortraitAutoencoder(ModelMixin, ConfigMixin):
    """Small VAE that compresses 16 times per side and whose decoder reads the portrait (ours).

    Args:
        latent_channels: number of latent channels.
        block_out_channels: widths at 1/4, 1/8 and 1/16 of the picture's side.
        num_decoder_blocks: residual blocks of the decoder at these three resolutions.
        num_encoder_blocks: residual blocks of the encoder. Generation encodes only the portrait, so they cost a video nothing.
        norm_num_groups: groups of every group normalisation; it divides every width.
        latents_mean, latents_std: mean and deviation of each channel over the training latents; `LatentCodec` standardises
            with them.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 16,
        block_out_channels: Sequence[int] = (48, 96, 160),
        num_decoder_blocks: Sequence[int] = (1, 2, 2),
        num_encoder_blocks: Sequence[int] = (1, 1, 2),
        norm_num_groups: int = 8,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
    ) -> None:
        super().__init__()
        fine, middle, coarse = block_out_channels
        pixels = 3 * PATCH**2

        def blocks(channels: int, num: int) -> nn.Sequential:
            return nn.Sequential(*(_Residual(channels, norm_num_groups) for _ in range(num)))

        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(PATCH),
            nn.Conv2d(pixels, fine, 3, padding=1),
            blocks(fine, num_encoder_blocks[0]),
            nn.Conv2d(fine, middle, 3, stride=2, padding=1),
            blocks(middle, num_encoder_blocks[1]),
            nn.Conv2d(middle, coarse, 3, stride=2, padding=1),
            blocks(coarse, num_encoder_blocks[2]),
            nn.GroupNorm(norm_num_groups, coarse),
            nn.SiLU(),
            nn.Conv2d(coarse, 2 * latent_channels, 3, padding=1),
        )
        self.portrait_fine = nn.Sequential(
            nn.PixelUnshuffle(PATCH), nn.Conv2d(pixels, fine, 3, padding=1), blocks(fine, 1)
        )
        self.portrait_middle = nn.Sequential(nn.Conv2d(fine, middle, 3, stride=2, padding=1), blocks(middle, 1))
        self.portrait_coarse = nn.Sequential(nn.Conv2d(middle, coarse, 3, stride=2, padding=1), blocks(coarse, 1))

        self.conv_in = nn.Conv2d(latent_channels, coarse, 3, padding=1)
        self.fuse_coarse = nn.Conv2d(2 * coarse, coarse, 3, padding=1)
        self.decode_coarse = blocks(coarse, num_decoder_blocks[2])
        self.flow_coarse = _zeroed(nn.Conv2d(coarse, 2, 3, padding=1))
        self.up_middle = nn.Conv2d(coarse, 4 * middle, 3, padding=1)
        self.fuse_middle = nn.Conv2d(2 * middle, middle, 3, padding=1)
        self.decode_middle = blocks(middle, num_decoder_blocks[1])
        self.flow_middle = _zeroed(nn.Conv2d(middle, 2, 3, padding=1))
        self.up_fine = nn.Conv2d(middle, 4 * fine, 3, padding=1)
        self.fuse_fine = nn.Conv2d(2 * fine + pixels, fine, 3, padding=1)
        self.decode_fine = blocks(fine, num_decoder_blocks[0])
        self.norm_out = nn.GroupNorm(norm_num_groups, fine)
        self.conv_out = nn.Conv2d(fine, pixels, 3, padding=1)
        self.conv_blend = _zeroed(nn.Conv2d(fine, PATCH**2, 3, padding=1))

    @property
    def spatial_compression(self) -> int:
        """Picture pixels per latent cell, along each side."""
        return 4 * PATCH

    def encode(self, images: Float[Tensor, "batch 3 height width"]) -> DiagonalGaussianDistribution:
        """Encode pictures in -1..1 to a distribution over latents, `batch latent_channels height/16 width/16`."""
        return DiagonalGaussianDistribution(self.encoder(images))

    def portrait_features(self, portrait: Float[Tensor, "batch 3 height width"]) -> PortraitFeatures:
        """Compute the features of the portrait that the decoder needs; call it once per clip."""
        fine = self.portrait_fine(portrait)
        middle = self.portrait_middle(fine)
        return PortraitFeatures(portrait, fine, middle, self.portrait_coarse(middle))

    def decode(self, latents: Float[Tensor, "batch channels h w"], portrait: PortraitFeatures) -> Decoded:
        """Decode latents with the portrait's features, which have as many rows as the latents, or one row for all."""
        num_rows = len(latents)
        hidden = self.conv_in(latents)
        hidden = self.fuse_coarse(_concatenate(hidden, portrait.coarse.expand(num_rows, -1, -1, -1)))
        hidden = self.decode_coarse(hidden)
        flow = _upsample(0.25 * self.flow_coarse(hidden).float())
        hidden = F.pixel_shuffle(self.up_middle(F.silu(hidden)), 2)
        hidden = self.fuse_middle(_concatenate(hidden, _warp(portrait.middle, flow)))
        hidden = self.decode_middle(hidden)
        flow = _upsample(flow + 0.1 * self.flow_middle(hidden).float())
        hidden = F.pixel_shuffle(self.up_fine(F.silu(hidden)), 2)
        warped = _warp(portrait.image, _upsample(_upsample(flow)))
        warped_features = _warp(portrait.fine, flow)
        hidden = self.fuse_fine(_concatenate(hidden, warped_features, F.pixel_unshuffle(warped, PATCH)))
        hidden = F.silu(self.norm_out(self.decode_fine(hidden)))
        residual = F.pixel_shuffle(self.conv_out(hidden), PATCH)
        blend = torch.sigmoid(F.pixel_shuffle(self.conv_blend(hidden), PATCH))
        return Decoded(residual + blend * warped, warped)


@dataclass(frozen=True)
class PortraitFeatures:
    """Portrait and its features at the decoder's three resolutions; `batch` may be 1 for all frames of a clip."""

    image: Float[Tensor, "batch 3 height width"]
    fine: Float[Tensor, "batch fine height/4 width/4"]
    middle: Float[Tensor, "batch middle height/8 width/8"]
    coarse: Float[Tensor, "batch coarse height/16 width/16"]


@dataclass(frozen=True)
class Decoded:
    """Result of `PortraitAutoencoder.decode`."""

    images: Float[Tensor, "batch 3 height width"]
    """Decoded pictures."""
    warped: Float[Tensor, "batch 3 height width"]
    """The portrait as the decoder warped it, for the training loss."""


@dataclass(frozen=True)
class LatentCodec:
    """Conversion of pictures to standardised latents and back with either autoencoder; it has no weights of its own."""

    vae: PortraitAutoencoder | AutoencoderKLTemporalDecoder

    def encode(self, images: Float[Tensor, "frames 3 H W"]) -> Float[Tensor, "frames channels h w"]:
        """Encode pictures to mean latents, scaled to about unit variance for diffusion."""
        if isinstance(self.vae, PortraitAutoencoder):
            mean, std = self._moments(images)
            return (self.vae.encode(images).mode() - mean) / std
        return self.vae.encode(images).latent_dist.mode() * self.vae.config["scaling_factor"]

    def portrait(self, portrait: Float[Tensor, "portraits 3 H W"]) -> PortraitFeatures | None:
        """Compute what `decode` needs of the portrait; None for the full-size autoencoder, which needs nothing."""
        return self.vae.portrait_features(portrait) if isinstance(self.vae, PortraitAutoencoder) else None

    def decode(
        self, latents: Float[Tensor, "frames channels h w"], portrait: PortraitFeatures | None
    ) -> Float[Tensor, "frames 3 H W"]:
        """Decode consecutive frames to pictures in about -1..1; the temporal decoder mixes neighbouring frames.

        Raises:
            ValueError: the autoencoder needs the portrait, and `portrait` is None.
        """
        if isinstance(self.vae, PortraitAutoencoder):
            if portrait is None:
                raise ValueError("this autoencoder's decoder needs the portrait: pass LatentCodec.portrait(...)")
            mean, std = self._moments(latents)
            return self.vae.decode(latents * std + mean, portrait).images
        scale = self.vae.config["scaling_factor"]
        return self.vae.decode(latents / scale, num_frames=len(latents)).sample

    def _moments(self, like: Tensor) -> tuple[Tensor, Tensor]:
        config = self.vae.config
        if config["latents_mean"] is None:
            raise ValueError("the autoencoder has no latent statistics yet: finish its training first")
        mean, std = (like.new_tensor(config[k]).view(1, -1, 1, 1) for k in ("latents_mean", "latents_std"))
        return mean, std


class _Residual(nn.Module):
    """diffusers' residual block without time embedding, usable in a Sequential; it starts as the identity."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block = ResnetBlock2D(in_channels=channels, temb_channels=None, groups=groups)
        _zeroed(self.block.conv2)

    def forward(self, hidden: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch channels h w"]:
        return self.block(hidden, None)


def _zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _concatenate(hidden: Tensor, *others: Tensor) -> Float[Tensor, "batch channels h w"]:
    """Concatenate channels in the dtype and memory layout of `hidden`; mixed layouts would make `cat` and `conv2d` copy."""
    channels_last = hidden.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.cat([hidden, *(other.to(hidden.dtype, memory_format=layout) for other in others)], 1)


def _upsample(flow: Float[Tensor, "batch 2 h w"]) -> Float[Tensor, "batch 2 h*2 w*2"]:
    return F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=False)


def _warp(plane: Float[Tensor, "portraits channels h w"], flow: Float[Tensor, "batch 2 h w"]) -> Tensor:
    """Sample `plane` at each pixel's position plus `flow`, which is in units of half the picture's side."""
    num_rows, _, height, width = flow.shape
    y = (torch.arange(height, device=flow.device, dtype=flow.dtype) + 0.5) / height * 2 - 1
    x = (torch.arange(width, device=flow.device, dtype=flow.dtype) + 0.5) / width * 2 - 1
    identity = torch.stack([x.view(1, -1).expand(height, width), y.view(-1, 1).expand(height, width)], -1)
    grid = identity + flow.permute(0, 2, 3, 1)
    source = plane.to(flow.dtype).expand(num_rows, -1, -1, -1)
    return F.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=False)
