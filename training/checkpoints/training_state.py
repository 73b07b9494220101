"""Training checkpoints: safetensors for tensors, JSON for the rest, no pickle; written atomically.

A checkpoint is a folder `step_00001000` with `tensors.safetensors` (module/..., average/..., optimizer/<class>/...) and
`state.json` (number of steps done and the run's settings). With several workers, each writes a share of the tensors, each
tensor in full, into its own `tensors-<rank>.safetensors`, so any number of workers can resume from the checkpoint.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from emotivetalk.errors import InputError, OutputError

TENSORS_FILE = "tensors.safetensors"
STATE_FILE = "state.json"


@dataclass(frozen=True)
class TrainState:
    """Tensors that a run changes. Random state is not included: seeds are a function of the step."""

    module: nn.Module
    average: nn.Module | None
    optimizers: Sequence[Optimizer]
    parameters: dict[str, nn.Parameter]
    """All parameters that the optimisers update, by name."""


@dataclass(frozen=True)
class RunProgress:
    """Content of `state.json`."""

    num_done: int
    """Number of steps done."""
    config: dict[str, object]
    """The run's configuration as JSON."""
    watch: dict[str, float] | None = None
    """State of the run's `LossWatch`."""
    score: float | None = None
    """Mean loss of the steps since the previous checkpoint; `keep_best` keeps the lowest."""
    num_workers: int = 1
    """Number of workers that trained, for information."""


@dataclass(frozen=True)
class Retention:
    """Checkpoints that are kept: the last `num` and, with `keep_best`, the best."""

    num: int
    keep_best: bool = False


def save_training_checkpoint(folder: Path, progress: RunProgress, state: TrainState, retention: Retention) -> Path:
    """Write `folder/step_<num_done>` atomically, then delete the checkpoints that are not kept.

    Args:
        folder: folder of the run's training checkpoints; created if missing.
        progress: content of `state.json`.
        state: content of `tensors.safetensors`.
        retention: the checkpoints to keep.

    Returns:
        The new checkpoint's folder.

    Raises:
        OutputError: the disk is full or cannot be written; earlier checkpoints are unchanged.
    """
    temporary = unfinished_folder(folder, progress.num_done)
    shutil.rmtree(temporary, ignore_errors=True)
    with writing(temporary):
        temporary.mkdir(parents=True)
        write_tensors(_tensors(state), temporary / TENSORS_FILE)
        return commit(folder, progress, retention)


def unfinished_folder(folder: Path, num_done: int) -> Path:
    """Return the folder in which a checkpoint is written before `commit` renames it."""
    return folder / f".step_{num_done:08d}.unfinished"


@contextmanager
def writing(temporary: Path) -> Iterator[None]:
    """Convert write errors as `write_errors` does, and remove the unfinished checkpoint; for a single writer."""
    try:
        with write_errors(temporary):
            yield
    except OutputError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def write_errors(temporary: Path) -> Iterator[None]:
    """Convert system errors while a checkpoint is written to OutputError."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors raises its own error for a full disk
        raise OutputError(
            code="checkpoint_unwritable",
            message=f"the training checkpoint {temporary} cannot be written: {getattr(error, 'strerror', None) or error}",
            remedy="Free disk space or set another output. Earlier checkpoints are intact; continue with --resume.",
        ) from error


def write_tensors(tensors: dict[str, Tensor], file: Path) -> None:
    """Write tensors and flush them to the disk."""
    save_file(tensors, file)
    _flush(file)


def commit(folder: Path, progress: RunProgress, retention: Retention) -> Path:
    """Finish a checkpoint whose tensors are written: add `state.json`, rename the folder, delete old checkpoints."""
    temporary = unfinished_folder(folder, progress.num_done)
    target = folder / f"step_{progress.num_done:08d}"
    (temporary / STATE_FILE).write_text(json.dumps(asdict(progress), indent=2) + "\n", encoding="utf-8")
    _flush(temporary / STATE_FILE)
    if target.exists():
        shutil.rmtree(target)
    temporary.rename(target)
    _flush(folder)
    checkpoints = training_checkpoints(folder)
    kept = set(checkpoints[-retention.num :])
    if retention.keep_best:
        scores = {path: score for path in checkpoints if (score := read_progress(path).score) is not None}
        kept |= {min(scores, key=scores.__getitem__)} if scores else set()
    for checkpoint in checkpoints:
        if checkpoint not in kept:
            shutil.rmtree(checkpoint)
    return target


def training_checkpoints(folder: Path) -> list[Path]:
    """List the finished training checkpoints of a folder, oldest first."""
    return sorted(folder.glob("step_*"))


def read_progress(checkpoint: Path) -> RunProgress:
    """Read `state.json`; fields that an older version did not write have their defaults."""
    return RunProgress(**json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8")))


def tensor_files(checkpoint: Path) -> list[Path]:
    """List the tensor files, one for each worker that wrote; each tensor is in exactly one of them."""
    return sorted(checkpoint.glob("tensors*.safetensors"))


def load_training_checkpoint(checkpoint: Path, state: TrainState) -> None:
    """Load the tensors into `state` in place, keeping devices and memory formats.

    Raises:
        InputError: tensors are missing or unexpected, because the checkpoint is of another network.
    """
    tensors = {name: tensor for file in tensor_files(checkpoint) for name, tensor in load_file(file).items()}
    modules = {"module": state.module} | ({} if state.average is None else {"average": state.average})
    for prefix, module in modules.items():
        own = module.state_dict()
        saved = {name: _take(tensors, f"{prefix}/{name}", checkpoint) for name in own}
        module.load_state_dict(saved)
    for optimizer, prefix in optimizer_prefixes(state.optimizers):
        for name, parameter in updated_by(optimizer, state.parameters).items():
            start = f"{prefix}/{name}/"
            keys = [key for key in tensors if key.startswith(start)]
            optimizer.state[parameter] = {
                key.removeprefix(start): like(parameter, tensors.pop(key)) for key in sorted(keys)
            }
    if tensors:
        raise mismatch(f"{checkpoint} has the tensor {min(tensors)!r}, which this run does not have")


def _tensors(state: TrainState) -> dict[str, Tensor]:
    """Collect copies of all tensors by name (see `on_cpu`)."""
    tensors = {f"module/{name}": tensor for name, tensor in state.module.state_dict().items()}
    if state.average is not None:
        tensors |= {f"average/{name}": tensor for name, tensor in state.average.state_dict().items()}
    for optimizer, prefix in optimizer_prefixes(state.optimizers):
        for name, parameter in updated_by(optimizer, state.parameters).items():
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{prefix}/{name}/{key}"] = value
    return {name: on_cpu(tensor) for name, tensor in tensors.items()}


def on_cpu(tensor: Tensor) -> Tensor:
    """Copy a tensor as safetensors requires: on the CPU, contiguous, sharing no memory."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def optimizer_prefixes(optimizers: Sequence[Optimizer]) -> list[tuple[Optimizer, str]]:
    """Pair each optimiser with the prefix of its tensors' names."""
    return [(optimizer, f"optimizer/{type(optimizer).__name__}") for optimizer in optimizers]


def updated_by(optimizer: Optimizer, parameters: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Select the parameters that an optimiser updates."""
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return {name: parameter for name, parameter in parameters.items() if id(parameter) in own}


def _take(tensors: dict[str, Tensor], key: str, checkpoint: Path) -> Tensor:
    if key not in tensors:
        raise mismatch(f"{checkpoint} lacks the tensor {key!r}")
    return tensors.pop(key)


def mismatch(message: str) -> InputError:
    """Build the error for a checkpoint of another network."""
    return InputError(
        code="checkpoint_mismatch",
        message=message,
        remedy="It belongs to another network or another version of the code. Start a new run in another output folder.",
    )


def like(parameter: Tensor, saved: Tensor) -> Tensor:
    """Convert a saved moment to its parameter's memory format and device; a step counter is returned unchanged."""
    if saved.shape != parameter.shape or saved.ndim == 0:
        return saved
    return torch.empty_like(parameter, dtype=saved.dtype).detach().copy_(saved)


def _flush(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
