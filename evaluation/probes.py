"""Probes: predict a target from latents, with a linear map and with a small network (ours).

A probe is trained on one half of the people and tested on the other half, and vice versa, so it cannot use a person's
identity. Its score is a lower bound of the information in the latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

ProbeKind = Literal["linear", "mlp"]
PROBE_KINDS: tuple[ProbeKind, ...] = ("linear", "mlp")

_HIDDEN = 64
_PENALTY = 1e-3
_ITERATIONS = 60


def predict_classes(
    kind: ProbeKind,
    inputs: Float[Tensor, "rows dim"],
    targets: Int[Tensor, " rows"],
    people: Sequence[int],
    num_classes: int,
) -> Int[np.ndarray, " rows"]:
    """Predict the class of each row with a probe that was trained on other people.

    Args:
        targets: classes, 0 .. num_classes - 1.
        people: person of each row.

    Raises:
        ValueError: all rows are of one person.
    """
    return _cross_validated(kind, inputs, targets, people, num_classes).argmax(1).numpy()


def predict_values(
    kind: ProbeKind, inputs: Float[Tensor, "rows dim"], targets: Float[Tensor, " rows"], people: Sequence[int]
) -> Float[np.ndarray, " rows"]:
    """Predict the target value of each row with a probe that was trained on other people.

    Raises:
        ValueError: all rows are of one person.
    """
    return _cross_validated(kind, inputs, targets, people, 1)[:, 0].numpy()


def _cross_validated(
    kind: ProbeKind, inputs: Tensor, targets: Tensor, people: Sequence[int], num_outputs: int
) -> Float[Tensor, "rows num_outputs"]:
    halves = np.unique(np.asarray(people), return_inverse=True)[1] % 2
    if len(set(halves)) < 2:
        raise ValueError(
            "a probe needs at least two people, one for training and one for testing. Add clips of another."
        )
    predicted = torch.zeros(len(inputs), num_outputs)
    for half in (0, 1):
        test = torch.from_numpy(halves == half)
        predicted[test] = _train_and_predict(kind, inputs[~test], targets[~test], inputs[test], num_outputs)
    return predicted


def _train_and_predict(
    kind: ProbeKind, inputs: Tensor, targets: Tensor, test_inputs: Tensor, num_outputs: int
) -> Tensor:
    mean, spread = inputs.mean(0), inputs.std(0) + 1e-4
    torch_state = torch.get_rng_state()
    torch.manual_seed(0)  # for the probe's weights; the caller's state is restored below
    layers = [nn.Linear(inputs.shape[1], num_outputs)]
    if kind == "mlp":
        layers = [nn.Linear(inputs.shape[1], _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, num_outputs)]
    probe = nn.Sequential(*layers)
    torch.set_rng_state(torch_state)
    is_class = not targets.is_floating_point()
    center, scale = (torch.tensor(0.0), torch.tensor(1.0)) if is_class else (targets.mean(), targets.std() + 1e-6)
    rows = (inputs - mean) / spread
    optimizer = torch.optim.LBFGS(probe.parameters(), max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        output = probe(rows)
        data_loss = (
            F.cross_entropy(output, targets) if is_class else F.mse_loss(output[:, 0], (targets - center) / scale)
        )
        loss = data_loss + _PENALTY * sum(weight.square().sum() for weight in probe.parameters())
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    with torch.no_grad():
        return probe((test_inputs - mean) / spread) * scale + center
