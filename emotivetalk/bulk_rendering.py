"""`emotivetalk render` without its options: its progress and its summary."""

from __future__ import annotations

import signal
import statistics
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from emotivetalk.client.bulk.outputs import OutputFolder
from emotivetalk.client.bulk.report import write_report
from emotivetalk.client.bulk.rows import RowRules
from emotivetalk.client.bulk.runner import BulkRenderer, RunSettings, Summary
from emotivetalk.client.client import Client
from emotivetalk.embedded_service import EmbeddedService
from emotivetalk.errors import EmotiveTalkError
from emotivetalk.output import say

INTERRUPTED = 130
_STATUS_EVERY_S = 10.0


def render_rows(
    manifest: str, rules: RowRules, output: Path, settings: RunSettings, service: str | EmbeddedService
) -> int:
    """Render a manifest, write results and report, and return the command's exit status.

    Args:
        service: URL of a running service, or the one to start.
    """
    outputs, lost = OutputFolder(output), list[EmotiveTalkError]()
    display = _Display()

    def give_up(error: EmotiveTalkError) -> None:
        lost.append(error)
        display.stop_run()

    started: AbstractContextManager[str] = (
        nullcontext(service) if isinstance(service, str) else service.running(give_up)
    )
    with started as url, Client(url) as client, display:
        renderer = BulkRenderer(client, outputs, settings, display.show)
        display.attach(renderer)
        summary = renderer.run(manifest, rules)
    if lost:
        raise lost[0]
    write_report(output / "results.jsonl", output / "report.html", f"Videos of {Path(manifest).name}")
    _summarize(summary, display.elapsed_s)
    say(f"results: {output / 'results.jsonl'}; report: {output / 'report.html'}")
    if renderer.is_stopped:
        say("stopped: the same command continues where this one ended", err=True)
        return INTERRUPTED
    if summary.failed:
        say("the same command with --retry-failed tries the failed rows again", err=True)
    return 1 if summary.failed else 0


class _Display:
    """Progress on stderr: a live line in a terminal, else a plain line now and then. Ctrl-C stops the run gently."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()
        self.elapsed_s = 0.0
        self._renderer: BulkRenderer | None = None
        self._live: Any = None

    def __enter__(self) -> _Display:
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in self._before:
            signal.signal(number, self._stop)
        console = Console(stderr=True)
        if console.is_terminal:
            self._live = Live(console=console, get_renderable=self._line, refresh_per_second=2)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.elapsed_s = time.monotonic() - self._start
        if self._live is not None:
            self._live.stop()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def attach(self, renderer: BulkRenderer) -> None:
        """Show this run."""
        self._renderer = renderer

    def show(self, result: object) -> None:
        """Note that a row has ended."""
        if self._live is None and time.monotonic() - self._last > _STATUS_EVERY_S:
            self._last = time.monotonic()
            say(self._line(), err=True)

    def stop_run(self) -> None:
        """Stop the run that is shown."""
        if self._renderer is not None:
            self._renderer.stop()

    def _line(self) -> str:
        if self._renderer is None:
            return ""
        summary = self._renderer.summary
        elapsed_s = time.monotonic() - self._start
        line = (
            f"{summary.completed} done, {summary.skipped} skipped, {summary.failed} failed; "
            f"{summary.video_s:.0f} s of video in {elapsed_s:.0f} s ({summary.video_s / max(elapsed_s, 1e-3):.2f} x)"
        )
        return line if summary.last_error is None else f"{line}; last error: {summary.last_error}"

    def _stop(self, number: int, frame: object) -> None:
        self.stop_run()
        signal.signal(number, self._before[signal.Signals(number)])  # a second one ends the command at once
        say("stopping: press Ctrl-C again to end at once", err=True)


def _summarize(summary: Summary, elapsed_s: float) -> None:
    say(
        f"{summary.completed} done, {summary.skipped} skipped, {summary.failed} failed; {summary.video_s:.1f} s of video in "
        f"{elapsed_s:.1f} s ({summary.video_s / max(elapsed_s, 1e-3):.2f} seconds per second"
        + (f", {summary.video_s / summary.device_s:.2f} per second of computation)" if summary.device_s else ")")
    )
    if len(summary.latencies_s) > 1:
        cuts = statistics.quantiles(summary.latencies_s, n=20, method="inclusive")
        say(f"time of a row: median {statistics.median(summary.latencies_s):.1f} s, 95 % within {cuts[18]:.1f} s")
    for code, number in sorted(summary.failures.items()):
        say(f"failed with {code}: {number}")
