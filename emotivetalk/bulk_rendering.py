"""`emotivetalk render` without its options: the service that it starts, its progress and its summary."""

from __future__ import annotations

import dataclasses
import signal
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from emotivetalk.client.bulk.outputs import PRIVATE_FOLDER, OutputFolder, RowResult
from emotivetalk.client.bulk.report import write_report
from emotivetalk.client.bulk.rows import RowRules
from emotivetalk.client.bulk.runner import BulkRenderer, RunSettings, Summary, planned_rows
from emotivetalk.client.client import Client
from emotivetalk.output import say

INTERRUPTED = 130
_STATUS_EVERY_S = 10.0


@dataclass(frozen=True)
class EmbeddedService:
    """A service for one command: on loopback, a free port, and with its data in the output folder.

    Attributes:
        config: YAML of Ray Serve's schema. Its job store and artifact store, if named, are used. None is `serve_configs/local.yaml`.
        output: output folder of the run.
        checkpoint: checkpoint folder; None is the starter.
        address: address of a running Ray cluster; None starts one on this machine.
        rows_at_once: jobs that the service admits at the same time.
    """

    output: Path
    checkpoint: Path | None
    address: str | None
    rows_at_once: int
    config: Path | None = None

    def find_checkpoint(self) -> Path:
        """Return the folder of the checkpoint that renders: the command's, the configuration's, or the starter's.

        Raises:
            InputError: there is none.
        """
        from emotivetalk.media.checkpoints import find_checkpoint

        if self.checkpoint is None and self.config is not None:
            from emotivetalk.actors.serving.launch import read_plan

            return find_checkpoint(read_plan(self.config).config.checkpoint)
        return find_checkpoint(self.checkpoint)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Start the service and yield its URL."""
        from emotivetalk.actors.serving.gateway.settings import CallerLimits
        from emotivetalk.actors.serving.launch import CONFIGS, Service, read_plan

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        plan = read_plan(self.config or CONFIGS / "local.yaml")
        limits = CallerLimits(
            requests_per_minute=1_000_000, max_concurrent_jobs=self.rows_at_once, max_upload_mb=10_000
        )
        config = plan.config.model_copy(
            update={
                "data": (self.output / PRIVATE_FOLDER / "service").resolve(),
                "checkpoint": self.find_checkpoint(),
                "grpc": plan.config.grpc.model_copy(update={"port": None}),
                "gateway": plan.config.gateway.model_copy(
                    update={"limits": limits, "tokens_file": None, "allow_anonymous": True}
                ),
            }
        )
        say("starting: Ray, gateway, director, V-AID, ETHD, decoder", err=True)
        plan = dataclasses.replace(plan.with_config(config), host="127.0.0.1", port=port)
        with Service(plan, self.address):
            yield f"http://127.0.0.1:{port}"


def check_rows(manifest: str, rules: RowRules) -> int:
    """Check every row of a manifest, report the failures, and return the command's exit status."""
    num_rows = num_failed = 0
    for row in planned_rows(manifest, rules):
        num_rows += 1
        if isinstance(row, RowResult):
            num_failed += 1
            say(f"row {row.row}: {row.error_code}: {row.error_message}")
    say(f"{num_rows - num_failed} of {num_rows} rows are valid; faces and speech are looked for when they are rendered")
    return 1 if num_failed else 0


def render_rows(
    manifest: str, rules: RowRules, output: Path, settings: RunSettings, service: str | EmbeddedService
) -> int:
    """Render a manifest, write results and report, and return the command's exit status.

    Args:
        service: URL of a running service, or the one to start.
    """
    outputs = OutputFolder(output)
    started: AbstractContextManager[str] = nullcontext(service) if isinstance(service, str) else service.running()
    with started as url, Client(url) as client, _Display() as display:
        renderer = BulkRenderer(client, outputs, settings, display.show)
        display.attach(renderer)
        summary = renderer.run(manifest, rules)
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
        if self._renderer is not None:
            self._renderer.stop()
        signal.signal(number, self._before[signal.Signals(number)])  # a second one ends the command at once
        say("stopping: press Ctrl-C again to end at once", err=True)


def _summarize(summary: Summary, elapsed_s: float) -> None:
    say(
        f"{summary.completed} done, {summary.skipped} skipped, {summary.failed} failed; {summary.video_s:.1f} s of video in "
        f"{elapsed_s:.1f} s ({summary.video_s / max(elapsed_s, 1e-3):.2f} seconds per second)"
    )
    if len(summary.latencies_s) > 1:
        cuts = statistics.quantiles(summary.latencies_s, n=20, method="inclusive")
        say(f"time of a row: median {statistics.median(summary.latencies_s):.1f} s, 95 % within {cuts[18]:.1f} s")
    for code, number in sorted(summary.failures.items()):
        say(f"failed with {code}: {number}")
