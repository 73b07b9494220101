"""Di-CTE, Diffusion-based Co-speech Temporal Expansion: one emotion per utterance to a sequence of expressions.

Figure 2b: a noisy sequence is combined with the diffusion timestep and the position. The audio features and the identity
encoder's output for the portrait are added. Conditional transformer blocks follow, and an MLP returns the denoised
sequence. A switch selects the condition: the portrait's own expression (unconditional) or the mapped utterance source
(conditional). The result is `expression_audio`. `models/diffusion.py` owns the noise levels.
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
    """Conditions of a sequence of expressions."""

    audio_features: Float[Tensor, "batch frames dim_audio"]
    identity: Float[Tensor, "batch dim_hidden"]
    """`DiCTE.identity_encoder` of the portrait, computed once per clip."""
    expression_reference: Float[Tensor, "batch dim_expression"]
    """Expression of the portrait by the frozen expression encoder: the unconditional side of the switch."""
    utterance: Float[Tensor, "batch frames dim_expression"]
    """Mapped utterance source, constant or blended over time: the conditional side of the switch."""
    has_utterance: Bool[Tensor, " batch"]
    """The switch: True for conditional samples."""

    def unconditional(self) -> DiCTEConditions:
        """Return the same conditions with the switch at the portrait's own expression."""
        return replace(self, has_utterance=torch.zeros_like(self.has_utterance))


class IdentityEncoder(nn.Module):
    """Trainable encoder of the portrait to one vector that personalises the motion (ours: a few convolutions)."""

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
    """Transformer block whose norms are modulated per frame by the condition (adaptive layer norm, initialised to zero).

    Ours: a depthwise convolution over time comes first, and attention decays with distance at learned rates. Without them
    the sequences have the right emotion but no motion. Both depend only on time differences, so the block treats sequences
    of any length, cut anywhere, alike.
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
    """Denoiser of expression sequences (Figure 2b).

    Args:
        dim_expression: width of the expression latents.
        dim_audio: width of the audio features.
        dim: width of the network.
        num_blocks, num_heads: number of conditional transformer blocks, and of attention heads in each.
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
        """Predict v for a noisy sequence that `emotivetalk.models.diffusion` has scaled to unit variance."""
        switch = conditions.has_utterance
        reference = conditions.expression_reference[:, None].expand_as(noisy)
        expression = torch.where(switch[:, None, None], conditions.utterance, reference)
        condition = self.condition_in(expression) + self.switch(switch.long())[:, None]
        condition = condition + self.time_embedding(self.time_frequencies(timestep).to(noisy.dtype))[:, None]

        hidden = self.sequence_in(noisy) + self.audio_in(conditions.audio_features)
        hidden = hidden + conditions.identity[:, None]
        for block in self.blocks:
            hidden = block(hidden, condition)
        return self.mlp(self.norm(hidden))
