"""One process at a time in a folder: a run's, or a cache's."""

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
    """Hold a folder, which is made if need be. However the process ends, the kernel lets it go.

    Args:
        wait_s: how long to wait for a process that holds it, in seconds.

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
