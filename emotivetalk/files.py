"""Checks of input and output files, and atomic writing."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emotivetalk.errors import InputError, OutputError

MIN_FREE_BYTES = 32_000_000


def quoted(path: Path) -> str:
    """Return the path for messages: in quotes, and on one line whatever the name contains."""
    return repr(str(path))


def check_readable(path: Path, kind: str, max_bytes: int) -> None:
    """Raise InputError unless `path` is a readable, non-empty file of at most `max_bytes`.

    Args:
        kind: subject of the message and prefix of the code: "image", "audio", "video".
    """
    name = f"{kind} {quoted(path)}"
    try:
        if path.is_dir():
            raise InputError(f"{kind}_is_folder", f"{name} is a folder, not a file", f"Give one {kind} file.")
        if not path.exists():
            raise InputError(f"{kind}_missing", f"{name} does not exist", "Check the path.")
        if not path.is_file():
            raise InputError(f"{kind}_not_regular", f"{name} is not a regular file", "Save it to a file first.")
        with path.open("rb"):
            num_bytes = path.stat().st_size
    except OSError as error:
        raise InputError(
            f"{kind}_unreadable", f"{name} cannot be read ({error.strerror})", "Check its path and permissions."
        ) from error
    if num_bytes == 0:
        raise InputError(f"{kind}_empty", f"{name} is empty (0 bytes)", "Copy or export it again.")
    if num_bytes > max_bytes:
        raise InputError(
            f"{kind}_too_many_bytes",
            f"{name} has {num_bytes / 1e6:.0f} MB; the limit is {max_bytes / 1e6:.0f} MB",
            "Compress or shorten it, or raise the limit on its bytes.",
        )


def check_writable(path: Path, suffixes: tuple[str, ...] = (), needed_bytes: int = MIN_FREE_BYTES) -> None:
    """Raise InputError unless a file can be written at `path`. Call it before the work, not after.

    Args:
        suffixes: allowed endings, lower case with the dot; empty allows any.
        needed_bytes: free space that the disk must have.
    """
    name = f"output {quoted(path)}"
    if suffixes and path.suffix.lower() not in suffixes:
        raise InputError(
            "output_format", f"{name} does not end with {' or '.join(suffixes)}", "Give it a name with this ending."
        )
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(
            "output_folder_missing", f"the folder {quoted(folder)} of {name} does not exist", "Create the folder first."
        )
    if path.is_dir():
        raise InputError("output_is_folder", f"{name} is a folder", "Give the name of a file in it.")
    if path.exists() and not path.is_file():
        raise InputError("output_not_regular", f"{name} is not a regular file", "Give another name.")
    try:
        _create_beside(path).unlink()
    except OSError as error:
        raise InputError(
            "output_unwritable", f"{name} cannot be written ({error.strerror})", "Choose a folder you may write to."
        ) from error
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise InputError(
            "output_no_space",
            f"the disk of {name} has {free_bytes / 1e6:.0f} MB free; {needed_bytes / 1e6:.0f} MB are needed",
            "Free some space, or write to another disk.",
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the body, which writes `path`, into an OutputError."""
    try:
        yield
    except OSError as error:
        no_space = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise OutputError(
            "output_no_space" if no_space else "output_failed",
            f"output {quoted(path)} could not be written ({error.strerror or error})",
            "Free some space or choose another folder, and run it again.",
        ) from error


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path`, which replaces `path` at the end, or is removed after an exception.

    Exceptions of the body pass unchanged; the body wraps its own writing in `writing`.

    Raises:
        OutputError: the temporary file could not be made or put in place.
    """
    target = path.resolve()  # through a symbolic link: its target is replaced, not the link
    with writing(path):
        temporary = _create_beside(target)
    try:
        yield temporary
        with writing(path):
            _sync(temporary)
            os.replace(temporary, target)
            _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _create_beside(path: Path) -> Path:
    """Create an empty hidden file beside `path`, with the permissions of any new file (mkstemp's are private)."""
    temporary = path.absolute().with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return temporary


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
