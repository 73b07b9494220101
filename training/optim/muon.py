"""Muon for hidden weights, AdamW for the rest.

Muon (Jordan et al., 2024): the momentum of a weight matrix is replaced by the nearest semi-orthogonal matrix, found by
a Newton-Schulz iteration, so that all its directions learn at one rate. With Moonshot's scale ("Muon is Scalable for
LLM Training", 2025) an update has the root mean square of AdamW's, and one learning rate serves both.

PyTorch's own Muon takes 2-D weights only and one at a time; ours takes convolutions, in any memory format, and
orthogonalises all weights of equal shape in one batched product.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al.: steep at 0, so 5 iterations bring singular values near 1
MIN_DIM = 32  # a weight with fewer rows or columns is a first, last or depthwise layer: AdamW's
ADAMW_BETAS = (0.9, 0.98)


class OptimizerConfig(BaseModel):
    """The `optimizer:` section of a training YAML.

    learning_rate: the peak, of Muon and AdamW alike.
    weight_decay: decoupled, per unit of learning rate, on weights of two dimensions and more.
    warmup_steps: the rate rises linearly from near 0 over so many steps.
    decay_start: the fraction of all steps after which the rate falls linearly, to 0 at the end.
    clip_norm: the largest gradient norm (null: gradients are not clipped).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["muon", "adamw"] = "muon"
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_steps: int = Field(default=0, ge=0)
    decay_start: float = Field(default=0.0, ge=0, le=1)
    clip_norm: float | None = Field(default=1.0, gt=0)


@dataclass(frozen=True)
class ParameterGroups:
    """Trainable parameters by name: `hidden` weights for Muon, the `rest` for AdamW."""

    hidden: dict[str, nn.Parameter]
    rest: dict[str, nn.Parameter]

    def named(self) -> dict[str, nn.Parameter]:
        """All of them, the hidden ones first."""
        return self.hidden | self.rest


def split_parameters(module: nn.Module) -> ParameterGroups:
    """Gives Muon the weights whose first two dimensions are both at least 32, but no embeddings; AdamW the rest.

    Biases, norms, embeddings, depthwise convolutions, and layers that read or write pixels, latents or few classes
    so go to AdamW. Parameters that do not require gradients are left out.
    """
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    hidden: dict[str, nn.Parameter] = {}
    rest: dict[str, nn.Parameter] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        is_matrix = parameter.ndim >= 2 and min(parameter.shape[:2]) >= MIN_DIM
        (hidden if is_matrix and id(parameter) not in embeddings else rest)[name] = parameter
    return ParameterGroups(hidden=hidden, rest=rest)


def orthogonalize(
    matrices: Float[Tensor, "batch rows cols"], num_iterations: int = 5
) -> Float[Tensor, "batch rows cols"]:
    """The nearest semi-orthogonal matrix to each, roughly: singular values go to about 0.7 .. 1.2.

    X <- a X + (b X X^T + c (X X^T)^2) X, on a GPU in bfloat16, which is enough for a direction. On a CPU in float32: one that
    has no bfloat16 emulates it, at 45 times the cost.

    Returns:
        The same shape. A zero matrix stays zero.
    """
    a, b, c = NEWTON_SCHULZ
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    norms = torch.linalg.matrix_norm(matrices.float(), keepdim=True)
    x = (matrices / (norms + 1e-7)).to(torch.bfloat16 if matrices.is_cuda else torch.float32)
    x = x.mT.contiguous() if is_tall else x
    for _ in range(num_iterations):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if is_tall else x


class Muon(Optimizer):
    """Momentum, orthogonalised, for weights of two and more dimensions.

    A weight is read as a matrix of its first dimension by all the others, in logical order: the memory format of a
    convolution (contiguous or channels_last) changes nothing.

    Args:
        params: parameters of at least two dimensions.
        lr: learning rate, as for AdamW.
        momentum: of the Nesterov momentum.
        weight_decay: decoupled, times `lr`.

    Raises:
        ValueError: a parameter has fewer than two dimensions.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for parameter in self._parameters():
            if parameter.ndim < 2:
                raise ValueError(f"Muon takes weights of 2 or more dimensions, got shape {tuple(parameter.shape)}")

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Updates every parameter that has a gradient.

        Args:
            closure: computes the loss and its gradients first, as for any optimiser of PyTorch's.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            by_shape: dict[tuple[torch.Size, torch.dtype, torch.device], list[nn.Parameter]] = defaultdict(list)
            for parameter in parameters:
                by_shape[parameter.shape, parameter.dtype, parameter.device].append(parameter)
            for alike in by_shape.values():
                self._update(alike, group["lr"], group["momentum"], group["weight_decay"])
        return loss

    def _update(self, parameters: list[nn.Parameter], lr: float, momentum: float, weight_decay: float) -> None:
        """One step on parameters of equal shape."""
        flat = []
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            average = state["momentum"].lerp_(parameter.grad, 1 - momentum)
            flat.append(parameter.grad.lerp(average, momentum).reshape(parameter.shape[0], -1))  # Nesterov
        rows, cols = flat[0].shape
        updates = orthogonalize(torch.stack(flat))
        scale = 0.2 * max(rows, cols) ** 0.5
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1 - lr * weight_decay)
            parameter.add_(update.reshape(parameter.shape).to(parameter.dtype), alpha=-lr * scale)


def build_optimizers(groups: ParameterGroups, config: OptimizerConfig) -> list[Optimizer]:
    """Muon on the hidden weights and AdamW on the rest, or AdamW on all.

    AdamW decays weights of two and more dimensions only. Groups without parameters are left out.

    Args:
        groups: a stage's `optimizer_groups()`.
        config: names the optimiser and its settings.

    Raises:
        ValueError: there is nothing to train.
    """
    if not groups.named():
        raise ValueError("nothing to train: no parameter of the stage's module requires a gradient")
    hidden, rest = list(groups.hidden.values()), list(groups.rest.values())
    if config.name == "adamw":
        hidden, rest = [], hidden + rest
    optimizers: list[Optimizer] = []
    if hidden:
        optimizers.append(Muon(hidden, lr=config.learning_rate, weight_decay=config.weight_decay))
    adamw_groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    adamw_groups = [group for group in adamw_groups if group["params"]]
    if adamw_groups:
        optimizers.append(AdamW(adamw_groups, lr=config.learning_rate, betas=ADAMW_BETAS))
    return optimizers


def learning_rate_at(step: int, num_steps: int, config: OptimizerConfig) -> float:
    """The learning rate of a step (from 0): linear warm-up, constant, linear to zero.

    A function of the step alone: wall time depends on the machine and on what else it does.
    """
    warmup = min(1.0, (step + 1) / (config.warmup_steps + 1))
    start = config.decay_start * num_steps
    decay = min(1.0, (num_steps - step) / max(num_steps - start, 1.0))
    return config.learning_rate * warmup * max(decay, 0.0)
