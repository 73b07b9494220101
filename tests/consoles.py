"""Consoles for tests."""

from io import StringIO

from rich.console import Console


def text_console() -> Console:
    """Return a console that writes into a string: `console.file.getvalue()`."""
    return Console(file=StringIO(), width=200, force_terminal=False)
