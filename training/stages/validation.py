"""Validation metrics shared by the stages: linear read-outs, correlation, retrieval."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.corpus.parameters import LIP
from emotivetalk.evaluation.retrieval import retrieved_share

Readout = Callable[[Tensor], Tensor]

VALIDATION_BATCH = 16
"""Clips that validation processes at a time."""
_RETRIEVAL_CANDIDATES, _RETRIEVAL_WINDOW = 16, 9
_REPORTED_LIPS = ("jaw", "press", "tuck")


def ridge(inputs: Float[Tensor, "rows a"], targets: Float[Tensor, "rows b"], penalty: float = 1e-2) -> Readout:
    """Fit a ridge regression with a constant; returns the function that predicts the columns of `targets`."""
    mean, target_mean = inputs.mean(0), targets.mean(0)
    centred = (inputs - mean).double()
    normal = centred.T @ centred / len(centred) + penalty * torch.eye(inputs.shape[1], dtype=torch.double)
    weights = torch.linalg.solve(normal, centred.T @ (targets - target_mean).double() / len(centred)).float()
    return lambda rows: (rows - mean) @ weights + target_mean


def correlations(one: Float[Tensor, "rows columns"], other: Float[Tensor, "rows columns"]) -> list[float]:
    """Compute Pearson's r of each column."""
    a, b = one - one.mean(0), other - other.mean(0)
    return ((a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0) + 1e-9)).tolist()


def retrieval(
    queries: Float[Tensor, "clips frames dim"],
    keys: Float[Tensor, "clips frames dim"],
    num_candidates: int,
    window: int,
    seed: int = 0,
) -> float:
    """Measure how often a window of `queries` is nearest (cosine) to its own among windows of `keys` of the same clip.

    Args:
        num_candidates: windows drawn per clip without replacement; chance level is its inverse.
        window: frames per window.
        seed: seed of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    pairs = zip(queries, keys, strict=True)
    shares = [retrieved_share(query, key, num_candidates, window, generator) for query, key in pairs]
    return sum(shares) / len(shares)


def lip_metrics(
    lip_audio: Float[Tensor, "clips frames dim_lip"],
    lip_visual: Float[Tensor, "clips frames dim_lip"],
    truth: Float[Tensor, "clips frames 6"] | None,
) -> dict[str, float]:
    """Compare lip latents of speech with those of the pictures.

    retrieval_16_window_9: share of windows of nine frames that are retrieved among 16.
    jaw, press, tuck (if `truth` is known): r between the true parameters and those predicted from `lip_audio` of the second
    half of the clips, by a read-out fitted on `lip_visual` of the first half.
    """
    window = min(_RETRIEVAL_WINDOW, lip_visual.shape[1])
    metrics = {"retrieval_16_window_9": retrieval(lip_audio, lip_visual, _RETRIEVAL_CANDIDATES, window)}
    if truth is None:
        return metrics
    r = lip_correlations(lip_audio, lip_visual, truth)
    return {name: r[name] for name in _REPORTED_LIPS} | metrics


def lip_correlations(
    latents: Float[Tensor, "clips frames dim_lip"],
    lip_visual: Float[Tensor, "clips frames dim_lip"],
    truth: Float[Tensor, "clips frames 6"],
) -> dict[str, float]:
    """Correlate true lip parameters with those predicted from `latents` of the second half of the clips.

    The linear read-out is fitted on `lip_visual` of the first half. Returns Pearson's r by parameter.
    """
    half = len(latents) // 2
    readout = ridge(lip_visual[:half].flatten(0, 1), truth[:half].flatten(0, 1))
    r = correlations(readout(latents[half:].flatten(0, 1)), truth[half:].flatten(0, 1))
    return dict(zip(LIP, r, strict=True))
