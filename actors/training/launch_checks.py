"""Checks of a configuration for many workers, before anything starts."""

from __future__ import annotations

from emotivetalk.errors import InputError
from emotivetalk.training.run.config import TrainConfig
from emotivetalk.training.run.trainer import check_batch_size


def check(config: TrainConfig, num_workers: int, num_loaders: int = 0) -> None:
    """Check that a run can work.

    Args:
        num_loaders: number of loaders of all workers.

    Raises:
        InputError: Muon with ZeRO, or the batch or the loaders cannot be divided evenly.
    """
    if num_loaders % num_workers:
        raise InputError(
            code="loaders_uneven",
            message=f"{num_loaders} loaders cannot be divided evenly among {num_workers} workers",
            remedy=f"Make --loaders a multiple of {num_workers}, or 0 to make the batches in the workers.",
        )
    if config.zero and config.optimizer.name != "adamw":
        raise InputError(
            code="zero_optimizer",
            message=f"zero: {config.zero} partitions flat weights, and Muon needs whole matrices",
            remedy="Set optimizer.name=adamw, or zero=0.",
        )
    check_batch_size(config, num_workers)
