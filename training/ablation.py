"""Training of an ablation: its changed stages, with the other networks taken from a complete checkpoint (ours)."""

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
    """Train an ablation's stages in order, resuming those that were interrupted, and return the checkpoint to measure.

    Args:
        ablation: an ablation that trains something.
        base: complete checkpoint. It is copied, and the trained networks replace its own.
        folder: folder for the runs and the checkpoint.
        corpus: corpus for training and validation, whose latents are cached in `folder` (None: the corpus and cache that
            the YAMLs name).
        size: size of the training YAMLs.
        overrides: overrides for all YAMLs, applied after the ablation's own.
        console: see `emotivetalk.training.run.loop.train`.

    Returns:
        The checkpoint's folder; None if a run was stopped before its end.

    Raises:
        InputError: there is no such YAML, or an override is invalid.
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
        has_started = bool(training_checkpoints(output / "training"))
        if not train(config, resume=has_started, console=console).is_finished:
            return None
    return checkpoint
