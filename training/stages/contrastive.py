"""Contrastive losses: the pull of V-AID (Figure 2), and stage 0's synchronisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def infonce_within_clips(
    one: Float[Tensor, "batch frames dim"],
    other: Float[Tensor, "batch frames dim"],
    temperature: float = 0.1,
    neighbours: int = 1,
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE between two views of each frame; the negatives are the other frames of the same clip.

    Within a clip speaker, emotion and light are the same, so only what moves tells frames apart (ours).

    Args:
        neighbours: frames this near to each other are neither positives nor negatives: they look almost the same.
    """
    scores = F.normalize(one, dim=-1) @ F.normalize(other, dim=-1).transpose(1, 2) / temperature
    num = scores.shape[-1]
    index = torch.arange(num, device=scores.device)
    distance = (index[:, None] - index[None]).abs()
    scores = scores.masked_fill((distance > 0) & (distance <= neighbours), -1e4)
    target = index.repeat(len(scores))
    forward = F.cross_entropy(scores.flatten(0, 1), target)
    return (forward + F.cross_entropy(scores.transpose(1, 2).flatten(0, 1), target)) / 2


def windows(latents: Float[Tensor, "batch frames dim"], num_frames: int) -> Float[Tensor, "batch windows wide"]:
    """Every stretch of `num_frames` latents as one vector, `frames - num_frames + 1` of them."""
    return latents.unfold(1, num_frames, 1).flatten(2)


def pull(
    heard: Float[Tensor, "batch frames dim"], seen: Float[Tensor, "batch frames dim"], window: int
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The pull of V-AID's lips: InfoNCE between windows of `window` frames, and the mean square."""
    return infonce_within_clips(windows(heard, window), windows(seen, window)), F.mse_loss(heard, seen)


def infonce(
    one: Float[Tensor, "num dim"], other: Float[Tensor, "num dim"], temperature: float = 0.2
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE between two views of each row; the negatives are all other rows."""
    scores = F.normalize(one, dim=-1) @ F.normalize(other, dim=-1).T / temperature
    target = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2


def push(one: Float[Tensor, "batch frames a"], other: Float[Tensor, "batch frames b"]) -> Float[Tensor, ""]:
    """The push of V-AID: mean squared cross-correlation of two latents over batch and time, 0 when uncorrelated."""

    def standardized(latents: Tensor) -> Tensor:
        rows = latents.flatten(0, 1)
        return (rows - rows.mean(0)) / (rows.std(0) + 1e-3)

    a, b = standardized(one), standardized(other)
    return (a.T @ b / len(a)).square().mean()
