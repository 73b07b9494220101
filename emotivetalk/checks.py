"""Checks of a command's options that run before anything heavy is imported or loaded."""

from pathlib import Path

from emotivetalk.errors import InputError
from emotivetalk.files import check_writable, quoted


def check_output(path: Path, suffixes: tuple[str, ...], overwrite: bool) -> None:
    """Raise InputError unless a file can be written at `path` without losing one that the user wants to keep.

    Args:
        suffixes: allowed endings, such as (".mp4",).
        overwrite: the user allows replacing an existing file.
    """
    check_writable(path, suffixes)
    if path.exists() and not overwrite:
        raise InputError("output_exists", f"output {quoted(path)} exists", "Choose another name, or add --overwrite.")
