"""Provenance of a checkpoint's networks: its `provenance.json`, with one entry per stage."""

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
    """Record under `stages.<name>` how a stage was trained; the rest of the file is kept.

    If training started from another checkpoint's networks (`stage.initial`), their entry is included as `initial`.

    Args:
        checkpoint: folder in diffusers' layout.
        name: the stage's name.
        settings: the run's configuration as JSON, without paths of the machine.
        metrics: metrics of the last validation.

    Raises:
        InputError: the file exists but holds no JSON object.
    """
    entry = {"config": settings, "metrics": metrics, "commit": _commit(), "torch": torch.__version__}
    initial = _initial_entry(settings, name)
    if initial is not None:
        # If `initial` is this very checkpoint and the run was recorded before, the entry there is the run's own.
        entry["initial"] = initial.get("initial") if initial.get("config") == settings else initial
    _record(checkpoint, name, entry)


def record_adoption(checkpoint: Path, name: str, source: str, sha256: str) -> None:
    """Record under `stages.<name>` that a network is third-party: its source and the digest of its weights.

    Raises:
        InputError: the file exists but holds no JSON object.
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
            remedy="Restore or delete it, then resume.",
        )
    return record


def _initial_entry(settings: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Return the entry of the networks that training started from, if there is one."""
    initial = settings.get("stage", {}).get("initial")
    return None if initial is None else _read(Path(initial) / PROVENANCE_FILE).get("stages", {}).get(name)


def _commit() -> str | None:
    """Return the commit of the code, with "+" if files differ from it; None outside a git checkout."""
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
