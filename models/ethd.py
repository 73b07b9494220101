"""ETHD, Emotional Talking Head Diffusion: the network that generates the video (Figure 2).

Noisy video latents, concatenated with the portrait's latent along the channels, pass through a U-Net of Stable Video
Diffusion's layout. Its attention blocks (`models/ethd_block.py`) attend to the lips, inject the expression and mix frames
over time. There is no separate reference network. `models/diffusion.py` owns the noise levels and scales the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.resnet import Downsample2D, SpatioTemporalResBlock, Upsample2D
from jaxtyping import Float
from torch import Tensor, nn

from emotivetalk.models.ethd_block import Contexts, ETHDBlock
from emotivetalk.models.group_norm import use_fast_group_norm


@dataclass(frozen=True)
class Conditions:
    """Conditions of ETHD for a chunk of frames."""

    reference_latent: Float[Tensor, "batch channels height width"]
    """VAE latent of the portrait."""
    lip: Float[Tensor, "batch frames window dim_lip"]
    """Lip latents of each frame and its neighbours (`lip_windows`); zeros are the null condition."""
    expression_driving: Float[Tensor, "batch frames dim_expression"]
    """Expression of each frame, from Di-CTE (`expression_audio`) or from a video (`expression_visual`)."""
    expression_reference: Float[Tensor, "batch dim_expression"]
    """Expression of the portrait."""
    face_mask: Float[Tensor, "batch 1 height width"]
    """Mask M of the face: 1 inside, 0 outside."""

    def without_lip(self) -> Conditions:
        """Replace the lips by their null condition, for guidance and for dropping in training."""
        return replace(self, lip=torch.zeros_like(self.lip))

    def without_expression(self) -> Conditions:
        """Replace the driving expression by the portrait's own, its null condition, with which EDI changes nothing."""
        reference = self.expression_reference[:, None].expand_as(self.expression_driving)
        return replace(self, expression_driving=reference)


def lip_windows(lip: Float[Tensor, "frames dim"], window: int) -> Float[Tensor, "frames window dim"]:
    """Collect the lip latents of each frame and its neighbours; the clip's first and last frames are repeated."""
    radius = window // 2
    padded = torch.cat([lip[:1].expand(radius, -1), lip, lip[-1:].expand(radius, -1)])
    return padded.unfold(0, window, 1).transpose(1, 2)


class ETHD(ModelMixin, ConfigMixin):
    """The spatio-temporal U-Net of the paper.

    Args:
        latent_channels: channels of the VAE's latents; the network reads twice as many and writes as many.
        block_out_channels: widths, finest level first; each is divisible by 32 and by its number of heads.
        attention_levels: the levels that have attention blocks (Stable Video Diffusion: all but the last).
        layers_per_block: residual blocks of each level in the down path; the up path has one more.
        num_attention_heads: attention heads of each level.
        feed_forward_mult: ratio of the feed-forward layers' width to that of their input.
        dim_lip, dim_expression: widths of the lip and expression latents.
        lip_window: number of neighbouring frames whose lips a frame attends to; odd.
        num_expression_tokens: tokens made from one expression latent; attention to a single token would be a mere bias.
        context_dim: width of the condition tokens.
        edi_shares_weights: see `EDI`.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,
        block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
        attention_levels: Sequence[bool] = (True, True, True, False),
        layers_per_block: int = 2,
        num_attention_heads: Sequence[int] = (5, 10, 20, 20),
        feed_forward_mult: int = 4,
        dim_lip: int = 32,
        dim_expression: int = 20,
        lip_window: int = 5,
        num_expression_tokens: int = 4,
        context_dim: int = 1024,
        edi_shares_weights: bool = True,
    ) -> None:
        super().__init__()
        if lip_window % 2 == 0:
            raise ValueError(f"lip_window is {lip_window}; it must be odd, so that a frame is at its window's centre")
        time_dim = 4 * block_out_channels[0]
        self.time_frequencies = Timesteps(block_out_channels[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(block_out_channels[0], time_dim)
        self.lip_tokens = _Tokens(dim_lip, 1, lip_window, context_dim)
        self.expression_tokens = _Tokens(dim_expression, num_expression_tokens, num_expression_tokens, context_dim)

        def level(index: int, inputs: list[int], eps: float, resampler: nn.Module | None) -> _Level:
            width, heads = block_out_channels[index], num_attention_heads[index]
            residuals = [SpatioTemporalResBlock(c, width, time_dim, eps=eps) for c in inputs]
            attends = attention_levels[index]
            blocks = [attention(width, heads) if attends else None for _ in inputs]
            return _Level(residuals, blocks, resampler)

        def attention(width: int, heads: int) -> ETHDBlock:
            return ETHDBlock(width, heads, context_dim, feed_forward_mult, edi_shares_weights)

        widths, last = block_out_channels, len(block_out_channels) - 1
        self.conv_in = nn.Conv2d(2 * latent_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        skips = [widths[0]]
        for i, width in enumerate(widths):
            inputs = [widths[max(i - 1, 0)]] + [width] * (layers_per_block - 1)
            shrink = Downsample2D(width, use_conv=True, out_channels=width, padding=1, name="op") if i < last else None
            # Stable Video Diffusion's constants: 1e-5 in the middle and in down levels without attention, else 1e-6.
            self.down.append(level(i, inputs, 1e-6 if attention_levels[i] else 1e-5, shrink))
            skips += [width] * (layers_per_block + (i < last))
        deepest = widths[-1]
        self.middle_in = SpatioTemporalResBlock(deepest, deepest, time_dim, eps=1e-5)
        self.middle_attention = attention(deepest, num_attention_heads[-1])
        self.middle_out = SpatioTemporalResBlock(deepest, deepest, time_dim, eps=1e-5)
        self.up = nn.ModuleList()
        below = deepest
        for i in reversed(range(len(widths))):
            inputs = []
            for _ in range(layers_per_block + 1):
                inputs.append(below + skips.pop())
                below = widths[i]
            grow = Upsample2D(widths[i], use_conv=True, out_channels=widths[i]) if i > 0 else None
            self.up.append(level(i, inputs, 1e-6, grow))
        self.norm_out = nn.GroupNorm(32, widths[0], eps=1e-5)
        self.conv_out = nn.Conv2d(widths[0], latent_channels, 3, padding=1)
        use_fast_group_norm(self)
        self.gradient_checkpointing = False

    def forward(
        self,
        noisy: Float[Tensor, "batch frames channels height width"],
        timestep: Float[Tensor, " batch"],
        conditions: Conditions,
        is_image: bool = False,
    ) -> Float[Tensor, "batch frames channels height width"]:
        """Predict v for noisy latents.

        Args:
            noisy: latents of consecutive frames (of unrelated pictures if `is_image`), scaled to unit variance.
            timestep: the noise level as `emotivetalk.models.diffusion.precondition` encodes it.
            conditions: see `Conditions`.
            is_image: skip the layers over time, so that frames do not mix.
        """
        batch, num_frames = noisy.shape[:2]
        contexts = self._contexts(conditions, noisy, is_image)
        embedded = self.time_embedding(self.time_frequencies(timestep).to(noisy.dtype))
        embedded = embedded.repeat_interleave(num_frames, 0)

        # Noisy video latents, with the portrait's latent on the channels of every frame.
        reference = conditions.reference_latent[:, None].expand_as(noisy)
        hidden = self.conv_in(torch.cat([noisy, reference], 2).flatten(0, 1))

        # U-Net: each layer is a residual block, followed by an attention block (lip, EDI, time, expression) where there is one.
        skips = [hidden]
        for level in self.down:
            for residual, attention in zip(level.residuals, level.attentions, strict=True):
                hidden = self._layer(residual, attention, hidden, embedded, contexts)
                skips.append(hidden)
            if level.resampler is not None:
                hidden = level.resampler(hidden)
                skips.append(hidden)

        hidden = self._layer(self.middle_in, self.middle_attention, hidden, embedded, contexts)
        hidden = self._layer(self.middle_out, None, hidden, embedded, contexts)

        for level in self.up:
            for residual, attention in zip(level.residuals, level.attentions, strict=True):
                hidden = torch.cat([hidden, skips.pop()], 1)
                hidden = self._layer(residual, attention, hidden, embedded, contexts)
            if level.resampler is not None:
                hidden = level.resampler(hidden, output_size=skips[-1].shape[2:])

        v = self.conv_out(F.silu(self.norm_out(hidden)))
        return v.unflatten(0, (batch, num_frames))

    def _layer(
        self, residual: nn.Module, attention: nn.Module | None, hidden: Tensor, embedded: Tensor, contexts: Contexts
    ) -> Tensor:
        """Apply a residual block and its attention block, recomputing activations in the backward pass if so configured."""

        def apply(hidden: Tensor) -> Tensor:
            if contexts.is_image:
                hidden = residual.spatial_res_block(hidden, embedded)
            else:
                hidden = residual(hidden, embedded, contexts.image_indicator)
            return attention(hidden, contexts) if isinstance(attention, ETHDBlock) else hidden

        if self.gradient_checkpointing and torch.is_grad_enabled():
            return torch.utils.checkpoint.checkpoint(apply, hidden, use_reentrant=False)
        return apply(hidden)

    def _contexts(self, conditions: Conditions, noisy: Tensor, is_image: bool) -> Contexts:
        """Convert the conditions to tokens per frame, and the face mask to every level's resolution."""
        batch, num_frames = noisy.shape[:2]
        lip = self.lip_tokens(conditions.lip.flatten(0, 1))
        driving = self.expression_tokens(conditions.expression_driving.flatten(0, 1)[:, None])
        reference = self.expression_tokens(conditions.expression_reference[:, None])
        masks, mask = {}, conditions.face_mask
        for _ in self.down:
            rows = mask.flatten(2).transpose(1, 2).repeat_interleave(num_frames, 0).to(noisy.dtype)
            masks[rows.shape[1]] = rows
            mask = F.max_pool2d(mask, 2, ceil_mode=True)
        return Contexts(
            lip=lip.flatten(1, 2),
            expression_driving=driving.flatten(1, 2),
            expression_reference=reference.flatten(1, 2).repeat_interleave(num_frames, 0),
            face_masks=masks,
            image_indicator=noisy.new_full((batch, num_frames), float(is_image)),
            is_image=is_image,
        )


class _Level(nn.Module):
    """One resolution of the U-Net: residual blocks, each with or without an attention block, then resampling."""

    def __init__(
        self, residuals: list[SpatioTemporalResBlock], attentions: list[ETHDBlock | None], resampler: nn.Module | None
    ) -> None:
        super().__init__()
        self.residuals = nn.ModuleList(residuals)
        self.attentions = nn.ModuleList(block if block is not None else nn.Identity() for block in attentions)
        self.resampler = resampler


class _Tokens(nn.Module):
    """Projection of latent vectors to condition tokens, with a learned embedding of each token's position in its frame."""

    def __init__(self, dim: int, tokens_per_vector: int, num_tokens: int, context_dim: int) -> None:
        super().__init__()
        self.tokens_per_vector = tokens_per_vector
        self.project = nn.Linear(dim, tokens_per_vector * context_dim)
        self.place = nn.Parameter(0.5 * torch.randn(num_tokens, context_dim))

    def forward(self, vectors: Float[Tensor, "rows vectors dim"]) -> Float[Tensor, "rows vectors tokens context_dim"]:
        projected = self.project(vectors).unflatten(-1, (self.tokens_per_vector, -1))
        return projected + self.place.view(
            projected.shape[1] if self.tokens_per_vector == 1 else 1, self.tokens_per_vector, -1
        )
