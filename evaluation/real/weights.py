"""Third-party networks for the field's metrics, loaded from the user's TorchScript files (ours; nothing is downloaded).

`NETWORKS` lists the input and output of each network; `docs/evaluation.md` has the same table.
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
"""Prefix of environment variables that name files, such as EMOTIVETALK_WEIGHTS_I3D."""

ScriptedNetwork = Callable[..., Any]
"""Loaded network; it returns one tensor, SyncNet two. Types are not checked before the first call."""


@dataclass(frozen=True)
class NetworkSpec:
    """A network: its short name, a description, and the shapes of its inputs and outputs."""

    name: str
    description: str
    inputs: str
    outputs: str


NETWORKS: Mapping[str, NetworkSpec] = {
    spec.name: spec
    for spec in (
        NetworkSpec("inception", "Inception v3, for FID", "images 3 299 299, RGB in 0..255", "images dim (2048)"),
        NetworkSpec("i3d", "I3D of Kinetics 400, for FVD", "videos 3 16 224 224, RGB in -1..1", "videos dim (400)"),
        NetworkSpec(
            "syncnet",
            "SyncNet, for Sync-C and Sync-D",
            "mouths 3 5 224 224, RGB in 0..255, and speech 1 13 20, MFCC at 100 Hz",
            "two embeddings: moments dim, moments dim",
        ),
        NetworkSpec(
            "expression",
            "a 3D face reconstruction's expression, for E-FID",
            "images 3 224 224, RGB in 0..1",
            "images dim",
        ),
        NetworkSpec("face", "face recognition (ArcFace), for CSIM", "images 3 112 112, RGB in -1..1", "images dim"),
        NetworkSpec("lpips", "LPIPS, backbone and all", "two of images 3 height width, RGB in -1..1", "images"),
    )
}


class Weights:
    """The user's networks; each is loaded on first use.

    Args:
        files: files by the names of NETWORKS.

    Raises:
        InputError: a name is unknown, or a file does not exist.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        for name, path in files.items():
            if name not in NETWORKS:
                raise InputError(
                    "weights_unknown", f"weights '{name}' are unknown", f"Choose among {', '.join(NETWORKS)}."
                )
            if not path.is_file():
                raise InputError(
                    "weights_missing", f"there are no {name} weights at {path}", "Give the path of a TorchScript file."
                )
        self._files = dict(files)
        self._loaded: dict[str, ScriptedNetwork] = {}

    def has(self, name: str) -> bool:
        """Return True if the user gave a file for this network."""
        return name in self._files

    def missing_text(self, metrics: str, name: str) -> str:
        """Return the report's line for metrics whose weights are missing."""
        return f"lacks: {metrics} needs {NETWORKS[name].description.split(',')[0]} weights: --weights {name}=PATH"

    def network(self, name: str) -> ScriptedNetwork:
        """Return the network in evaluation mode on the CPU.

        Raises:
            InputError: the file is no TorchScript file.
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
            self._loaded[name] = _feature_extractor(module)
        return self._loaded[name]


def weights_from(options: Sequence[str], environment: Mapping[str, str] = os.environ) -> Weights:
    """Collect weights from NAME=PATH options and from environment variables; options take precedence.

    Raises:
        InputError: an option has another form, a name is unknown, or a file does not exist.
    """
    files = {
        name: Path(environment[VARIABLE + name.upper()])
        for name in NETWORKS
        if environment.get(VARIABLE + name.upper())
    }
    for option in options:
        name, equals, path = option.partition("=")
        if not equals or not path:
            raise InputError(
                "weights_option", f"--weights '{option}' is not NAME=PATH", "Give for example --weights i3d=i3d.pt."
            )
        files[name.strip()] = Path(path)
    return Weights(files)


def _feature_extractor(module: torch.jit.ScriptModule) -> ScriptedNetwork:
    """Wrap a network so that it returns features; published Inception and I3D files return classes by default."""
    parameters = {argument.name for argument in module.forward.schema.arguments}
    feature_options = {"return_features": True, "rescale": False, "resize": False}
    options = {name: value for name, value in feature_options.items() if name in parameters}
    return lambda *inputs: module(*inputs, **options)
