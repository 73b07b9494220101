"""Progress bars on stderr; nothing is shown if that is not a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Bar:
    """A progress bar whose total may become known only during the work."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def at(self, done: int, total: int) -> None:
        """Show that `done` of `total` units are done."""
        self._progress.update(self._task, completed=done, total=total)


@contextmanager
def progress_bar(unit: str) -> Iterator[Bar]:
    """Show a progress bar that counts `unit`, such as "frames"."""
    console = Console(stderr=True)
    columns = (TextColumn(unit), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield Bar(progress, progress.add_task(unit, total=None))
