"""Group normalisation for CPUs, fast where PyTorch's is slow: many small groups in channels-last layout."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """PyTorch's group normalisation, computed on a CPU by sums per channel (measured: forward up to 8 times faster).

    PyTorch loops over the groups; in channels-last layout that is slow for groups of two or four channels, which small
    widths have. Weights and results are the same up to rounding.
    """

    def forward(self, hidden: Float[Tensor, "rows channels *space"]) -> Float[Tensor, "rows channels *space"]:
        if hidden.device.type != "cpu" or hidden.dim() < 3:
            return super().forward(hidden)
        rows, channels = hidden.shape[:2]
        space = tuple(range(2, hidden.dim()))
        per_group = channels // self.num_groups
        count = per_group * hidden[0, 0].numel()
        values = hidden.float()
        mean = values.sum(space).view(rows, self.num_groups, per_group).sum(-1) / count
        square = values.square().sum(space).view(rows, self.num_groups, per_group).sum(-1) / count
        inverse = (square - mean.square()).clamp(min=0).add(self.eps).rsqrt()
        scale = inverse.repeat_interleave(per_group, 1) * self.weight.float()
        offset = self.bias.float() - mean.repeat_interleave(per_group, 1) * scale
        shape = (rows, channels) + (1,) * len(space)
        return torch.addcmul(offset.view(shape).to(hidden.dtype), hidden, scale.view(shape).to(hidden.dtype))


def use_fast_group_norm(network: nn.Module) -> None:
    """Replace every `nn.GroupNorm` inside the network by `GroupNorm`, keeping weights and names."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.GroupNorm:
                fast = GroupNorm(child.num_groups, child.num_channels, child.eps)
                fast.load_state_dict(child.state_dict())
                setattr(module, name, fast)
