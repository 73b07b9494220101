"""ETHD and the autoencoder at work: V-AID's latents to video latents, and those to pictures.

`Renderer` predicts chunks for long video's plan, whoever walks it; `Screen` is the autoencoder's side, before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler
from jaxtyping import Float, UInt8
from torch import Tensor

from models.autoencoder import LatentCodec, PortraitAutoencoder, PortraitFeatures
from models.diffusion import Guidance, denoise, sigma_schedule
from models.ethd import ETHD, Conditions
from models.long_video import Noise, frame_noise
from models.long_video_plan import LongVideoConfig, LongVideoPlan
from models.performer import PerformanceBlock

DECODED_AT_ONCE = 8

Performed = Callable[[range], PerformanceBlock]
"""Any frames of the clip, from V-AID."""


@dataclass(frozen=True)
class Scene:
    """What ETHD is shown of the portrait, once per clip."""

    reference_latent: Float[Tensor, "channels h w"]
    expression_reference: Float[Tensor, " dim_expression"]
    face_mask: Float[Tensor, "1 h w"]


def widened(frames: range, window: int, num_frames: int) -> range:
    """Frames with what a window of this length around each of them reaches, inside the clip."""
    return range(max(0, frames.start - window // 2), min(num_frames, frames.stop + window // 2))


class Renderer:
    """ETHD with its noise schedule; see `EmotiveTalkPipeline` for the parameters."""

    def __init__(
        self,
        ethd: ETHD,
        scheduler: EulerDiscreteScheduler,
        long_video: LongVideoConfig,
        num_steps: int,
        noise_scale: float = 1.0,
    ) -> None:
        self.ethd, self.scheduler = ethd, scheduler
        self.long_video, self.num_steps, self.noise_scale = long_video, num_steps, noise_scale

    def plan(self, num_frames: int, num_steps: int | None = None) -> LongVideoPlan:
        """The clip's plan in so many steps, or in as many as the checkpoint wants."""
        return LongVideoPlan(self.long_video, num_frames, num_steps or self.num_steps)

    def sigmas(self, num_steps: int | None = None) -> Float[Tensor, " levels"]:
        """The noise levels of the steps, and the final 0."""
        return sigma_schedule(self.scheduler, num_steps or self.num_steps).to(self.ethd.device)

    def noise(self, scene: Scene, seed: int) -> Noise:
        """Of any frames of the clip."""
        shape = scene.reference_latent.shape

        def noise(frames: range) -> Tensor:
            normal = frame_noise(seed, frames.start, len(frames), shape, "ethd")
            return self.noise_scale * normal.to(self.ethd.device)

        return noise

    def needs(self, frames: range, num_frames: int) -> range:
        """The frames of V-AID's that a chunk of these frames looks at: its own, and as far as a lip window reaches."""
        return widened(frames, self.ethd.config["lip_window"], num_frames)

    def predict(
        self,
        scene: Scene,
        performed: Performed,
        num_frames: int,
        guidance: Guidance,
        x: Float[Tensor, "chunks frames channels h w"],
        sigma: Float[Tensor, ""],
        ranges: Sequence[range],
    ) -> Float[Tensor, "chunks frames channels h w"]:
        """ETHD's estimate of the clean latents of several chunks of a clip of `num_frames`, guided."""
        conditions = [self.conditions(scene, performed, num_frames, frames) for frames in ranges]
        return self.denoise(x, sigma.expand(len(x)), stack(conditions), guidance)

    @torch.no_grad()
    def denoise(
        self,
        x: Float[Tensor, "chunks frames channels h w"],
        sigma: Float[Tensor, " chunks"],
        conditions: Conditions,
        guidance: Guidance,
    ) -> Float[Tensor, "chunks frames channels h w"]:
        """The same for chunks of any clips, each at its own noise level."""
        dtype = self.ethd.dtype

        def evaluate(given: Conditions) -> Tensor:
            def network(scaled: Tensor, timestep: Tensor) -> Tensor:
                return self.ethd(scaled.to(dtype), timestep, given).float()

            return denoise(network, x, sigma)

        lip_only = conditions.without_expression()
        return guidance.guide(
            partial(evaluate, lip_only.without_lip()), partial(evaluate, lip_only), partial(evaluate, conditions)
        )

    def conditions(self, scene: Scene, performed: Performed, num_frames: int, frames: range) -> Conditions:
        """Of one chunk, as a batch of one."""
        device, dtype = self.ethd.device, self.ethd.dtype
        near = self.needs(frames, num_frames)
        block = performed(near)
        lip = _windows(block.lip, near, frames, self.ethd.config["lip_window"])
        expression = block.expression[frames.start - near.start : frames.stop - near.start]
        return Conditions(
            reference_latent=scene.reference_latent[None].to(device, dtype),
            lip=lip[None].to(device, dtype),
            expression_driving=expression[None].to(device, dtype),
            expression_reference=scene.expression_reference[None].to(device, dtype),
            face_mask=scene.face_mask[None].to(device, dtype),
        )


def stack(conditions: Sequence[Conditions]) -> Conditions:
    """Conditions of chunks of equal length, as one batch."""
    return Conditions(*(torch.cat(column) for column in zip(*(vars(one).values() for one in conditions), strict=True)))


def _windows(
    lip: Float[Tensor, "near dim_lip"], near: range, frames: range, window: int
) -> Float[Tensor, "frames window dim_lip"]:
    """As `models.ethd.lip_windows`, of some frames: the clip's ends, which `near` stops at, are repeated."""
    offsets = torch.arange(window) - window // 2
    index = torch.arange(frames.start, frames.stop)[:, None] + offsets - near.start
    return lip[index.clamp(0, len(near) - 1)]


class Screen:
    """The autoencoder: a portrait's latent before rendering, pictures after it."""

    def __init__(self, vae: PortraitAutoencoder | AutoencoderKLTemporalDecoder) -> None:
        self.vae, self._codec = vae, LatentCodec(vae)

    @torch.no_grad()
    def reference_latent(self, portrait: Float[Tensor, "3 height width"]) -> Float[Tensor, "channels h w"]:
        """The portrait's latent, float32."""
        return self._codec.encode(self._picture(portrait))[0].float()

    @torch.no_grad()
    def seen(self, portrait: Float[Tensor, "3 height width"]) -> PortraitFeatures | None:
        """What `pictures` wants to know of the portrait."""
        return self._codec.portrait(self._picture(portrait))

    @torch.no_grad()
    def pictures(
        self, latents: Float[Tensor, "frames channels h w"], seen: PortraitFeatures | None
    ) -> UInt8[Tensor, "frames height width 3"]:
        """Consecutive frames as pictures, on the CPU; at most `DECODED_AT_ONCE`, since the decoder's memory is large."""
        latents = latents.to(self.vae.device, self.vae.dtype).contiguous(memory_format=torch.channels_last)
        images = self._codec.decode(latents, seen).float()
        return images.add_(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu()

    def _picture(self, portrait: Float[Tensor, "3 height width"]) -> Float[Tensor, "1 3 height width"]:
        picture = portrait.to(self.vae.device, self.vae.dtype)[None]
        return picture.contiguous(memory_format=torch.channels_last)
