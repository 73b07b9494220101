"""`emotivetalk train --dry-run`: estimate a run's memory before anything starts."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch
from rich.console import Console
from rich.table import Table

from emotivetalk.actors.training.launch_checks import check
from emotivetalk.errors import InputError
from emotivetalk.training.run.config import TrainConfig
from emotivetalk.training.stages.stage import Stage

FLOAT_BYTES = 4  # weights, gradients, moments and averages are float32, also with bf16


@dataclass(frozen=True)
class Size:
    """Numbers of parameters. Of the trained ones, `num_muon` have one moment and the others two."""

    num_trained: int
    num_frozen: int
    num_muon: int

    @staticmethod
    def of(stage: Stage, config: TrainConfig) -> Size:
        """Count the parameters of a stage's module."""
        trained = sum(p.numel() for p in stage.module.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in stage.module.parameters() if not p.requires_grad)
        is_muon = config.optimizer.name == "muon"
        hidden = stage.optimizer_groups().hidden.values() if is_muon else []
        return Size(trained, frozen, sum(p.numel() for p in hidden))


@dataclass(frozen=True)
class Memory:
    """Bytes that one worker holds permanently. Temporary memory, above all activations, is not included."""

    weights: int
    gradients: int
    moments: int
    average: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.moments + self.average

    @staticmethod
    def of(size: Size, config: TrainConfig, zero: int, num_workers: int) -> Memory:
        """Estimate the memory of one of `num_workers` workers with a ZeRO stage (0: none)."""
        trained, frozen = size.num_trained * FLOAT_BYTES, size.num_frozen * FLOAT_BYTES
        moments = (2 * size.num_trained - size.num_muon) * FLOAT_BYTES
        share = trained // num_workers
        # ZeRO 1 and 2 update a copy of the worker's share of the weights; ZeRO 3 has that copy and the share itself.
        weights = {0: trained + frozen, 3: 2 * share + frozen // num_workers}.get(zero, trained + frozen + share)
        return Memory(
            weights=weights,
            gradients=trained if zero < 2 else share,
            moments=moments if zero == 0 else moments // num_workers,
            average=0 if config.ema_decay is None else share,
        )


def dry_run(stage: Stage, config: TrainConfig, num_workers: int, console: Console) -> None:
    """Print the size of a run and its memory for each ZeRO stage.

    Args:
        stage: built from `config`.
        num_workers: number of workers.

    Raises:
        InputError: the run does not fit into this machine, or `check` rejects the configuration.
    """
    check(config, num_workers)
    size = Size.of(stage, config)
    console.print(
        f"{config.name}: {size.num_trained:,} parameters are trained, {size.num_frozen:,} are frozen", highlight=False
    )
    micro = config.batch_size // (num_workers * config.accumulate)
    console.print(
        f"{config.steps} steps of {config.batch_size} samples: {num_workers} workers x {config.accumulate} "
        f"micro-batches x {micro}; {config.steps * config.batch_size:,} samples in all, {config.optimizer.name}, "
        f"{config.precision}",
        highlight=False,
    )
    table = Table("ZeRO", "weights", "gradients", "moments", "average", "each worker", title="bytes kept by a worker")
    for zero in range(4):
        memory = Memory.of(size, config, zero, num_workers)
        cells = (memory.weights, memory.gradients, memory.moments, memory.average, memory.total)
        name = f"{zero} (this run)" if zero == config.zero else f"{zero}"
        table.add_row(name, *(_readable(cell) for cell in cells))
    console.print(table)
    needed, room, place = _room(Memory.of(size, config, config.zero, num_workers).total, config, num_workers)
    console.print(f"needed, without activations: {_readable(needed)}; {place}: {_readable(room)}", highlight=False)
    if needed > room:
        raise InputError(
            code="does_not_fit",
            message=f"{needed / 1e9:.3g} GB cannot fit: {place} is {room / 1e9:.3g} GB",
            remedy="Use more workers with a higher --zero, on more machines, or a smaller network.",
        )


def _room(per_worker: int, config: TrainConfig, num_workers: int) -> tuple[int, int, str]:
    """Return the bytes needed and available, and what kind of memory: on this machine, one of many in a cluster."""
    if config.device == "cuda" and torch.cuda.is_available():
        return per_worker, torch.cuda.get_device_properties(0).total_memory, "memory of each GPU here"
    return per_worker * num_workers, psutil.virtual_memory().available, "free memory of this machine"


def _readable(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.2f} MB"
