"""Sample video latents with ETHD: its noise schedule, conditions and predictions for the chunks of a long video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from diffusers import EulerDiscreteScheduler
from jaxtyping import Float
from torch import Tensor

from emotivetalk.models.diffusion import Guidance, denoise, sigma_schedule
from emotivetalk.models.ethd import ETHD, Conditions
from emotivetalk.models.long_video import Noise, frame_noise
from emotivetalk.models.long_video_plan import LongVideoConfig, LongVideoPlan
from emotivetalk.models.motion_generator import MotionBlock

MotionLookup = Callable[[range], MotionBlock]
"""Returns V-AID's latents of any frames of the clip."""


@dataclass(frozen=True)
class PortraitConditions:
    """ETHD's conditions that are constant over a clip."""

    reference_latent: Float[Tensor, "channels h w"]
    expression_reference: Float[Tensor, " dim_expression"]
    face_mask: Float[Tensor, "1 h w"]


def widened(frames: range, window: int, num_frames: int) -> range:
    """Extend a range of frames by half a window on both sides, within the clip."""
    return range(max(0, frames.start - window // 2), min(num_frames, frames.stop + window // 2))


class LatentSampler:
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

    @property
    def device(self) -> torch.device:
        return self.ethd.device

    def plan(self, num_frames: int, num_steps: int | None = None) -> LongVideoPlan:
        """Return the clip's plan; `num_steps` defaults to the checkpoint's."""
        return LongVideoPlan(self.long_video, num_frames, num_steps or self.num_steps)

    def sigmas(self, num_steps: int | None = None) -> Float[Tensor, " levels"]:
        """Return the noise level of each step and the final 0."""
        return sigma_schedule(self.scheduler, num_steps or self.num_steps).to(self.device)

    def noise(self, portrait_conditions: PortraitConditions, seed: int) -> Noise:
        """Return the noise function of a clip."""
        shape = portrait_conditions.reference_latent.shape

        def noise(frames: range) -> Tensor:
            normal = frame_noise(seed, frames.start, len(frames), shape, "ethd")
            return self.noise_scale * normal.to(self.device)

        return noise

    def needs(self, frames: range, num_frames: int) -> range:
        """Return the V-AID frames that a chunk of these frames reads: its own, and half a lip window on both sides."""
        return widened(frames, self.ethd.config["lip_window"], num_frames)

    def predict(
        self,
        portrait_conditions: PortraitConditions,
        motion_at: MotionLookup,
        num_frames: int,
        guidance: Guidance,
        x: Float[Tensor, "chunks frames channels h w"],
        sigma: Float[Tensor, ""],
        ranges: Sequence[range],
    ) -> Float[Tensor, "chunks frames channels h w"]:
        """Estimate the clean latents of several chunks of a clip of `num_frames`, with guidance."""
        conditions = [self.conditions(portrait_conditions, motion_at, num_frames, frames) for frames in ranges]
        return self.denoise(x, sigma.expand(len(x)), stack(conditions), guidance)

    @torch.no_grad()
    def denoise(
        self,
        x: Float[Tensor, "chunks frames channels h w"],
        sigma: Float[Tensor, " chunks"],
        conditions: Conditions,
        guidance: Guidance,
    ) -> Float[Tensor, "chunks frames channels h w"]:
        """Estimate the clean latents of chunks of any clips, each at its own noise level, with guidance."""
        dtype = self.ethd.dtype

        def evaluate(conditions: Conditions) -> Tensor:
            def network(scaled: Tensor, timestep: Tensor) -> Tensor:
                return self.ethd(scaled.to(dtype), timestep, conditions).float()

            return denoise(network, x, sigma)

        lip_only = conditions.without_expression()
        return guidance.guide(
            partial(evaluate, lip_only.without_lip()), partial(evaluate, lip_only), partial(evaluate, conditions)
        )

    def conditions(
        self, portrait_conditions: PortraitConditions, motion_at: MotionLookup, num_frames: int, frames: range
    ) -> Conditions:
        """Return the conditions of one chunk, as a batch of one."""
        device, dtype = self.device, self.ethd.dtype
        needed = self.needs(frames, num_frames)
        block = motion_at(needed)
        lip = _lip_windows(block.lip, needed, frames, self.ethd.config["lip_window"])
        expression = block.expression[frames.start - needed.start : frames.stop - needed.start]
        return Conditions(
            reference_latent=portrait_conditions.reference_latent[None].to(device, dtype),
            lip=lip[None].to(device, dtype),
            expression_driving=expression[None].to(device, dtype),
            expression_reference=portrait_conditions.expression_reference[None].to(device, dtype),
            face_mask=portrait_conditions.face_mask[None].to(device, dtype),
        )


def stack(conditions: Sequence[Conditions]) -> Conditions:
    """Stack the conditions of chunks of equal length into one batch."""
    return Conditions(*(torch.cat(column) for column in zip(*(vars(one).values() for one in conditions), strict=True)))


def _lip_windows(
    lip: Float[Tensor, "needed dim_lip"], needed: range, frames: range, window: int
) -> Float[Tensor, "frames window dim_lip"]:
    """Return the lip windows of some frames, as `ethd.lip_windows`. At the clip's ends, where `needed` ends, frames repeat."""
    offsets = torch.arange(window) - window // 2
    index = torch.arange(frames.start, frames.stop)[:, None] + offsets - needed.start
    return lip[index.clamp(0, len(needed) - 1)]
