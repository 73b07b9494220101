"""Initialisation of a stage's networks with trained weights; the error for another architecture names what differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.models.modeling_utils import ModelMixin

from emotivetalk.errors import InputError
from emotivetalk.models.ethd import ETHD
from emotivetalk.models.weights import import_unet
from emotivetalk.training.checkpoints.frozen_networks import read_network

_MAX_NAMED = 3
"""Differing weights that an error names."""


def load_initial_weights(
    module: ModelMixin, folder: Path, may_lack: Callable[[str], bool] = lambda name: False
) -> ModelMixin:
    """Copy the weights of a network of the same class into `module`; returns that network, for its configuration.

    Args:
        module: the network to initialise.
        folder: folder of one network of a checkpoint, such as `build/checkpoints/starter/ethd`.
        may_lack: tells by name which weights the network may lack; these stay as they are in `module`.

    Raises:
        InputError: there is no such network, or it has another architecture.
    """
    network = _read_network(type(module), folder)
    initial, own = network.state_dict(), module.state_dict()
    initial = {name: weight for name, weight in own.items() if may_lack(name)} | initial
    differing = [name for name in sorted(initial.keys() | own.keys()) if _shape(initial, name) != _shape(own, name)]
    if differing:
        named = "; ".join(
            f"{name} is {_shape(initial, name)} there and {_shape(own, name)} here" for name in differing[:_MAX_NAMED]
        )
        more = f"; and {len(differing) - _MAX_NAMED} more" if len(differing) > _MAX_NAMED else ""
        raise InputError(
            code="initial_differs",
            message=f"{folder} has another architecture: {named}{more}",
            remedy="Give the stage the sizes that the checkpoint was trained with, or set stage.initial to another one.",
        )
    module.load_state_dict(initial)
    return network


def load_initial_ethd(ethd: ETHD, checkpoint: Path) -> None:
    """Copy the weights of a checkpoint's ETHD, or of Stable Video Diffusion's U-Net, into `ethd`.

    Args:
        ethd: the network to initialise.
        checkpoint: folder of this project with `ethd/`, or Stable Video Diffusion's with `unet/`
            (`emotivetalk.models.weights.import_unet`).

    Raises:
        InputError: the folder has neither, or the network has another architecture.
    """
    if (checkpoint / "ethd").is_dir() or not (checkpoint / "unet" / "config.json").is_file():
        load_initial_weights(ethd, checkpoint / "ethd")
        return
    unet = _read_network(UNetSpatioTemporalConditionModel, checkpoint / "unet")
    try:
        import_unet(unet, ethd)
    except ValueError as error:
        raise InputError(
            code="initial_differs",
            message=f"{checkpoint / 'unet'} has another architecture: {error}",
            remedy="Give the stage its widths, levels and heads; train_configs/ethd_full.yaml has those of the released model.",
        ) from error


def _read_network(network: type[ModelMixin], folder: Path) -> ModelMixin:
    return read_network(
        folder,
        f"{network.__name__} to start from",
        lambda path: network.from_pretrained(path, torch_dtype=torch.float32),
        code="initial_unreadable",
        remedy="Train it first, or set stage.initial to another checkpoint.",
    )


def _shape(weights: dict[str, torch.Tensor], name: str) -> str:
    return " x ".join(map(str, weights[name].shape)) or "a scalar" if name in weights else "missing"
