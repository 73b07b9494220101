"""Di-CTE, Diffusion-based Co-speech Temporal Expansion: one emotion for the utterance becomes a sequence of expressions.

Figure 2b: a noisy sequence is combined with the diffusion timestep and position, the audio features are added, then the
identity encoder's output on the portrait; conditional transformer blocks follow, and an MLP puts out the denoised
sequence. The condition is a switch between the portrait's own expression (unconditional) and the mapped utterance
source (conditional). The result is `expression_audio`. Noise levels are the business of `models/diffusion.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import Timesteps
from jaxtyping import Bool, Float
from torch import Tensor, nn

from emotivetalk.models.encoders import to_motion_size


@dataclass(frozen=True)
class DiCTEConditions:
    """What a sequence of expressions is made from."""

    audio_features: Float[Tensor, "batch frames dim_audio"]
    identity: Float[Tensor, "batch dim_hidden"]
    """`DiCTE.identity_encoder` of the portrait; once per clip."""
    expression_reference: Float[Tensor, "batch dim_expression"]
    """The frozen expression encoder on the portrait: the unconditional side of the switch."""
    utterance: Float[Tensor, "batch frames dim_expression"]
    """The mapped utterance source, the same for every frame or blended along them: the conditional side."""
    has_utterance: Bool[Tensor, " batch"]
    """The switch: which samples are conditional."""

    def unconditional(self) -> DiCTEConditions:
        """The same with the switch at the portrait's own expression."""
        return replace(self, has_utterance=torch.zeros_like(self.has_utterance))


class IdentityEncoder(nn.Module):
    """The portrait to one vector (trainable): who moves how, as far as a face tells (ours: a few convolutions)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.AvgPool2d(4),
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 48, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(48, 16, 1),
            nn.Flatten(),
            nn.Linear(16 * 8 * 8, dim),
        )

    def forward(self, reference_image: Float[Tensor, "batch 3 H W"]) -> Float[Tensor, "batch dim"]:
        return self.net(to_motion_size(reference_image))


class ConditionalBlock(nn.Module):
    """A transformer block whose norms are modulated, frame by frame, by the condition (adaptive layer norm, from zero).

    Ours: a depthwise convolution over time comes first, and attention falls off with distance at learned rates; without
    them the sequences have the right emotion and no motion. Both see only differences of time, so a sequence of any
    length, cut anywhere, is treated alike.
    """

    def __init__(self, dim: int, num_heads: int, kernel_size: int = 7) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.conv_norm = nn.LayerNorm(dim)
        self.conv = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.conv_out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.to_out = nn.Linear(dim, dim)
        self.log_falloff = nn.Parameter(torch.linspace(0.0, -4.0, num_heads))
        self.mlp_norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.modulation = nn.Linear(dim, 6 * dim)
        for layer in (self.conv_out, self.modulation):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, hidden: Float[Tensor, "batch frames dim"], condition: Float[Tensor, "batch frames dim"]
    ) -> Float[Tensor, "batch frames dim"]:
        local = self.conv(self.conv_norm(hidden).transpose(1, 2)).transpose(1, 2)
        hidden = hidden + self.conv_out(F.gelu(local))
        scale, offset, gate, mlp_scale, mlp_offset, mlp_gate = self.modulation(F.silu(condition)).chunk(6, -1)
        hidden = hidden + gate * self._attend(self.norm(hidden) * (1 + scale) + offset)
        return hidden + mlp_gate * self.mlp(self.mlp_norm(hidden) * (1 + mlp_scale) + mlp_offset)

    def _attend(self, hidden: Float[Tensor, "batch frames dim"]) -> Float[Tensor, "batch frames dim"]:
        batch, frames, dim = hidden.shape
        qkv = self.to_qkv(hidden).view(batch, frames, 3, self.num_heads, dim // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        index = torch.arange(frames, device=hidden.device, dtype=hidden.dtype)
        distance = (index[:, None] - index[None]).abs()
        bias = -distance * self.log_falloff.exp().to(hidden.dtype)[:, None, None]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
        return self.to_out(attended.transpose(1, 2).reshape(batch, frames, dim))


class DiCTE(nn.Module):
    """The denoiser of expression sequences (Figure 2b).

    Args:
        dim_expression, dim_audio: of the latents and of the audio features.
        dim: width.
        num_blocks, num_heads: of the conditional transformer.
    """

    def __init__(
        self, dim_expression: int, dim_audio: int, dim: int = 128, num_blocks: int = 4, num_heads: int = 4
    ) -> None:
        super().__init__()
        self.sequence_in = nn.Linear(dim_expression, dim)
        self.time_frequencies = Timesteps(64, flip_sin_to_cos=True, downscale_freq_shift=0, scale=100)
        self.time_embedding = nn.Sequential(nn.Linear(64, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.audio_in = nn.Linear(dim_audio, dim)
        self.identity_encoder = IdentityEncoder(dim)
        self.switch = nn.Embedding(2, dim)
        self.condition_in = nn.Sequential(nn.Linear(dim_expression, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.blocks = nn.ModuleList(ConditionalBlock(dim, num_heads) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim_expression))

    def forward(
        self,
        noisy: Float[Tensor, "batch frames dim_expression"],
        timestep: Float[Tensor, " batch"],
        conditions: DiCTEConditions,
    ) -> Float[Tensor, "batch frames dim_expression"]:
        """One evaluation: the raw prediction for a scaled noisy sequence, as `emotivetalk.models.diffusion` preconditions it."""
        switch = conditions.has_utterance
        own = conditions.expression_reference[:, None].expand_as(noisy)
        chosen = torch.where(switch[:, None, None], conditions.utterance, own)
        condition = self.condition_in(chosen) + self.switch(switch.long())[:, None]
        condition = condition + self.time_embedding(self.time_frequencies(timestep).to(noisy.dtype))[:, None]

        hidden = self.sequence_in(noisy) + self.audio_in(conditions.audio_features)
        hidden = hidden + conditions.identity[:, None]
        for block in self.blocks:
            hidden = block(hidden, condition)
        return self.mlp(self.norm(hidden))
