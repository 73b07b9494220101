"""Small measures that stages validate with: linear read-outs, correlation, retrieval."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.corpus.parameters import LIP
from emotivetalk.evaluation.retrieval import retrieved_share

Readout = Callable[[Tensor], Tensor]


def ridge(inputs: Float[Tensor, "rows a"], targets: Float[Tensor, "rows b"], penalty: float = 1e-2) -> Readout:
    """Linear regression with a constant; returns the function that predicts `targets`' columns."""
    mean, target_mean = inputs.mean(0), targets.mean(0)
    centred = (inputs - mean).double()
    normal = centred.T @ centred / len(centred) + penalty * torch.eye(inputs.shape[1], dtype=torch.double)
    weights = torch.linalg.solve(normal, centred.T @ (targets - target_mean).double() / len(centred)).float()
    return lambda rows: (rows - mean) @ weights + target_mean


def correlations(one: Float[Tensor, "rows columns"], other: Float[Tensor, "rows columns"]) -> list[float]:
    """Pearson's r of each column."""
    a, b = one - one.mean(0), other - other.mean(0)
    return ((a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0) + 1e-9)).tolist()


def retrieval(
    queries: Float[Tensor, "clips frames dim"],
    keys: Float[Tensor, "clips frames dim"],
    num_candidates: int,
    window: int,
    seed: int = 0,
) -> float:
    """How often a window of `queries` is nearest (cosine) to its own among windows of `keys` of the same clip.

    Args:
        num_candidates: windows drawn per clip without replacement; chance is one over it.
        window: frames of each window.
    """
    generator = torch.Generator().manual_seed(seed)
    pairs = zip(queries, keys, strict=True)
    shares = [retrieved_share(query, key, num_candidates, window, generator) for query, key in pairs]
    return sum(shares) / len(shares)


def lips_heard(
    heard: Float[Tensor, "clips frames dim_lip"],
    seen: Float[Tensor, "clips frames dim_lip"],
    truth: Float[Tensor, "clips frames 6"] | None,
) -> dict[str, float]:
    """Lip latents from speech against those of the pictures: retrieval of the right window of nine frames, and what they tell.

    jaw, press, tuck: r of the true parameters, where they are known, and of what a read-out fitted on the first half of the
    clips' visual latents reads from the second half's heard ones.
    """
    found = {"retrieval_16_window_9": retrieval(heard, seen, 16, min(9, seen.shape[1]))}
    if truth is None:
        return found
    half = len(heard) // 2
    read = ridge(seen[:half].flatten(0, 1), truth[:half].flatten(0, 1))
    r = correlations(read(heard[half:].flatten(0, 1)), truth[half:].flatten(0, 1))
    return {name: r[LIP.index(name)] for name in ("jaw", "press", "tuck")} | found
