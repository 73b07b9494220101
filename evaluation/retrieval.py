"""Retrieval: does a stretch of latents find its own moment among others of the same clip (ours)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def retrieved_share(
    queries: Float[Tensor, "frames dim"],
    keys: Float[Tensor, "frames dim"],
    num_candidates: int,
    window: int,
    generator: torch.Generator,
) -> float:
    """How often a window of `queries` is nearest (cosine) to its own among windows of `keys` of the same clip.

    Args:
        num_candidates: windows drawn without replacement, all if there are fewer; chance is one over it.
        window: frames of each.
        generator: draws them.

    Raises:
        ValueError: the clip is shorter than a window.
    """
    if len(queries) < window:
        raise ValueError(f"a clip of {len(queries)} frames has no window of {window}. Give a longer one.")

    def windows(latents: Tensor) -> Tensor:
        return F.normalize(latents.unfold(0, window, 1).flatten(1), dim=-1)

    index = torch.randperm(len(queries) - window + 1, generator=generator)[:num_candidates]
    found = (windows(queries)[index] @ windows(keys)[index].T).argmax(1)
    return float((found == torch.arange(len(index))).float().mean())
