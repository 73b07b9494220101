"""Folders that ship with the package: checkpoints and configurations."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped_folder(name: str) -> Path:
    """Return a folder that ships with the package, such as "checkpoints" or "train_configs".

    It lies inside the package where that is installed from a wheel, and beside it in a checkout.
    """
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def find_config(path: Path, folder: str) -> Path:
    """Return `path` if it exists, else the shipped file of that name in `folder`, else `path` unchanged."""
    if path.exists():
        return path
    shipped = shipped_folder(folder) / path.name
    return shipped if shipped.is_file() else path
