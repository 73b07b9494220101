"""What a configuration must hold for many workers, checked before anything is started."""

from __future__ import annotations

from emotivetalk.errors import InputError
from emotivetalk.training.run.config import TrainConfig
from emotivetalk.training.run.trainer import check_batch_size


def check(config: TrainConfig, num_workers: int, num_loaders: int = 0) -> None:
    """Refuses what cannot work.

    Args:
        num_loaders: over all workers.

    Raises:
        InputError: Muon with ZeRO, or a batch or the loaders cannot be dealt evenly.
    """
    if num_loaders % num_workers:
        raise InputError(
            code="loaders_uneven",
            message=f"{num_loaders} loaders cannot be dealt evenly to {num_workers} workers",
            remedy=f"Make --loaders a multiple of {num_workers}, or 0: then the workers make the batches themselves.",
        )
    if config.zero and config.optimizer.name != "adamw":
        raise InputError(
            code="zero_optimizer",
            message=f"zero: {config.zero} keeps flat parts of the weights, and Muon needs whole matrices",
            remedy="Set optimizer.name=adamw, or zero=0.",
        )
    check_batch_size(config, num_workers)
