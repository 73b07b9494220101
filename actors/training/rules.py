"""What a configuration must hold for many workers, checked before anything is started."""

from __future__ import annotations

from media.errors import InputError
from training.config import TrainConfig
from training.trainer import check_batch_size


def check(config: TrainConfig, num_workers: int) -> None:
    """Refuses what cannot work.

    Raises:
        InputError: Muon with ZeRO, or a batch that cannot be dealt evenly.
    """
    if config.zero and config.optimizer.name != "adamw":
        raise InputError(
            code="zero_optimizer",
            message=f"zero: {config.zero} keeps flat parts of the weights, and Muon needs whole matrices",
            remedy="Set optimizer.name=adamw, or zero=0.",
        )
    check_batch_size(config, num_workers)
