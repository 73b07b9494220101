"""Attention block of ETHD: Stable Video Diffusion's spatio-temporal transformer with the paper's four steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import AlphaBlender
from jaxtyping import Float
from torch import Tensor, nn

from emotivetalk.models.attention import Attention, CrossAttention
from emotivetalk.models.edi import EDI


@dataclass(frozen=True)
class Contexts:
    """Conditions as tokens, one set per frame; "rows" are batch x frames."""

    lip: Float[Tensor, "rows lip_keys context_dim"]
    expression_driving: Float[Tensor, "rows keys context_dim"]
    expression_reference: Float[Tensor, "rows keys context_dim"]
    face_masks: dict[int, Float[Tensor, "rows tokens 1"]]
    """The face mask at each resolution, by the number of tokens per frame."""
    image_indicator: Float[Tensor, "batch frames"]
    """1 for single pictures, which must not be mixed over time; 0 for video."""
    is_image: bool
    """True if the whole batch is single pictures, so that the layers over time are skipped."""


class TemporalTransformer(nn.Module):
    """Self-attention over the frames, separately for each position of the picture (Stable Video Diffusion's)."""

    def __init__(self, dim: int, num_heads: int, feed_forward_mult: int) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(dim)
        self.feed_forward_in = FeedForward(dim, mult=feed_forward_mult, activation_fn="geglu")
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, mult=feed_forward_mult, activation_fn="geglu")

    def forward(self, hidden: Float[Tensor, "rows tokens dim"], num_frames: int) -> Float[Tensor, "rows tokens dim"]:
        rows, tokens, dim = hidden.shape
        batch = rows // num_frames
        hidden = hidden.view(batch, num_frames, tokens, dim).transpose(1, 2).reshape(-1, num_frames, dim)
        hidden = hidden + self.feed_forward_in(self.norm_in(hidden))
        hidden = hidden + self.attention(self.attention_norm(hidden))
        hidden = hidden + self.feed_forward(self.feed_forward_norm(hidden))
        return hidden.view(batch, tokens, num_frames, dim).transpose(1, 2).reshape(rows, tokens, dim)


class ETHDBlock(nn.Module):
    """Attention block i of ETHD (Figure 2).

    1. H = H + CA(H, lip), each frame with its own lip latents
    2. EDI: H = H + M * (CA(H, expression_driving) - CA(H, expression_reference))
    3. H = temporal self-attention of H
    4. H = H + M * CA(H, expression_driving)

    Spatial self-attention and the feed-forward layers have their places of Stable Video Diffusion.
    """

    def __init__(
        self, dim: int, num_heads: int, context_dim: int, feed_forward_mult: int = 4, edi_shares_weights: bool = True
    ) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, dim, eps=1e-6)
        self.proj_in = nn.Linear(dim, dim)
        self.spatial_norm = nn.LayerNorm(dim)
        self.spatial_attention = Attention(dim, num_heads)
        self.lip = CrossAttention(dim, num_heads, context_dim)
        self.edi = EDI(dim, num_heads, context_dim, edi_shares_weights)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, mult=feed_forward_mult, activation_fn="geglu")
        self.frame_embedding = Timesteps(dim, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.frame_position = TimestepEmbedding(dim, 4 * dim, out_dim=dim)
        self.temporal = TemporalTransformer(dim, num_heads, feed_forward_mult)
        self.temporal_mix = AlphaBlender(alpha=0.5, merge_strategy="learned_with_images")
        self.expression = CrossAttention(dim, num_heads, context_dim)
        self.proj_out = nn.Linear(dim, dim)

    def forward(
        self, features: Float[Tensor, "rows dim height width"], contexts: Contexts
    ) -> Float[Tensor, "rows dim height width"]:
        rows, dim, height, width = features.shape
        mask = contexts.face_masks[height * width]
        hidden = self.proj_in(self.norm(features).permute(0, 2, 3, 1).reshape(rows, height * width, dim))
        hidden = hidden + self.spatial_attention(self.spatial_norm(hidden))

        # 1. lips
        hidden = hidden + self.lip(hidden, contexts.lip)
        # 2. EDI
        hidden = self.edi(hidden, contexts.expression_driving, contexts.expression_reference, mask)
        hidden = hidden + self.feed_forward(self.feed_forward_norm(hidden))
        # 3. time
        if not contexts.is_image:
            hidden = self._attend_over_time(hidden, contexts.image_indicator)
        # 4. expression
        hidden = hidden + mask * self.expression(hidden, contexts.expression_driving)

        return features + self.proj_out(hidden).view(rows, height, width, dim).permute(0, 3, 1, 2)

    def _attend_over_time(self, hidden: Float[Tensor, "rows tokens dim"], image_indicator: Tensor) -> Tensor:
        batch, num_frames = image_indicator.shape
        index = torch.arange(num_frames, device=hidden.device).repeat(batch)
        position = self.frame_position(self.frame_embedding(index).to(hidden.dtype))[:, None]
        mixed = self.temporal(hidden + position, num_frames)
        return self.temporal_mix(x_spatial=hidden, x_temporal=mixed, image_only_indicator=image_indicator)
