"""Where checkpoints are, which one it is, and what its provenance says."""

import hashlib
import json
from pathlib import Path

from emotivetalk.errors import InputError
from emotivetalk.resources import shipped_folder

STARTER = shipped_folder("checkpoints") / "starter"


def find_checkpoint(folder: Path | None) -> Path:
    """The checkpoint folder that the user named, or the starter that ships with the project.

    Raises:
        InputError: it is no checkpoint folder (one has `model_index.json`), or there is no starter.
    """
    if folder is None:
        if (STARTER / "model_index.json").is_file():
            return STARTER
        raise InputError(
            "checkpoint_missing", f"the starter checkpoint is not at {STARTER}", "Name another with --checkpoint."
        )
    if not (folder / "model_index.json").is_file():
        raise InputError(
            "checkpoint_invalid",
            f"--checkpoint {folder} has no model_index.json",
            "Give the folder of a checkpoint, such as checkpoints/starter.",
        )
    _check_module_names(folder)
    return folder


def _check_module_names(folder: Path) -> None:
    """Refuse a checkpoint from before the networks moved to `emotivetalk.models`."""
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    old = [entry[0] for entry in index.values() if isinstance(entry, list) and str(entry[0]).startswith("models.")]
    if old:
        raise InputError(
            "checkpoint_outdated",
            f"{folder / 'model_index.json'} names {old[0]}, which is emotivetalk.{old[0]} today",
            "Put 'emotivetalk.' before each 'models.' in that file.",
        )


def trained_on(checkpoint: Path) -> str | None:
    """What `provenance.json` says that the checkpoint was trained on; None where it doesn't say."""
    provenance = checkpoint / "provenance.json"
    if not provenance.is_file():
        return None
    try:
        record = json.loads(provenance.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            "checkpoint_invalid", f"{provenance} is not JSON: {error}", "Restore the checkpoint."
        ) from error
    said = record.get("trained_on") if isinstance(record, dict) else None
    return said if isinstance(said, str) else None


def checkpoint_id(checkpoint: Path) -> str:
    """Return the folder's name and a hash of its files but the model card, such as "starter-3f9a0c12"."""
    digest = hashlib.sha256()
    for path in sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.suffix != ".md"):
        with path.open("rb") as file:
            digest.update(str(path.relative_to(checkpoint)).encode() + hashlib.file_digest(file, "sha256").digest())
    return f"{checkpoint.resolve().name}-{digest.hexdigest()[:8]}"
