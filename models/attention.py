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
        """Attends from `hidden` to `context` (itself by default)."""
        return self.to_out(self.read(self.to_q(hidden), hidden if context is None else context))

    def read(
        self, query: Float[Tensor, "rows tokens dim"], context: Float[Tensor, "rows keys context_dim"]
    ) -> Float[Tensor, "rows tokens dim"]:
        """What the queries find in `context`, before the output layer."""
        rows, tokens, dim = query.shape
        head_dim = dim // self.num_heads

        def heads(projected: Tensor) -> Tensor:
            return projected.view(rows, -1, self.num_heads, head_dim).transpose(1, 2)

        queries, keys, values = heads(query), heads(self.to_k(context)), heads(self.to_v(context))
        if keys.shape[2] <= FEW_TOKENS:
            # Keys lead, so that the softmax runs over whole rows of queries instead of over a handful of numbers.
            scores = (keys * head_dim**-0.5) @ queries.transpose(2, 3)
            found = torch.softmax(scores, 2).transpose(2, 3) @ values
        else:
            found = F.scaled_dot_product_attention(queries, keys, values)
        return found.transpose(1, 2).reshape(rows, tokens, dim)


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

    def difference(
        self,
        hidden: Float[Tensor, "rows tokens dim"],
        one: Float[Tensor, "rows keys context_dim"],
        other: Float[Tensor, "rows keys context_dim"],
    ) -> Float[Tensor, "rows tokens dim"]:
        """CA(H, one) - CA(H, other), with the norm, the queries and the output layer computed once (its bias cancels)."""
        query = self.attention.to_q(self.norm(hidden))
        found = self.attention.read(query, one) - self.attention.read(query, other)
        return F.linear(found, self.attention.to_out.weight)
