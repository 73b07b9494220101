"""Loading of trained networks, with one clear error if a folder does not hold the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError

from emotivetalk.errors import InputError
from emotivetalk.models.networks import NETWORKS, load_network

NetworkT = TypeVar("NetworkT")


def read_network(folder: Path, wanted: str, load: Callable[[Path], NetworkT], code: str, remedy: str) -> NetworkT:
    """Load a network from its folder.

    Args:
        folder: folder of one network.
        wanted: description of the network, for the error message.
        load: function that loads it.
        code, remedy: of the error.

    Raises:
        InputError: the folder is missing, or holds something else.
    """
    missing = InputError(code, f"{folder} holds no {wanted}", remedy)
    if not (folder / "config.json").is_file():  # the libraries take a path that does not exist for a hub id
        raise missing
    try:
        return load(folder)
    except (OSError, ValueError, SafetensorError) as error:
        raise missing from error


def frozen(checkpoint: Path, name: str) -> Any:
    """Load the network `name` that an earlier stage wrote into `checkpoint`, for a stage that does not train it.

    Raises:
        InputError: the network is missing, or is of another class.
    """
    return read_network(
        checkpoint / name,
        " or ".join(network.__name__ for network in NETWORKS[name]),
        lambda folder: load_network(folder.parent, name),
        code="checkpoint_incomplete",
        remedy="Train the stages that make it first; train_configs/README.md lists their order.",
    )
