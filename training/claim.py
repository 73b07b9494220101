"""One process at a time in a run's folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from media.errors import InputError, OutputError

LOCK_FILE = ".lock"


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Hold a run's folder, which is made if need be. However the process ends, the kernel lets it go.

    Raises:
        InputError: another process holds it: one that is still saving after Ctrl-C, say.
        OutputError: the folder cannot be made or written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        opened = (output / LOCK_FILE).open("w")
    except OSError as error:
        raise OutputError(
            "run_unwritable", f"{output} cannot be written: {error.strerror}", "Set another output."
        ) from error
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                code="run_in_use",
                message=f"another process is training in {output}",
                remedy="Wait until it has ended, or set another output.",
            ) from error
        yield
