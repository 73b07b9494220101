"""Contrastive losses: pull and push of V-AID (Figure 2), and the synchronisation of stage 0."""

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
    """Compute symmetric InfoNCE between two views of each frame; the negatives are the other frames of the same clip.

    Speaker, emotion and light are constant within a clip, so only motion distinguishes its frames (ours).

    Args:
        one, other: the two views.
        temperature: divisor of the cosine similarities.
        neighbours: frames up to this distance are neither positives nor negatives, because they look almost the same.
    """
    scores = F.normalize(one, dim=-1) @ F.normalize(other, dim=-1).transpose(1, 2) / temperature
    index = torch.arange(scores.shape[-1], device=scores.device)
    distance = (index[:, None] - index[None]).abs()
    scores = scores.masked_fill((distance > 0) & (distance <= neighbours), -1e4)
    target = index.repeat(len(scores))
    forward = F.cross_entropy(scores.flatten(0, 1), target)
    return (forward + F.cross_entropy(scores.transpose(1, 2).flatten(0, 1), target)) / 2


def windows(latents: Float[Tensor, "batch frames dim"], num_frames: int) -> Float[Tensor, "batch windows wide"]:
    """Concatenate every `num_frames` consecutive latents to one vector; there are `frames - num_frames + 1`."""
    return latents.unfold(1, num_frames, 1).flatten(2)


def pull(
    lip_audio: Float[Tensor, "batch frames dim"], lip_visual: Float[Tensor, "batch frames dim"], window: int
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Compute the pull of V-AID's lips: InfoNCE between windows of `window` frames, and the mean squared error."""
    contrast = infonce_within_clips(windows(lip_audio, window), windows(lip_visual, window))
    return contrast, F.mse_loss(lip_audio, lip_visual)


def infonce(
    one: Float[Tensor, "num dim"], other: Float[Tensor, "num dim"], temperature: float = 0.2
) -> Float[Tensor, ""]:
    """Compute symmetric InfoNCE between two views of each row; the negatives are all other rows."""
    scores = F.normalize(one, dim=-1) @ F.normalize(other, dim=-1).T / temperature
    target = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2


def push(one: Float[Tensor, "batch frames a"], other: Float[Tensor, "batch frames b"]) -> Float[Tensor, ""]:
    """Compute the push of V-AID: the mean squared cross-correlation of two latents over batch and time, 0 if uncorrelated."""

    def standardized(latents: Tensor) -> Tensor:
        rows = latents.flatten(0, 1)
        return (rows - rows.mean(0)) / (rows.std(0) + 1e-3)

    a, b = standardized(one), standardized(other)
    return (a.T @ b / len(a)).square().mean()
