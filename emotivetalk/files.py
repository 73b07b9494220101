"""Files of the user: check inputs and outputs, and write outputs whole or not at all."""

import errno
import os
import secrets
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from emotivetalk.errors import InputError, OutputError

MIN_FREE_BYTES = 32_000_000
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))

_temporaries: set[Path] = set()  # that this process is writing; removed by `_remove_and_die`


def quoted(path: Path) -> str:
    """Quote a path for a message: on one line, whatever the name contains."""
    return repr(str(path))


def check_readable(path: Path, kind: str, max_bytes: int) -> None:
    """Raise InputError unless `path` is a readable, non-empty file of at most `max_bytes`.

    Args:
        kind: "image", "audio" or "video": the subject of the message and the prefix of the code.
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
        needed_bytes: least free space on the disk.
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
    if path.is_symlink() and not path.exists():
        raise InputError(
            "output_dangling_link", f"{name} is a link to nothing", "Remove the link, or give another name."
        )
    if path.exists() and not path.is_file():
        raise InputError("output_not_regular", f"{name} is not a regular file", "Give another name.")
    target = path.resolve()
    try:
        _create_beside(target).unlink()
    except OSError as error:
        raise InputError(
            "output_unwritable", f"{name} cannot be written ({error.strerror})", "Choose a folder you may write to."
        ) from error
    free_bytes = shutil.disk_usage(target.parent).free
    if free_bytes < needed_bytes:
        raise InputError(
            "output_no_space",
            f"the disk of {name} has {free_bytes / 1e6:.0f} MB free; {needed_bytes / 1e6:.0f} MB are needed",
            "Free some space, or write to another disk.",
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError while `path` is written into an OutputError."""
    try:
        yield
    except OSError as error:
        no_space = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise OutputError(
            "output_no_space" if no_space else "output_failed",
            f"output {quoted(path)} could not be written ({error.strerror or error})",
            "Free some space or choose another folder, and run it again.",
        ) from error


def check_not_input(output: Path, inputs: Mapping[str, Path]) -> None:
    """Raise InputError if the output is one of the inputs, under this or another name.

    Args:
        inputs: the existing input files by their kind, such as "audio".
    """
    for kind, path in inputs.items():
        if output.exists() and path.exists() and output.samefile(path):
            raise InputError(
                "output_is_input", f"output {quoted(output)} is the {kind} file {quoted(path)}", "Give another name."
            )


@contextmanager
def atomic_write(path: Path, keep_existing: bool = False) -> Iterator[Path]:
    """Give a temporary file in the folder of `path`; it becomes `path` at the end, or is removed on any exception.

    SIGTERM and SIGHUP remove it too. Exceptions of the body pass unchanged: the body wraps its own writing in `writing`.

    Args:
        keep_existing: never replace a file that is at `path` by the end.

    Raises:
        OutputError: the temporary file could not be created, or not be put in place.
        InputError: a file is at `path`, and is to be kept.
    """
    target = path.resolve()  # of a symbolic link, the target is replaced, not the link
    with writing(path):
        temporary = _create_beside(target)
    try:
        with _removed_on_signals(temporary):
            yield temporary
            with writing(path):
                _sync(temporary)
                if keep_existing:
                    _link_new(temporary, target, path)
                else:
                    os.replace(temporary, target)
                _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _link_new(temporary: Path, target: Path, path: Path) -> None:
    """Give a file the name `target`, which no other process may have given in the meantime."""
    try:
        os.link(temporary, target)
    except FileExistsError as error:
        raise InputError(
            "output_exists",
            f"output {quoted(path)} was written by another program in the meantime",
            "Choose another name, or add --overwrite.",
        ) from error


@contextmanager
def _removed_on_signals(temporary: Path) -> Iterator[None]:
    """Remove the file before a signal ends the process. Only the main thread may change what signals do."""
    _temporaries.add(temporary)
    changed = []
    if threading.current_thread() is threading.main_thread():
        changed = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in changed:
        signal.signal(number, _remove_and_die)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)
        _temporaries.discard(temporary)


def _remove_and_die(number: int, frame: object) -> None:
    for temporary in _temporaries:
        temporary.unlink(missing_ok=True)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


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
