"""Lines of text on stdout and stderr that cannot fail the work they report."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import typer

from emotivetalk.errors import OutputError


def say(text: str | Path = "", *, err: bool = False, is_result: bool = False) -> None:
    """Write a line. If stdout is full or closed, the rest of stdout is discarded, and a note appears on stderr.

    Args:
        err: write to stderr. If that fails too, nothing happens.
        is_result: the line is what the command is for, so losing it is an error. A closed pipe is none: its reader has
            read enough, as `head` does.

    Raises:
        OutputError: a result could not be written.
    """
    try:
        typer.echo(text, err=err)
    except OSError as error:
        _discard(sys.stderr if err else sys.stdout)
        if err or isinstance(error, BrokenPipeError):
            return
        if is_result:
            raise OutputError(
                "stdout_failed", f"stdout could not be written ({error.strerror})", "Free some space, or use a pipe."
            ) from error
        say(f"note: stdout could not be written ({error.strerror}); it lacks: {text}", err=True)


def _discard(stream: TextIO) -> None:
    """Point a stream's file at nothing. Python writes what is left in the buffer at its exit, which would fail again."""
    with open(os.devnull, "w") as nothing, suppress(OSError):  # in-memory streams have no file
        os.dup2(nothing.fileno(), stream.fileno())
