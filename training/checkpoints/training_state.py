"""Training checkpoints: safetensors for tensors, JSON for the rest; no pickle. Written whole or not at all.

A checkpoint is a folder `step_00001000` with `tensors.safetensors` (module/..., average/..., optimizer/<class>/...) and
`state.json` (the steps done, and the run's settings). Of several workers each writes some of the tensors, whole, into a
`tensors-<rank>.safetensors` of its own, so that any number of workers, or none, can go on from it.
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
    """What a run changes as it goes. Seeds need no place here: they are a function of the step."""

    module: nn.Module
    average: nn.Module | None
    optimizers: Sequence[Optimizer]
    parameters: dict[str, nn.Parameter]  # all that the optimisers update, by name


@dataclass(frozen=True)
class Progress:
    """What `state.json` holds.

    num_done: how many steps are done.
    config: the run's configuration, JSON.
    watch: the state of the run's `LossWatch`.
    score: the mean loss of the steps since the checkpoint before, by which `keep_best` chooses.
    num_workers: that trained; for people to read.
    """

    num_done: int
    config: dict[str, object]
    watch: dict[str, float] | None = None
    score: float | None = None
    num_workers: int = 1


@dataclass(frozen=True)
class Retention:
    """Which checkpoints stay: the last `num` and, if wished, the best."""

    num: int
    keep_best: bool = False


def save_training_checkpoint(folder: Path, progress: Progress, state: TrainState, retention: Retention) -> Path:
    """Writes `folder/step_<num_done>` atomically, then deletes what is not to stay.

    Args:
        folder: of the run's training checkpoints; made if need be.
        progress: what goes into `state.json`.
        state: what goes into `tensors.safetensors`.
        retention: which checkpoints stay.

    Returns:
        The new checkpoint's folder.

    Raises:
        OutputError: the disk is full or cannot be written; the checkpoints before are as they were.
    """
    temporary = unfinished_folder(folder, progress.num_done)
    shutil.rmtree(temporary, ignore_errors=True)
    with writing(temporary):
        temporary.mkdir(parents=True)
        write_tensors(_tensors(state), temporary / TENSORS_FILE)
        return commit(folder, progress, retention)


def unfinished_folder(folder: Path, num_done: int) -> Path:
    """Where a checkpoint is written before `commit` gives it its name."""
    return folder / f".step_{num_done:08d}.unfinished"


@contextmanager
def writing(temporary: Path) -> Iterator[None]:
    """As `telling`, and removes what is half done: for who writes it alone."""
    try:
        with telling(temporary):
            yield
    except OutputError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def telling(temporary: Path) -> Iterator[None]:
    """Turns what the system says while a checkpoint is written into an OutputError."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors has its own for a disk that is full
        raise OutputError(
            code="checkpoint_unwritable",
            message=f"the training checkpoint {temporary} cannot be written: {getattr(error, 'strerror', None) or error}",
            remedy="Make space or give another output; the checkpoints before it are whole, go on with --resume.",
        ) from error


def write_tensors(tensors: dict[str, Tensor], file: Path) -> None:
    """Writes tensors and waits until the disk has them."""
    save_file(tensors, file)
    _flush(file)


def commit(folder: Path, progress: Progress, retention: Retention) -> Path:
    """Gives the checkpoint whose tensors are all written its `state.json` and its name, and deletes old ones."""
    temporary = unfinished_folder(folder, progress.num_done)
    target = folder / f"step_{progress.num_done:08d}"
    (temporary / STATE_FILE).write_text(json.dumps(asdict(progress), indent=2) + "\n", encoding="utf-8")
    _flush(temporary / STATE_FILE)
    if target.exists():
        shutil.rmtree(target)
    temporary.rename(target)
    _flush(folder)
    found = training_checkpoints(folder)
    stay = set(found[-retention.num :])
    if retention.keep_best:
        scores = {path: score for path in found if (score := read_progress(path).score) is not None}
        stay |= {min(scores, key=scores.__getitem__)} if scores else set()
    for old in found:
        if old not in stay:
            shutil.rmtree(old)
    return target


def training_checkpoints(folder: Path) -> list[Path]:
    """The finished training checkpoints of a folder, oldest first."""
    return sorted(folder.glob("step_*"))


def read_progress(checkpoint: Path) -> Progress:
    """What `state.json` says; of a checkpoint of an older version, what it knew."""
    return Progress(**json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8")))


def tensor_files(checkpoint: Path) -> list[Path]:
    """One file a worker that wrote it; a tensor is in one of them only."""
    return sorted(checkpoint.glob("tensors*.safetensors"))


def load_training_checkpoint(checkpoint: Path, state: TrainState) -> None:
    """Reads the tensors into `state`, in place, so that devices and memory formats stay as they are.

    Raises:
        InputError: the checkpoint lacks tensors, or has some that the state does not: another network's.
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
        raise mismatch(f"{checkpoint} has the tensor {min(tensors)!r}, which this run has no place for")


def _tensors(state: TrainState) -> dict[str, Tensor]:
    """All tensors by name, each on the CPU, contiguous and in memory of its own, as safetensors wants them."""
    tensors = {f"module/{name}": tensor for name, tensor in state.module.state_dict().items()}
    if state.average is not None:
        tensors |= {f"average/{name}": tensor for name, tensor in state.average.state_dict().items()}
    for optimizer, prefix in optimizer_prefixes(state.optimizers):
        for name, parameter in updated_by(optimizer, state.parameters).items():
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{prefix}/{name}/{key}"] = value
    return {name: on_cpu(tensor) for name, tensor in tensors.items()}


def on_cpu(tensor: Tensor) -> Tensor:
    """A copy as safetensors wants it: on the CPU, contiguous, in memory of its own."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def optimizer_prefixes(optimizers: Sequence[Optimizer]) -> list[tuple[Optimizer, str]]:
    """The optimisers, each with what the names of its tensors begin with."""
    return [(optimizer, f"optimizer/{type(optimizer).__name__}") for optimizer in optimizers]


def updated_by(optimizer: Optimizer, parameters: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Those of the named parameters that are this optimiser's."""
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return {name: parameter for name, parameter in parameters.items() if id(parameter) in own}


def _take(tensors: dict[str, Tensor], key: str, checkpoint: Path) -> Tensor:
    if key not in tensors:
        raise mismatch(f"{checkpoint} lacks the tensor {key!r}")
    return tensors.pop(key)


def mismatch(message: str) -> InputError:
    """What is raised for a checkpoint that is another network's."""
    return InputError(
        code="checkpoint_mismatch",
        message=message,
        remedy="It is of another network or version of the code: train anew, into another output folder.",
    )


def like(parameter: Tensor, saved: Tensor) -> Tensor:
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
