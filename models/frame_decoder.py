"""The autoencoder at inference: encode the portrait, decode latents to frames."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLTemporalDecoder
from jaxtyping import Float, UInt8
from torch import Tensor

from emotivetalk.models.autoencoder import LatentCodec, PortraitAutoencoder, PortraitFeatures

DECODED_AT_ONCE = 8


class FrameDecoder:
    """Encodes portraits and decodes latents."""

    def __init__(self, vae: PortraitAutoencoder | AutoencoderKLTemporalDecoder) -> None:
        self.vae, self._codec = vae, LatentCodec(vae)

    @torch.no_grad()
    def reference_latent(self, portrait: Float[Tensor, "3 height width"]) -> Float[Tensor, "channels h w"]:
        """Encode the portrait to a float32 latent."""
        return self._codec.encode(self._image(portrait))[0].float()

    @torch.no_grad()
    def portrait_features(self, portrait: Float[Tensor, "3 height width"]) -> PortraitFeatures | None:
        """Compute the portrait's features for `decode`; None if the decoder uses none."""
        return self._codec.portrait(self._image(portrait))

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "frames channels h w"], features: PortraitFeatures | None
    ) -> UInt8[Tensor, "frames height width 3"]:
        """Decode consecutive frames to RGB, on the CPU. Give at most `DECODED_AT_ONCE`: the decoder needs much memory."""
        latents = latents.to(self.vae.device, self.vae.dtype).contiguous(memory_format=torch.channels_last)
        images = self._codec.decode(latents, features).float()
        return images.add_(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu()

    def _image(self, portrait: Float[Tensor, "3 height width"]) -> Float[Tensor, "1 3 height width"]:
        image = portrait.to(self.vae.device, self.vae.dtype)[None]
        return image.contiguous(memory_format=torch.channels_last)
