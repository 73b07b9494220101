"""Progress display of a run: a bar on a terminal, otherwise occasional lines."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from emotivetalk.training.run.log import StepRecord

LINE_INTERVAL_S = 30.0


class StepProgress:
    """Context manager that displays steps and validations on a console.

    Args:
        console: a terminal gets a bar, anything else a line at most every `LINE_INTERVAL_S` seconds.
        name: name of the stage.
        num_steps: number of steps of the whole run.
        num_done: number of steps done already.
    """

    def __init__(self, console: Console, name: str, num_steps: int, num_done: int) -> None:
        self._console, self._name, self._num_steps = console, name, num_steps
        self._last_line_s = -LINE_INTERVAL_S
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[values]}"), console=console)
            self._task = self._bar.add_task(name, total=num_steps, completed=num_done, values="")

    def __enter__(self) -> StepProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, record: StepRecord) -> None:
        """Advance the bar, or print a line if the last one is old enough."""
        terms = " ".join(f"{name} {value:.4g}" for name, value in record.terms.items())
        values = f"loss {record.loss:.4g} ({terms}) {record.samples_per_second:.1f} samples/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=record.step + 1, values=values)
            return
        is_last = record.step + 1 == self._num_steps
        if is_last or time.monotonic() - self._last_line_s >= LINE_INTERVAL_S:
            self._last_line_s = time.monotonic()
            self.line(f"{self._name} {record.step + 1}/{self._num_steps} {values}")

    def validation(self, num_done: int, metrics: dict[str, float]) -> None:
        """Print the metrics."""
        values = " ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self.line(f"{self._name} {num_done}/{self._num_steps} validation: {values}")

    def line(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
