"""Exclusive lock on a folder of a run or a cache, held by one process at a time."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from emotivetalk.errors import InputError, OutputError

LOCK_FILE = ".lock"


@contextmanager
def claimed(output: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Create a folder if it is missing and lock it. The kernel releases the lock however the process ends.

    Args:
        output: the folder.
        wait_s: seconds to wait for another process to release the lock.

    Raises:
        InputError: another process holds the lock, for example one that is still saving after Ctrl-C.
        OutputError: the folder cannot be created or written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        opened = (output / LOCK_FILE).open("w")
    except OSError as error:
        raise OutputError(
            "run_unwritable", f"{output} cannot be written: {error.strerror}", "Set another output."
        ) from error
    with opened as lock:
        end = time.monotonic() + wait_s
        while not _locked(lock):
            if time.monotonic() > end:
                raise InputError(
                    code="run_in_use",
                    message=f"another process is training in {output}",
                    remedy="Wait until it has ended, or set another output.",
                )
            time.sleep(0.1)
        yield


def _locked(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
