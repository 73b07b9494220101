"""Networks of others that the field's metrics need, from files that the user has (ours: nothing is ever downloaded).

Each is a TorchScript file that maps tensors to tensors as its row says (`docs/evaluation.md` has the same table); code
that others wrote stays out of this project.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from emotivetalk.errors import InputError

VARIABLE = "EMOTIVETALK_WEIGHTS_"
"""Environment variables of this beginning, such as EMOTIVETALK_WEIGHTS_I3D, name files too."""

Network = Callable[..., Any]
"""Gives a tensor, or SyncNet two; a file's own promise, which its first use would break loudly."""


@dataclass(frozen=True)
class Need:
    """A network by its short name: what it is, and what it takes and gives."""

    name: str
    what: str
    measurements: str
    gives: str


NEEDS: Mapping[str, Need] = {
    need.name: need
    for need in (
        Need("inception", "Inception v3, for FID", "images 3 299 299, RGB in 0..255", "images dim (2048)"),
        Need("i3d", "I3D of Kinetics 400, for FVD", "videos 3 16 224 224, RGB in -1..1", "videos dim (400)"),
        Need(
            "syncnet",
            "SyncNet, for Sync-C and Sync-D",
            "mouths 3 5 224 224, RGB in 0..255, and speech 1 13 20, MFCC at 100 Hz",
            "two embeddings: moments dim, moments dim",
        ),
        Need(
            "expression",
            "a 3D face reconstruction's expression, for E-FID",
            "images 3 224 224, RGB in 0..1",
            "images dim",
        ),
        Need("face", "face recognition (ArcFace), for CSIM", "images 3 112 112, RGB in -1..1", "images dim"),
        Need("lpips", "LPIPS, backbone and all", "two of images 3 height width, RGB in -1..1", "images"),
    )
}


class Weights:
    """The networks that were given, loaded when they are first asked for.

    Args:
        files: by the names of NEEDS.

    Raises:
        InputError: a name that is not among them, or a file that is not there.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        for name, path in files.items():
            if name not in NEEDS:
                raise InputError(
                    "weights_unknown", f"there are no weights called '{name}'", f"There are {', '.join(NEEDS)}."
                )
            if not path.is_file():
                raise InputError(
                    "weights_missing", f"there are no {name} weights at {path}", "Give a TorchScript file."
                )
        self._files = dict(files)
        self._loaded: dict[str, Network] = {}

    def has(self, name: str) -> bool:
        """Whether its file was given."""
        return name in self._files

    def lacks(self, metrics: str, name: str) -> str:
        """The line that says what a metric wants."""
        return f"lacks: {metrics} wants {NEEDS[name].what.split(',')[0]} weights: --weights {name}=PATH"

    def network(self, name: str) -> Network:
        """The network, in evaluation mode on the CPU.

        Raises:
            InputError: the file is no TorchScript.
        """
        if name not in self._loaded:
            path = self._files[name]
            try:
                module = torch.jit.load(str(path), map_location="cpu").eval()
            except RuntimeError as error:
                raise InputError(
                    "weights_invalid",
                    f"{path} is no TorchScript file ({str(error).splitlines()[0]})",
                    "Save the network with torch.jit.script or torch.jit.trace.",
                ) from error
            self._loaded[name] = _plain(module)
        return self._loaded[name]


def weights_from(options: Sequence[str], environment: Mapping[str, str] = os.environ) -> Weights:
    """From NAME=PATH options, and from the environment where an option says nothing.

    Raises:
        InputError: an option of another form, an unknown name, or a missing file.
    """
    files = {
        name: Path(environment[VARIABLE + name.upper()]) for name in NEEDS if environment.get(VARIABLE + name.upper())
    }
    for option in options:
        name, equals, path = option.partition("=")
        if not equals or not path:
            raise InputError(
                "weights_option", f"'{option}' names no weights", "Write --weights NAME=PATH, such as i3d=i3d.pt."
            )
        files[name.strip()] = Path(path)
    return Weights(files)


def _plain(module: torch.jit.ScriptModule) -> Network:
    """Feature extractors that are passed around give classes unless they are asked for features; these are asked."""
    arguments = {argument.name for argument in module.forward.schema.arguments}
    asked = {"return_features": True, "rescale": False, "resize": False}
    chosen = {name: value for name, value in asked.items() if name in arguments}
    return lambda *given: module(*given, **chosen)
