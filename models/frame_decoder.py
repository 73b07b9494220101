"""Decode latents to frames, and encode the portrait: the autoencoder at inference."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLTemporalDecoder
from jaxtyping import Float, UInt8
from torch import Tensor

from emotivetalk.models.autoencoder import LatentCodec, PortraitAutoencoder, PortraitFeatures

DECODED_AT_ONCE = 8


class FrameDecoder:
    """The autoencoder: a portrait's latent before rendering, pictures after it."""

    def __init__(self, vae: PortraitAutoencoder | AutoencoderKLTemporalDecoder) -> None:
        self.vae, self._codec = vae, LatentCodec(vae)

    @torch.no_grad()
    def reference_latent(self, portrait: Float[Tensor, "3 height width"]) -> Float[Tensor, "channels h w"]:
        """The portrait's latent, float32."""
        return self._codec.encode(self._picture(portrait))[0].float()

    @torch.no_grad()
    def portrait_features(self, portrait: Float[Tensor, "3 height width"]) -> PortraitFeatures | None:
        """What `pictures` wants to know of the portrait."""
        return self._codec.portrait(self._picture(portrait))

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "frames channels h w"], seen: PortraitFeatures | None
    ) -> UInt8[Tensor, "frames height width 3"]:
        """Consecutive frames as pictures, on the CPU; at most `DECODED_AT_ONCE`, since the decoder's memory is large."""
        latents = latents.to(self.vae.device, self.vae.dtype).contiguous(memory_format=torch.channels_last)
        images = self._codec.decode(latents, seen).float()
        return images.add_(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu()

    def _picture(self, portrait: Float[Tensor, "3 height width"]) -> Float[Tensor, "1 3 height width"]:
        picture = portrait.to(self.vae.device, self.vae.dtype)[None]
        return picture.contiguous(memory_format=torch.channels_last)
