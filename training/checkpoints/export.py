"""Export of a trained checkpoint folder as one pipeline in half precision, with its provenance."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from diffusers import EulerDiscreteScheduler

from emotivetalk.errors import InputError
from emotivetalk.models.networks import NETWORKS
from emotivetalk.models.pipeline import EmotiveTalkPipeline
from emotivetalk.training.checkpoints.frozen_networks import frozen
from emotivetalk.training.checkpoints.provenance import PROVENANCE_FILE


def export(
    checkpoint: Path,
    output: Path,
    trained_on: str,
    image_size: int,
    chunk_frames: int,
    **sampling: float | None,
) -> int:
    """Write a pipeline of all stages' networks in half precision and return its size in bytes.

    Args:
        checkpoint: folder that the stages wrote their networks into.
        output: new folder; an existing one is replaced.
        trained_on: description of the training data for `provenance.json`.
        image_size: side in pixels of the pictures that the networks were trained on.
        chunk_frames: frames of the windows that ETHD was trained on.
        sampling: settings of `EmotiveTalkPipeline` that suit the networks: `num_steps`, `noise_scale`, ...

    Raises:
        InputError: a stage's network is missing.
    """
    missing = [name for name in [*NETWORKS, "scheduler"] if not (checkpoint / name).is_dir()]
    if missing:
        raise InputError(
            code="checkpoint_incomplete",
            message=f"{checkpoint} has no {', '.join(missing)}",
            remedy="Train the stages that make them first; train_configs/README.md lists their order.",
        )
    networks = {name: frozen(checkpoint, name).half() for name in NETWORKS}
    scheduler = EulerDiscreteScheduler.from_pretrained(checkpoint / "scheduler")
    pipeline = EmotiveTalkPipeline(
        **networks,
        scheduler=scheduler,
        image_size=image_size,
        chunk_frames=chunk_frames,
        **sampling,
    )
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    pipeline.save_pretrained(partial)
    stages = json.loads((checkpoint / PROVENANCE_FILE).read_text(encoding="utf-8"))["stages"]
    record = {"trained_on": trained_on, "stages": stages}
    (partial / PROVENANCE_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)
    return sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
