"""What several commands ask of their options before anything heavy is imported or loaded."""

from pathlib import Path

from emotivetalk.errors import InputError
from emotivetalk.files import check_writable, quoted


def check_output(path: Path, suffixes: tuple[str, ...], overwrite: bool) -> None:
    """Raise InputError unless a file can be written at `path` without losing one that the user wants to keep.

    Args:
        suffixes: endings that are allowed, such as (".mp4",).
        overwrite: the user said that what is there may go.
    """
    check_writable(path, suffixes)
    if path.exists() and not overwrite:
        raise InputError("output_exists", f"output {quoted(path)} exists", "Choose another name, or add --overwrite.")


def as_input_error(code: str, error: ValueError) -> InputError:
    """A ValueError that says "what is wrong. The remedy." about something the user gave, as an InputError."""
    message, _, remedy = str(error).partition(". ")
    return InputError(code, message.rstrip("."), remedy or "See --help.")
