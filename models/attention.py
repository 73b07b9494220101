"""Attention as ETHD uses it: over the tokens of one frame, over time, and across to a few condition tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

FEW_TOKENS = 32
"""Up to so many keys, two plain matrix products beat the fused kernel on a CPU."""


class Attention(nn.Module):
    """Multi-head attention; its weights have the layout of Stable Video Diffusion's (no bias but on the output).

    Args:
        dim: of the queries and of the result.
        context_dim: of keys and values; `dim` for self-attention.
        num_heads: divides `dim`.
        starts_as_zero: the output layer starts at zero, so that a layer added to trained ones changes nothing.
    """

    def __init__(
        self, dim: int, num_heads: int, context_dim: int | None = None, starts_as_zero: bool = False
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(context_dim or dim, dim, bias=False)
        self.to_v = nn.Linear(context_dim or dim, dim, bias=False)
        self.to_out = nn.Linear(dim, dim)
        if starts_as_zero:
            nn.init.zeros_(self.to_out.weight)
            nn.init.zeros_(self.to_out.bias)

    def forward(
        self, hidden: Float[Tensor, "rows tokens dim"], context: Float[Tensor, "rows keys context_dim"] | None = None
    ) -> Float[Tensor, "rows tokens dim"]:
        """Attends from `hidden` to `context` (itself by default)."""
        context = hidden if context is None else context
        query, key, value = self.to_q(hidden), self.to_k(context), self.to_v(context)
        rows, tokens, dim = query.shape
        query, key, value = (t.view(rows, -1, self.num_heads, dim // self.num_heads).transpose(1, 2) for t in (query, key, value))
        if key.shape[2] <= FEW_TOKENS:
            # Keys lead, so that the softmax runs over whole rows of queries instead of over a handful of numbers.
            scores = (key * (dim // self.num_heads) ** -0.5) @ query.transpose(2, 3)
            attended = torch.softmax(scores, 2).transpose(2, 3) @ value
        else:
            attended = F.scaled_dot_product_attention(query, key, value)
        return self.to_out(attended.transpose(1, 2).reshape(rows, tokens, dim))


class CrossAttention(nn.Module):
    """`CA(H, c)` of Figure 2 with its normalisation: what attending to a condition would add to the hidden state."""

    def __init__(self, dim: int, num_heads: int, context_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads, context_dim, starts_as_zero=True)

    def forward(
        self, hidden: Float[Tensor, "rows tokens dim"], context: Float[Tensor, "rows keys context_dim"]
    ) -> Float[Tensor, "rows tokens dim"]:
        return self.attention(self.norm(hidden), context)
