"""Checkpoint folders: find one, check that it is whole, identify it, read its provenance."""

import hashlib
import json
import struct
from pathlib import Path

from emotivetalk.errors import InputError
from emotivetalk.resources import shipped_folder

STARTER = shipped_folder("checkpoints") / "starter"
LFS_POINTER = b"version https://git-lfs"


def find_checkpoint(folder: Path | None) -> Path:
    """Return the checkpoint folder that the user named, or the starter that comes with the project.

    Raises:
        InputError: it is no checkpoint folder (one has `model_index.json`), its files are damaged, or the starter is missing.
    """
    if folder is None:
        if (STARTER / "model_index.json").is_file():
            _check_files(STARTER)
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
    _check_files(folder)
    _check_module_names(folder)
    return folder


def _check_files(folder: Path) -> None:
    """Raise InputError for JSON that cannot be parsed and for weights that are cut off or Git LFS pointers."""
    for path in sorted(folder.rglob("*.json")):
        _check_not_pointer(path)
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _damaged(path, f"is not JSON ({error})") from error
    for path in sorted(folder.rglob("*.safetensors")):
        _check_not_pointer(path)
        _check_weights(path)


def _check_not_pointer(path: Path) -> None:
    try:
        with path.open("rb") as file:
            is_pointer = file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from error
    if is_pointer:
        raise InputError(
            "checkpoint_invalid", f"{path} is a Git LFS pointer, not the file itself", "Run: git lfs pull."
        )


def _check_weights(path: Path) -> None:
    """Compare a file's size with its header: its length in 8 bytes, then JSON with the range of each tensor's bytes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        num_header = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if num_header > size - 8:
            raise _damaged(path, "is cut off")
        try:
            entries = json.loads(file.read(num_header))
            ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            raise _damaged(path, "has a damaged header") from error
    if 8 + num_header + max(ends, default=0) != size:
        raise _damaged(path, f"is cut off: {size} bytes of {8 + num_header + max(ends, default=0)} are there")


def _damaged(path: Path, what: str) -> InputError:
    return InputError("checkpoint_invalid", f"{path} {what}", "Copy or download the checkpoint again.")


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
    """Read from `provenance.json` what the checkpoint was trained on; None if it does not say."""
    provenance = checkpoint / "provenance.json"
    if not provenance.is_file():
        return None
    try:
        record = json.loads(provenance.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            "checkpoint_invalid", f"{provenance} is not JSON: {error}", "Restore the checkpoint."
        ) from error
    value = record.get("trained_on") if isinstance(record, dict) else None
    return value if isinstance(value, str) else None


def checkpoint_id(checkpoint: Path) -> str:
    """Return the folder's name and a hash of its files but the model card, such as "starter-3f9a0c12"."""
    digest = hashlib.sha256()
    for path in sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.suffix != ".md"):
        with path.open("rb") as file:
            digest.update(str(path.relative_to(checkpoint)).encode() + hashlib.file_digest(file, "sha256").digest())
    return f"{checkpoint.resolve().name}-{digest.hexdigest()[:8]}"
