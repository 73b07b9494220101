"""Training checkpoints: safetensors for tensors, JSON for the rest; no pickle. Written whole or not at all.

A checkpoint is a folder `step_00001000` with `tensors.safetensors` (module/..., average/..., optimizer/<class>/...) and
`state.json` (the steps done, and the run's settings).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from media.errors import InputError

TENSORS_FILE = "tensors.safetensors"
STATE_FILE = "state.json"


@dataclass(frozen=True)
class TrainState:
    """What a run changes as it goes. Seeds need no place here: they are a function of the step."""

    module: nn.Module
    average: nn.Module | None
    optimizers: Sequence[Optimizer]
    parameters: dict[str, nn.Parameter]  # all that the optimisers update, by name


def save_training_checkpoint(
    folder: Path, num_done: int, state: TrainState, settings: dict[str, object], keep: int
) -> Path:
    """Writes `folder/step_<num_done>` atomically, then deletes all but the last `keep`.

    Args:
        folder: of the run's training checkpoints; made if need be.
        num_done: how many steps are done.
        state: what to save.
        settings: the run's configuration, JSON.
        keep: how many checkpoints stay.

    Returns:
        The new checkpoint's folder.
    """
    target = folder / f"step_{num_done:08d}"
    temporary = folder / f".{target.name}.unfinished"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(_tensors(state), temporary / TENSORS_FILE)
    text = json.dumps({"num_done": num_done, "config": settings}, indent=2) + "\n"
    (temporary / STATE_FILE).write_text(text, encoding="utf-8")
    for file in (temporary / TENSORS_FILE, temporary / STATE_FILE):
        _flush(file)
    if target.exists():
        shutil.rmtree(target)
    temporary.rename(target)
    _flush(folder)
    for old in training_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def training_checkpoints(folder: Path) -> list[Path]:
    """The finished training checkpoints of a folder, oldest first."""
    return sorted(folder.glob("step_*"))


def read_settings(checkpoint: Path) -> tuple[int, dict[str, object]]:
    """How many steps were done, and the run's configuration."""
    state = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    return state["num_done"], state["config"]


def load_training_checkpoint(checkpoint: Path, state: TrainState) -> None:
    """Reads the tensors into `state`, in place, so that devices and memory formats stay as they are.

    Raises:
        InputError: the checkpoint lacks tensors, or has some that the state does not: another network's.
    """
    tensors = load_file(checkpoint / TENSORS_FILE)
    modules = {"module": state.module} | ({} if state.average is None else {"average": state.average})
    for prefix, module in modules.items():
        own = module.state_dict()
        saved = {name: _take(tensors, f"{prefix}/{name}", checkpoint) for name in own}
        module.load_state_dict(saved)
    for optimizer, prefix in _prefixes(state.optimizers):
        for name, parameter in _updated_by(optimizer, state.parameters).items():
            start = f"{prefix}/{name}/"
            keys = [key for key in tensors if key.startswith(start)]
            optimizer.state[parameter] = {
                key.removeprefix(start): _like(parameter, tensors.pop(key)) for key in sorted(keys)
            }
    if tensors:
        raise _mismatch(f"{checkpoint} has the tensor {min(tensors)!r}, which this run has no place for")


def _tensors(state: TrainState) -> dict[str, Tensor]:
    """All tensors by name, each on the CPU, contiguous and in memory of its own, as safetensors wants them."""
    tensors = {f"module/{name}": tensor for name, tensor in state.module.state_dict().items()}
    if state.average is not None:
        tensors |= {f"average/{name}": tensor for name, tensor in state.average.state_dict().items()}
    for optimizer, prefix in _prefixes(state.optimizers):
        for name, parameter in _updated_by(optimizer, state.parameters).items():
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{prefix}/{name}/{key}"] = value
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }


def _prefixes(optimizers: Sequence[Optimizer]) -> list[tuple[Optimizer, str]]:
    return [(optimizer, f"optimizer/{type(optimizer).__name__}") for optimizer in optimizers]


def _updated_by(optimizer: Optimizer, parameters: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return {name: parameter for name, parameter in parameters.items() if id(parameter) in own}


def _take(tensors: dict[str, Tensor], key: str, checkpoint: Path) -> Tensor:
    if key not in tensors:
        raise _mismatch(f"{checkpoint} lacks the tensor {key!r}")
    return tensors.pop(key)


def _mismatch(message: str) -> InputError:
    return InputError(
        code="checkpoint_mismatch",
        message=message,
        remedy="It is of another network or version of the code: train anew, into another output folder.",
    )


def _like(parameter: Tensor, saved: Tensor) -> Tensor:
    """A moment in its parameter's memory format and device; a step counter as it is."""
    if saved.shape != parameter.shape or saved.ndim == 0:
        return saved
    return torch.empty_like(parameter, dtype=saved.dtype).detach().copy_(saved)


def _flush(path: Path) -> None:
    """Waits until the disk has it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
