"""Attention layers of ETHD: over the tokens of a frame, over time, and across to a few condition tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

FEW_TOKENS = 32
"""Up to this many keys, two plain matrix products are faster than the fused kernel on a CPU."""


class Attention(nn.Module):
    """Multi-head attention with the weight layout of Stable Video Diffusion: only the output layer has a bias.

    Args:
        dim: width of the queries and of the result.
        num_heads: number of heads; it divides `dim`.
        context_dim: width of the context that keys and values are computed from (default: `dim`, for self-attention).
        starts_as_zero: initialise the output layer with zeros, so that adding this layer to trained ones changes nothing.
    """

    def __init__(self, dim: int, num_heads: int, context_dim: int | None = None, starts_as_zero: bool = False) -> None:
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
        """Attend from `hidden` to `context` (default: to itself)."""
        return self.to_out(self.attend(self.to_q(hidden), hidden if context is None else context))

    def attend(
        self, query: Float[Tensor, "rows tokens dim"], context: Float[Tensor, "rows keys context_dim"]
    ) -> Float[Tensor, "rows tokens dim"]:
        """Attend from projected queries to `context`, without the output layer."""
        rows, tokens, dim = query.shape
        head_dim = dim // self.num_heads

        def heads(projected: Tensor) -> Tensor:
            return projected.view(rows, -1, self.num_heads, head_dim).transpose(1, 2)

        queries, keys, values = heads(query), heads(self.to_k(context)), heads(self.to_v(context))
        if keys.shape[2] <= FEW_TOKENS:
            # With keys as rows, the softmax vectorises over the many queries instead of over a handful of keys.
            scores = (keys * head_dim**-0.5) @ queries.transpose(2, 3)
            attended = torch.softmax(scores, 2).transpose(2, 3) @ values
        else:
            attended = F.scaled_dot_product_attention(queries, keys, values)
        return attended.transpose(1, 2).reshape(rows, tokens, dim)


class CrossAttention(nn.Module):
    """`CA(H, c)` of Figure 2 with its normalisation: the residual that attention to a condition contributes."""

    def __init__(self, dim: int, num_heads: int, context_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads, context_dim, starts_as_zero=True)

    def forward(
        self, hidden: Float[Tensor, "rows tokens dim"], context: Float[Tensor, "rows keys context_dim"]
    ) -> Float[Tensor, "rows tokens dim"]:
        return self.attention(self.norm(hidden), context)

    def difference(
        self,
        hidden: Float[Tensor, "rows tokens dim"],
        one: Float[Tensor, "rows keys context_dim"],
        other: Float[Tensor, "rows keys context_dim"],
    ) -> Float[Tensor, "rows tokens dim"]:
        """Compute CA(H, one) - CA(H, other), sharing the norm, the queries and the output layer, whose bias cancels."""
        query = self.attention.to_q(self.norm(hidden))
        attended = self.attention.attend(query, one) - self.attention.attend(query, other)
        return F.linear(attended, self.attention.to_out.weight)
