"""Trained networks out of a folder, or one line that says what the folder lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError

from emotivetalk.errors import InputError
from emotivetalk.models.networks import NETWORKS, load_network

Network = TypeVar("Network")


def read_network(folder: Path, wanted: str, load: Callable[[Path], Network], code: str, remedy: str) -> Network:
    """What `load` reads from a network's folder.

    Args:
        wanted: what the folder should hold, for the message.

    Raises:
        InputError: with `code` and `remedy`: it isn't there, or is something else.
    """
    refusal = InputError(code, f"{folder} holds no {wanted}", remedy)
    if not (folder / "config.json").is_file():  # what is no folder, the libraries take for the name of one on the hub
        raise refusal
    try:
        return load(folder)
    except (OSError, ValueError, SafetensorError) as error:
        raise refusal from error


def frozen(checkpoint: Path, name: str) -> Any:
    """A network of `checkpoint` that earlier stages made, for one that does not train it.

    Raises:
        InputError: it is not there, or is of another class.
    """
    return read_network(
        checkpoint / name,
        " or ".join(network.__name__ for network in NETWORKS[name]),
        lambda folder: load_network(folder.parent, name),
        code="checkpoint_incomplete",
        remedy="Train the stages that make it first; train_configs/README.md has their order.",
    )
