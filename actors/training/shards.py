"""The parts of a module on each worker, and how to combine them: for averages, checkpoints and evaluation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import safe_open
from torch import Tensor, nn

from emotivetalk.training.checkpoints.training_state import mismatch, tensor_files


class Shards:
    """The distribution of a module's parameters over the workers.

    Each parameter is written by one worker. With ZeRO 3 every worker holds a part of each parameter, the last one padded.
    Otherwise all hold whole parameters, and only the writer holds an average.

    Args:
        module: of a stage, after DeepSpeed has wrapped it.
        rank, num_workers: of this worker.
        is_partitioned: ZeRO 3 has partitioned the parameters.
    """

    def __init__(self, module: nn.Module, rank: int, num_workers: int, is_partitioned: bool) -> None:
        self.rank, self.num_workers, self.is_partitioned = rank, num_workers, is_partitioned
        self.parameters = dict(module.named_parameters())
        self.writer = {name: index % num_workers for index, name in enumerate(self.parameters)}

    def part(self, name: str) -> Tensor | None:
        """Return the part of a parameter that this worker averages, as a view; None if another worker does."""
        parameter = self.parameters[name]
        if self.is_partitioned:
            return parameter.ds_tensor.data  # pyright: ignore[reportAttributeAccessIssue] set by ZeRO 3
        return parameter.data if self.writer[name] == self.rank else None

    def cut(self, name: str, whole: Tensor) -> Tensor | None:
        """Return the part of a tensor with the parameter's shape that corresponds to `part`."""
        if not self.is_partitioned:
            return whole if self.writer[name] == self.rank else None
        size = self.parameters[name].ds_tensor.numel()  # pyright: ignore[reportAttributeAccessIssue]
        flat = torch.zeros(size * self.num_workers, dtype=whole.dtype)
        flat[: whole.numel()] = whole.flatten()
        return flat[size * self.rank : size * (self.rank + 1)]

    def whole(self, name: str, part: Tensor | None) -> Tensor:
        """Combine the parts that `cut` returns. All workers call it, in the same order, and all get the result."""
        parameter = self.parameters[name]
        if self.is_partitioned:
            assert part is not None
            parts = [torch.empty_like(part) for _ in range(self.num_workers)]
            dist.all_gather(parts, part.contiguous())
            shape: torch.Size = parameter.ds_shape  # pyright: ignore[reportAttributeAccessIssue]
            return torch.cat(parts)[: shape.numel()].view(shape)
        tensor = torch.empty(parameter.shape, device=parameter.device) if part is None else part.contiguous()
        dist.broadcast(tensor, src=self.writer[name])
        return tensor

    def weight(self, name: str) -> Tensor:
        """Return a whole parameter. All workers call it."""
        return self.whole(name, self.part(name)) if self.is_partitioned else self.parameters[name].data


class ShardedAverage:
    """`WeightAverage` (`training/optim/ema.py`), distributed over the workers."""

    def __init__(self, shards: Shards, decay: float) -> None:
        self.shards, self.decay = shards, decay
        trained = [name for name, parameter in shards.parameters.items() if parameter.requires_grad]
        self.parts = {name: part.float().clone() for name in trained if (part := shards.part(name)) is not None}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average with the weights after step `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, average in self.parts.items():
            part = self.shards.part(name)
            assert part is not None
            average.lerp_(part.float(), 1 - decay)

    def whole(self, name: str) -> Tensor:
        """Return the average of a parameter, or the parameter itself if it is frozen. All workers call it."""
        if not self.shards.parameters[name].requires_grad:
            return self.shards.weight(name)
        return self.shards.whole(name, self.parts.get(name))


class Skeleton:
    """A module without tensors, to rebuild the whole module after ZeRO 3 has partitioned the original."""

    def __init__(self, module: nn.Module) -> None:
        memo: dict[int, object] = {}
        for parameter in module.parameters():
            empty = torch.empty_like(parameter, device="meta", requires_grad=False)
            memo[id(parameter)] = nn.Parameter(empty, requires_grad=False)
        for buffer in module.buffers():
            memo[id(buffer)] = torch.empty_like(buffer, device="meta")
        self._module = copy.deepcopy(module, memo)

    def fill(self, tensor: Callable[[str], Tensor], device: torch.device) -> nn.Module:
        """Return the module in evaluation mode, in float32, with the parameters and buffers that `tensor` returns by name."""
        memo: dict[int, object] = {}
        for name, empty in [*self._module.named_parameters(), *self._module.named_buffers()]:
            kind = torch.float32 if empty.is_floating_point() else empty.dtype
            filled = torch.empty_like(empty, device=device, dtype=kind, requires_grad=False).copy_(tensor(name))
            memo[id(empty)] = nn.Parameter(filled, False) if isinstance(empty, nn.Parameter) else filled
        return copy.deepcopy(self._module, memo).eval()


class SavedTensors:
    """The tensors of a training checkpoint, read one at a time, from the files of all workers.

    Attributes:
        left: names that were not taken yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        opened = [safe_open(file, framework="pt") for file in tensor_files(folder)]
        self._files = {name: file for file in opened for name in file.keys()}  # noqa: SIM118 it is not iterable
        self.left = set(self._files)

    def take(self, name: str) -> Tensor:
        """Read a tensor.

        Raises:
            InputError: the checkpoint does not have it, so it belongs to another network.
        """
        if name not in self._files:
            raise mismatch(f"{self.folder} lacks the tensor {name!r}")
        self.left.discard(name)
        return self._files[name].get_tensor(name)

    def check_empty(self) -> None:
        """Raise InputError if tensors are left."""
        if self.left:
            raise mismatch(f"{self.folder} has the tensor {min(self.left)!r}, which this run has no place for")
