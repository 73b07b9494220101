"""Where a checkpoint's networks come from: its `provenance.json`, one entry a stage."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from emotivetalk.errors import InputError

PROVENANCE_FILE = "provenance.json"


def record_training(checkpoint: Path, name: str, settings: dict[str, Any], metrics: dict[str, float]) -> None:
    """Writes how a stage was trained under `stages.<name>`, and leaves all else in the file as it is.

    Where it began from another checkpoint's networks (`stage.initial`), how those were trained goes along as `initial`.

    Args:
        checkpoint: a folder of diffusers' layout.
        name: the stage's.
        settings: its configuration, JSON, without the machine's paths.
        metrics: of its last validation.

    Raises:
        InputError: the file is there, but holds no JSON object.
    """
    entry = {"config": settings, "metrics": metrics, "commit": _commit(), "torch": torch.__version__}
    before = _initial(settings, name)
    if before is not None:
        # Where `initial` is this very checkpoint, and this run has been recorded before, its entry is our own.
        entry["initial"] = before.get("initial") if before.get("config") == settings else before
    _record(checkpoint, name, entry)


def record_adoption(checkpoint: Path, name: str, source: str, sha256: str) -> None:
    """Writes under `stages.<name>` that a network was trained by others: where it came from, and its weights' digest.

    Raises:
        InputError: the file is there, but holds no JSON object.
    """
    _record(checkpoint, name, {"adopted": source, "sha256": sha256})


def _record(checkpoint: Path, name: str, entry: dict[str, Any]) -> None:
    file = checkpoint / PROVENANCE_FILE
    record = _read(file)
    record["stages"] = record.get("stages", {}) | {name: entry}
    temporary = file.with_name(f".{file.name}")
    temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    temporary.replace(file)


def _read(file: Path) -> dict[str, Any]:
    try:
        record = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise InputError(
            code="checkpoint_invalid",
            message=f"{file} holds no JSON object",
            remedy="Restore or delete it, and resume.",
        )
    return record


def _initial(settings: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """How the networks that the stage began from were trained, if that is known."""
    initial = settings.get("stage", {}).get("initial")
    return None if initial is None else _read(Path(initial) / PROVENANCE_FILE).get("stages", {}).get(name)


def _commit() -> str | None:
    """The commit of the code, "+" if it was changed since; none outside a git checkout."""
    folder = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
