"""Beginning from trained networks: a checkpoint's weights into a stage's own module, or what differs, by name."""

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

_NAMED = 3


def begin_from(module: ModelMixin, folder: Path, may_lack: Callable[[str], bool] = lambda name: False) -> ModelMixin:
    """Put the weights of a network of the same kind into `module`; returns that network, for its configuration.

    Args:
        folder: of one network of a checkpoint, `build/checkpoints/starter/ethd` say.
        may_lack: whether that network may lack the weight of this name; in `module` it stays as it was initialised.

    Raises:
        InputError: there is no such network, or it has another architecture.
    """
    initial = _initial(type(module), folder)
    theirs, ours = initial.state_dict(), module.state_dict()
    theirs = {name: weight for name, weight in ours.items() if may_lack(name)} | theirs
    differing = [name for name in sorted(theirs.keys() | ours.keys()) if _shape(theirs, name) != _shape(ours, name)]
    if differing:
        named = "; ".join(
            f"{name} is {_shape(theirs, name)} there and {_shape(ours, name)} here" for name in differing[:_NAMED]
        )
        more = f"; and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
        raise InputError(
            code="initial_differs",
            message=f"{folder} has another architecture: {named}{more}",
            remedy="Give the stage the sizes that it was trained with, or begin from another checkpoint.",
        )
    module.load_state_dict(theirs)
    return initial


def begin_ethd(ethd: ETHD, checkpoint: Path) -> None:
    """Put into `ethd` the weights of a checkpoint's own ETHD, or of Stable Video Diffusion's U-Net.

    Args:
        checkpoint: of this project, with `ethd/`; or Stable Video Diffusion's, with `unet/` (`emotivetalk.models.weights.import_unet`).

    Raises:
        InputError: there is neither, or it has another architecture.
    """
    if (checkpoint / "ethd").is_dir() or not (checkpoint / "unet" / "config.json").is_file():
        begin_from(ethd, checkpoint / "ethd")
        return
    unet = _initial(UNetSpatioTemporalConditionModel, checkpoint / "unet")
    try:
        import_unet(unet, ethd)
    except ValueError as error:
        raise InputError(
            code="initial_differs",
            message=f"{checkpoint / 'unet'} has another architecture: {error}",
            remedy="Give the stage its widths, levels and heads; train_configs/ethd_full.yaml has the released model's.",
        ) from error


def _initial(network: type[ModelMixin], folder: Path) -> ModelMixin:
    return read_network(
        folder,
        f"{network.__name__} to begin from",
        lambda found: network.from_pretrained(found, torch_dtype=torch.float32),
        code="initial_unreadable",
        remedy="Train it first, or set stage.initial to another checkpoint.",
    )


def _shape(weights: dict[str, torch.Tensor], name: str) -> str:
    return " x ".join(map(str, weights[name].shape)) or "a scalar" if name in weights else "missing"
