"""The part of an ablation that is trained: its stages, from a whole checkpoint's other networks (ours)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from emotivetalk.evaluation.ablations import Ablation
from emotivetalk.resources import shipped_folder
from emotivetalk.training.checkpoints.training_state import training_checkpoints
from emotivetalk.training.run.config import load_config
from emotivetalk.training.run.loop import train

CONFIGS = shipped_folder("train_configs")


def train_ablation(
    ablation: Ablation,
    base: Path,
    folder: Path,
    corpus: Path | None = None,
    size: str = "starter",
    overrides: Sequence[str] = (),
    console: Console | None = None,
) -> Path | None:
    """Trains an ablation's lessons in order, each going on where it was; returns the checkpoint to be measured.

    Args:
        ablation: one that trains something.
        base: a whole checkpoint. It is copied, and the trained networks take the places of its own.
        folder: for the runs and the checkpoint.
        corpus: for training and validation, with latents of its own in `folder`; None is what the YAMLs name, and the
            latents that the checkpoint's own training may have left.
        size: of the training YAMLs.
        overrides: for all of them, after the ablation's own.
        console: see `emotivetalk.training.run.loop.train`.

    Returns:
        The checkpoint's folder; None if a run was asked to stop before its end.

    Raises:
        InputError: there is no such YAML, or an override does not fit.
    """
    checkpoint = folder / "checkpoint"
    if not checkpoint.exists():
        partial = folder / ".checkpoint.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(base, partial)
        partial.rename(checkpoint)
    for lesson in ablation.trains:
        output = folder / lesson.stage
        paths = [
            f"output={output}",
            f"checkpoint={folder / lesson.into}",
            f"stage.checkpoint={base}",
        ]
        if corpus is not None:
            paths += [f"stage.corpus={corpus}", f"stage.cache={folder / 'latents'}"]
        own = [override.format(folder=folder) for override in (*lesson.change, *lesson.always)]
        config = load_config(CONFIGS / f"{lesson.stage}_{size}.yaml", [*paths, *own, *overrides])
        found = training_checkpoints(output / "training")
        if not train(config, resume=bool(found), console=console).is_finished:
            return None
    return checkpoint
