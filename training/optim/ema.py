"""Exponential moving average of a module's weights in float32."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """Float32 copy of a module whose weights average the module's: w <- w + (1 - d_s) (module's w - w).

    d_s = min(decay, (1 + s) / (10 + s)) for update s (from 0), so the random initial weights soon lose their influence.
    Frozen parameters and buffers are copied unchanged.

    Attributes:
        module: the copy, in evaluation mode, without gradients.

    Raises:
        ValueError: `decay` is not in [0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.decay = decay
        self.module = copy.deepcopy(module).float().requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Update the average with the weights of `module` after step `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages = dict(self.module.named_parameters())
        trained = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            [averages[name] for name in trained], [p.float() for p in trained.values()], 1 - decay
        )
        for average, buffer in zip(self.module.buffers(), module.buffers(), strict=True):
            average.copy_(buffer)
