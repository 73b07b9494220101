"""EDI, the Expression Decoupling Injector (Figure 2): step 2 of every attention block of ETHD."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from emotivetalk.models.attention import CrossAttention


class EDI(nn.Module):
    """H <- H + M * (CA(H, expression_driving) - CA(H, expression_reference)).

    Inside the face mask M, the driving expression replaces the contribution of the portrait's own expression. The two
    cross-attentions share their weights (ours), so driving a portrait with its own expression changes nothing.
    `shares_weights=False` gives each its own weights, for the ablation.
    """

    def __init__(self, dim: int, num_heads: int, context_dim: int, shares_weights: bool = True) -> None:
        super().__init__()
        self.driving = CrossAttention(dim, num_heads, context_dim)
        self.reference = None if shares_weights else CrossAttention(dim, num_heads, context_dim)

    def forward(
        self,
        hidden: Float[Tensor, "rows tokens dim"],
        expression_driving: Float[Tensor, "rows keys context_dim"],
        expression_reference: Float[Tensor, "rows keys context_dim"],
        face_mask: Float[Tensor, "rows tokens 1"],
    ) -> Float[Tensor, "rows tokens dim"]:
        if self.reference is None:
            injected = self.driving.difference(hidden, expression_driving, expression_reference)
        else:
            injected = self.driving(hidden, expression_driving) - self.reference(hidden, expression_reference)
        return hidden + face_mask * injected
