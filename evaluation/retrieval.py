"""Retrieval of a window of latents among other windows of the same clip (ours)."""

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
    """Return the share of windows of `queries` whose nearest window of `keys` (cosine) is the one at the same time.

    Args:
        num_candidates: number of windows, drawn without replacement; all windows if there are fewer. Chance level is
            1 / num_candidates.
        window: length of a window in frames.
        generator: random generator that draws the windows.

    Raises:
        ValueError: the clip is shorter than a window.
    """
    if len(queries) < window:
        raise ValueError(f"a clip of {len(queries)} frames is shorter than a window of {window}. Give a longer clip.")

    def windows(latents: Tensor) -> Tensor:
        return F.normalize(latents.unfold(0, window, 1).flatten(1), dim=-1)

    index = torch.randperm(len(queries) - window + 1, generator=generator)[:num_candidates]
    nearest = (windows(queries)[index] @ windows(keys)[index].T).argmax(1)
    return float((nearest == torch.arange(len(index))).float().mean())
