"""Optimisers: Muon for hidden weights, AdamW for the rest.

Muon (Jordan et al., 2024) replaces the momentum of a weight matrix by the nearest semi-orthogonal matrix, computed by a
Newton-Schulz iteration, so all its directions learn at the same rate. With the scale of Moonshot ("Muon is Scalable for LLM
Training", 2025) an update has the root mean square of AdamW's, and both share one learning rate.

PyTorch's Muon accepts 2-D weights only, one at a time. Ours accepts convolutions in any memory format and orthogonalises all
weights of equal shape in one batched product.
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

from emotivetalk.models.precision import has_bfloat16

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al.: steep at 0, so 5 iterations bring singular values near 1
MIN_DIM = 32  # weights with fewer rows or columns belong to first, last or depthwise layers; AdamW updates them
ADAMW_BETAS = (0.9, 0.98)


class OptimizerConfig(BaseModel):
    """The `optimizer:` section of a training YAML.

    Args:
        name: "muon" for Muon on hidden weights and AdamW on the rest, "adamw" for AdamW on all.
        learning_rate: peak learning rate, of Muon and AdamW alike.
        weight_decay: decoupled weight decay, per unit of learning rate, on weights of two or more dimensions.
        warmup_steps: number of steps over which the rate rises linearly from near 0.
        decay_start: fraction of all steps after which the rate falls linearly to 0 at the end.
        clip_norm: largest gradient norm (null: no clipping).
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
    """Trainable parameters by name: `hidden` weights for Muon, `rest` for AdamW."""

    hidden: dict[str, nn.Parameter]
    rest: dict[str, nn.Parameter]

    def named(self) -> dict[str, nn.Parameter]:
        """Return all parameters, the hidden ones first."""
        return self.hidden | self.rest


def split_parameters(module: nn.Module) -> ParameterGroups:
    """Assign weights whose first two dimensions are both at least `MIN_DIM`, except embeddings, to Muon and the rest to AdamW.

    AdamW thus updates biases, norms, embeddings, depthwise convolutions, and layers that read or write pixels, latents or few
    classes. Parameters that do not require gradients are omitted.
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
    """Approximate the nearest semi-orthogonal matrix of each matrix: singular values become about 0.7 .. 1.2.

    The iteration is X <- a X + (b X X^T + c (X X^T)^2) X. GPUs with bfloat16 use it, which is precise enough for a direction.
    CPUs use float32, because one without bfloat16 emulates it at 45 times the cost, and results should not depend on the CPU.

    Returns:
        Matrices of the same shape; a zero matrix stays zero.
    """
    a, b, c = NEWTON_SCHULZ
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    norms = torch.linalg.matrix_norm(matrices.float(), keepdim=True)
    use_bfloat16 = matrices.device.type != "cpu" and has_bfloat16(matrices.device)
    x = (matrices / (norms + 1e-7)).to(torch.bfloat16 if use_bfloat16 else torch.float32)
    x = x.mT.contiguous() if is_tall else x
    for _ in range(num_iterations):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if is_tall else x


class Muon(Optimizer):
    """Optimiser with orthogonalised momentum for weights of two or more dimensions.

    A weight is treated as a matrix of its first dimension by all others in logical order, so the memory format of a
    convolution (contiguous or channels_last) changes nothing.

    Args:
        params: parameters of at least two dimensions.
        lr: learning rate, on AdamW's scale.
        momentum: coefficient of the Nesterov momentum.
        weight_decay: decoupled weight decay, multiplied by `lr`.

    Raises:
        ValueError: a parameter has fewer than two dimensions.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for parameter in self._parameters():
            if parameter.ndim < 2:
                raise ValueError(f"Muon needs weights of 2 or more dimensions, got the shape {tuple(parameter.shape)}")

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every parameter that has a gradient.

        Args:
            closure: computes the loss and its gradients first, as with PyTorch's optimisers.

        Returns:
            The result of the closure.
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
            for equal_shape in by_shape.values():
                self._update(equal_shape, group["lr"], group["momentum"], group["weight_decay"])
        return loss

    def _update(self, parameters: list[nn.Parameter], lr: float, momentum: float, weight_decay: float) -> None:
        """Update parameters of equal shape."""
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
    """Build Muon for the hidden weights and AdamW for the rest, or AdamW for all.

    AdamW decays only weights of two or more dimensions. Groups without parameters are omitted.

    Args:
        groups: a stage's `optimizer_groups()`.
        config: choice and settings of the optimiser.

    Raises:
        ValueError: there are no parameters to train.
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
    """Compute the learning rate of a step (from 0): linear warm-up, constant, linear decay to zero.

    It depends on the step and not on wall time, which varies with the machine and its load.
    """
    warmup = min(1.0, (step + 1) / (config.warmup_steps + 1))
    start = config.decay_start * num_steps
    decay = min(1.0, (num_steps - step) / max(num_steps - start, 1.0))
    return config.learning_rate * warmup * max(decay, 0.0)
