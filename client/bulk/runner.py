"""The loop of a bulk rendering: rows go to a service, a bounded number at a time, and their videos to the output folder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from emotivetalk.client.bulk.manifest import ManifestRow, read_manifest
from emotivetalk.client.bulk.outputs import OutputFolder, RowResult, error_result
from emotivetalk.client.bulk.rows import BulkRow, RowRules, plan_row
from emotivetalk.client.client import PATIENCE_S, Client
from emotivetalk.client.videos import Order, Video
from emotivetalk.errors import EmotiveTalkError, InputError, OutputError, OverloadError

ResultT = TypeVar("ResultT")

_POLLS_PER_S = 5.0  # of all rows together, half of what a token may ask by default
_TRANSIENT = ("service_unreachable", "service_timeout")


class StoppedError(Exception):
    """The run was asked to stop before the row had ended."""


@dataclass
class Summary:
    """Counts of the rows that have ended, the seconds of video that were made, and the seconds of computation for them."""

    completed: int = 0
    skipped: int = 0
    failed: int = 0
    video_s: float = 0.0
    device_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    last_error: str | None = None

    @property
    def num_ended(self) -> int:
        return self.completed + self.skipped + self.failed

    def add(self, result: RowResult) -> None:
        """Count a row."""
        setattr(self, result.status, getattr(self, result.status) + 1)
        if result.status == "completed":
            self.video_s += result.video_s or 0.0
            self.device_s += result.device_s or 0.0
            self.latencies_s.append(result.elapsed_s or 0.0)
        if result.status == "failed" and result.error_code is not None:
            self.failures[result.error_code] = self.failures.get(result.error_code, 0) + 1
            self.last_error = f"row {result.row}: {result.error_message}"


@dataclass(frozen=True)
class RunSettings:
    """Settings of a bulk run.

    Attributes:
        rows_at_once: rows that are with the service at the same time.
        retry_failed: try rows again that failed in an earlier run.
        keep_on_service: leave finished videos on the service.
        patience_s: time without an answer of the service after which the run ends.
    """

    rows_at_once: int = 8
    retry_failed: bool = False
    keep_on_service: bool = True
    patience_s: float = PATIENCE_S


class BulkRenderer:
    """One run over a manifest.

    A row is sent with an idempotency key made of its contents. A run that was killed therefore finds the videos that it
    had ordered, finished or under way, and orders none twice.

    Args:
        client: connection to the service that renders.
        outputs: folder of the results.
        on_result: called for each row that has ended, from one thread.
    """

    def __init__(
        self, client: Client, outputs: OutputFolder, settings: RunSettings, on_result: Callable[[RowResult], None]
    ) -> None:
        self._client, self._outputs, self._settings, self._on_result = client, outputs, settings, on_result
        self._stop = threading.Event()
        self.summary = Summary()

    def stop(self) -> None:
        """Ask the run to stop. Videos under way stay with the service, and a later run continues with them."""
        self._stop.set()

    @property
    def is_stopped(self) -> bool:
        return self._stop.is_set()

    def run(self, location: str, rules: RowRules) -> Summary:
        """Render all rows of a manifest, or those that end before `stop`.

        Raises:
            InputError: the manifest cannot be used.
            EmotiveTalkError: the service stays unreachable, or the outputs cannot be written.
        """
        rows = planned_rows(location, rules)
        with self._outputs.results() as write, ThreadPoolExecutor(self._settings.rows_at_once) as threads:
            try:
                self._run(rows, threads, write)
            except BaseException:
                self.stop()
                raise
        return self.summary

    def _run(
        self,
        rows: Iterator[BulkRow | RowResult],
        threads: ThreadPoolExecutor,
        write: Callable[[RowResult], None],
    ) -> None:
        pending: set[Future[RowResult]] = set()

        def collect(futures: set[Future[RowResult]]) -> None:
            for future in futures:
                with suppress(StoppedError):
                    end(future.result())

        def end(result: RowResult) -> None:
            write(result)
            self.summary.add(result)
            self._on_result(result)

        for row in rows:
            if self.is_stopped:
                break
            if isinstance(row, RowResult):
                end(row)
                continue
            known = self._known(row)
            if known is not None:
                end(known)
                continue
            while len(pending) >= self._settings.rows_at_once:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                collect(done)
            pending.add(threads.submit(self._render, row))
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            collect(done)

    def _known(self, row: BulkRow) -> RowResult | None:
        """Return the result of a row that an earlier run ended."""
        finished = self._outputs.finished(row)
        if finished is not None or self._settings.retry_failed:
            return finished
        return self._outputs.failure(row)

    def _render(self, row: BulkRow) -> RowResult:
        earlier = self._outputs.failure(row)
        attempts = 1 + (0 if earlier is None else earlier.attempts)
        start = time.monotonic()
        try:
            video = self._ended(self._repeated(lambda: self._order(row, attempts)))
            if video.error is not None:
                raise EmotiveTalkError(video.error.code, video.error.message.rstrip("."), "")
            if video.status != "completed":
                raise EmotiveTalkError("video_cancelled", "the service cancelled the video", "Use --retry-failed.")
            result = RowResult(
                row.number,
                row.row_id,
                "completed",
                attempts=attempts,
                video_s=video.duration_s,
                elapsed_s=round(time.monotonic() - start, 3),
                device_s=video.device_s,
            )
            ended = self._outputs.complete(row, result, lambda path: self._download(video, path))
        except OutputError:
            raise
        except EmotiveTalkError as error:
            if error.code in _TRANSIENT:
                raise
            failed = error_result(row.number, row.row_id, error, attempts)
            self._outputs.fail(row, failed)
            return failed
        if not self._settings.keep_on_service:
            with suppress(EmotiveTalkError):  # it expires by itself
                self._client.delete(video.id)
        return ended

    def _order(self, row: BulkRow, attempt: int) -> Video:
        order = Order(
            row.portrait,
            row.audio,
            row.emotion,
            row.emotion_file,
            row.settings,
            webhook_url=None,
            idempotency_key=f"bulk-{row.fingerprint}-{attempt}",
        )
        return self._client.submit(order)

    def _ended(self, video: Video) -> Video:
        while not video.is_final:
            if self._stop.wait(max(0.5, self._settings.rows_at_once / _POLLS_PER_S)):
                raise StoppedError
            video = self._repeated(partial(self._client.get, video.id))
        return video

    def _download(self, video: Video, path: Path) -> None:
        self._repeated(lambda: self._client.download(video.id, path))

    def _repeated(self, call: Callable[[], ResultT]) -> ResultT:
        """Call until the service has room and answers; give up after `patience_s` without an answer."""
        last_answer = time.monotonic()
        while True:
            try:
                return call()
            except OverloadError as error:
                last_answer, pause_s = time.monotonic(), error.retry_after_s or 1.0
            except EmotiveTalkError as error:
                if error.code not in _TRANSIENT or time.monotonic() - last_answer > self._settings.patience_s:
                    raise
                pause_s = 1.0
            if self._stop.wait(pause_s):
                raise StoppedError


def planned_rows(location: str, rules: RowRules) -> Iterator[BulkRow | RowResult]:
    """Yield each row of a manifest, checked; a row that cannot be made is yielded as its failed result.

    Raises:
        InputError: the manifest cannot be used.
    """
    first: dict[str, int] = {}
    for found in read_manifest(location):
        try:
            row = _planned(found, rules)
            if row.row_id in first:
                raise InputError(
                    "row_duplicate", f"row {first[row.row_id]} has the same id {row.row_id}", "Remove one, or name it."
                )
        except EmotiveTalkError as error:
            yield error_result(found.number, None, error)
            continue
        first[row.row_id] = row.number
        yield row


def _planned(found: ManifestRow, rules: RowRules) -> BulkRow:
    if found.error is not None:
        raise found.error
    assert found.values is not None
    return plan_row(found.number, found.values, rules)
