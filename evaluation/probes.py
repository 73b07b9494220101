"""Probes: what can be read from latents that should not tell it, by a linear map and by a small network (ours).

A probe is trained on one half of the people and tested on the other, and the other way round, so it cannot know who
it is; its score is a lower bound of what the latents tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

Kind = Literal["linear", "mlp"]
KINDS: tuple[Kind, ...] = ("linear", "mlp")

_HIDDEN = 64
_PENALTY = 1e-3
_ITERATIONS = 60


def read_classes(
    kind: Kind, inputs: Float[Tensor, "rows dim"], targets: Int[Tensor, " rows"], people: Sequence[int], num: int
) -> Int[np.ndarray, " rows"]:
    """What a probe takes each row's class for, trained on people who are not the row's.

    Args:
        targets: classes, 0 .. num - 1.
        people: whose each row is.
    """
    return _crossed(kind, inputs, targets, people, num).argmax(1).numpy()


def read_number(
    kind: Kind, inputs: Float[Tensor, "rows dim"], targets: Float[Tensor, " rows"], people: Sequence[int]
) -> Float[np.ndarray, " rows"]:
    """What a probe reads of each row's number, trained on people who are not the row's."""
    return _crossed(kind, inputs, targets, people, 1)[:, 0].numpy()


def _crossed(kind: Kind, inputs: Tensor, targets: Tensor, people: Sequence[int], num: int) -> Float[Tensor, "rows num"]:
    sides = np.unique(np.asarray(people), return_inverse=True)[1] % 2
    if len(set(sides)) < 2:
        raise ValueError("a probe needs two people at least, to learn on one and be tested on the other. Give more.")
    read = torch.zeros(len(inputs), num)
    for side in (0, 1):
        test = torch.from_numpy(sides == side)
        read[test] = _trained(kind, inputs[~test], targets[~test], inputs[test], num)
    return read


def _trained(kind: Kind, inputs: Tensor, targets: Tensor, unseen: Tensor, num: int) -> Tensor:
    mean, spread = inputs.mean(0), inputs.std(0) + 1e-4
    torch_state = torch.get_rng_state()
    torch.manual_seed(0)  # of the probe's own weights; the caller's generator is put back
    layers = [nn.Linear(inputs.shape[1], num)]
    if kind == "mlp":
        layers = [nn.Linear(inputs.shape[1], _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, num)]
    probe = nn.Sequential(*layers)
    torch.set_rng_state(torch_state)
    is_class = not targets.is_floating_point()
    center, scale = (torch.tensor(0.0), torch.tensor(1.0)) if is_class else (targets.mean(), targets.std() + 1e-6)
    rows = (inputs - mean) / spread
    optimizer = torch.optim.LBFGS(probe.parameters(), max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        out = probe(rows)
        fit = F.cross_entropy(out, targets) if is_class else F.mse_loss(out[:, 0], (targets - center) / scale)
        loss = fit + _PENALTY * sum(weight.square().sum() for weight in probe.parameters())
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    with torch.no_grad():
        return probe((unseen - mean) / spread) * scale + center
