"""Batches over either protocol: upload a manifest, follow its rows, read its results."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from emotivetalk.errors import EmotiveTalkError
from emotivetalk.files import check_readable
from emotivetalk.limits import Limits, say_duration

FINAL = ("completed", "failed", "expired", "cancelled")
_MANIFEST_BYTES = 200_000_000


@dataclass(frozen=True)
class BatchError:
    """A reason why a whole batch failed; `line` counts from 1, None is the whole manifest."""

    code: str
    message: str
    line: int | None


@dataclass(frozen=True)
class Batch:
    """A snapshot of a batch.

    Attributes:
        id: "batch_" and 32 hexadecimal digits.
        status: "validating", "in_progress", "finalizing", "cancelling", or one of `FINAL`.
        output_file_id, error_file_id: files of results, once the batch has ended; None where there is none.
        num_total, num_completed, num_failed: counts of rows.
        created_at, expires_at: whole seconds since the epoch, UTC.
        errors: reasons why the whole batch failed.
    """

    id: str
    status: str
    input_file_id: str
    output_file_id: str | None
    error_file_id: str | None
    num_total: int
    num_completed: int
    num_failed: int
    created_at: int
    expires_at: int
    errors: tuple[BatchError, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """True if the batch will not change any more."""
        return self.status in FINAL


class BatchTransport(Protocol):
    """The operations of a protocol. All raise EmotiveTalkError, with the service's code if it answered with one."""

    def upload(self, path: Path, purpose: str) -> str: ...

    def content(self, file_id: str) -> Iterator[bytes]: ...

    def delete_file(self, file_id: str) -> None: ...

    def create(self, file_id: str, completion_window: str, metadata: Mapping[str, str]) -> Batch: ...

    def get(self, batch_id: str) -> Batch: ...

    def list(self, limit: int, after: str | None) -> tuple[Batch, ...]: ...

    def cancel(self, batch_id: str) -> Batch: ...


class Batches:
    """Files and batches of the service, as `client.batches`::

    portrait = client.batches.upload("teacher.png")  # rows name it as {"file_id": portrait}
    batch = client.batches.create("rows.jsonl")
    for row in client.batches.results(client.batches.wait(batch.id)):
        print(row["custom_id"], row["error"] or row["response"]["body"]["id"])
    """

    def __init__(self, transport: BatchTransport) -> None:
        self._transport = transport

    def upload(self, path: str | os.PathLike[str], purpose: Literal["user_data", "batch"] = "user_data") -> str:
        """Store a file on the service, and return its id. Rows and `Client.create` can name it instead of a file.

        Raises:
            InputError: the file cannot be read, or the service refuses it.
        """
        return self._transport.upload(_readable(path), purpose)

    def download(self, file_id: str) -> Iterator[bytes]:
        """Yield the content of a stored file."""
        return self._transport.content(file_id)

    def delete_file(self, file_id: str) -> None:
        """Remove a stored file. Videos that were made of it stay."""
        self._transport.delete_file(file_id)

    def create(
        self,
        manifest: str | os.PathLike[str],
        *,
        completion_window: str = "24h",
        metadata: Mapping[str, str] | None = None,
    ) -> Batch:
        """Upload a manifest and make a batch of it. Its files are URLs, stored files or data URLs, never local paths.

        Args:
            manifest: a JSONL file; docs/bulk.md describes the format.
            completion_window: "1h" to "168h"; rows without a video by then fail.
            metadata: notes that the service returns with the batch.
        """
        file_id = self._transport.upload(_readable(manifest), "batch")
        return self._transport.create(file_id, completion_window, metadata or {})

    def get(self, batch_id: str) -> Batch:
        """Return a batch's current state."""
        return self._transport.get(batch_id)

    def list(self, *, limit: int = 20, after: str | None = None) -> tuple[Batch, ...]:
        """Return a page of your batches, newest first, after the batch with the id `after`."""
        return self._transport.list(limit, after)

    def cancel(self, batch_id: str) -> Batch:
        """Begin to cancel a batch. Finished videos stay."""
        return self._transport.cancel(batch_id)

    def watch(self, batch_id: str, *, poll_s: float = 1.0) -> Iterator[Batch]:
        """Yield a batch's state, now and at each change, until it is final."""
        last = None
        while last is None or not last.is_final:
            if last is not None:
                time.sleep(poll_s)
            batch = self.get(batch_id)
            if batch != last:
                yield batch
            last = batch

    def wait(self, batch_id: str, *, timeout_s: float | None = None, poll_s: float = 1.0) -> Batch:
        """Wait until a batch has ended.

        Raises:
            EmotiveTalkError: code "wait_timeout": it has not ended after `timeout_s` seconds.
        """
        start = time.monotonic()
        while not (batch := self.get(batch_id)).is_final:
            if timeout_s is not None and time.monotonic() - start > timeout_s:
                message = f"batch {batch_id} has not ended after {say_duration(timeout_s)}"
                raise EmotiveTalkError("wait_timeout", message, "It goes on; wait for it again.")
            time.sleep(poll_s)
        return batch

    def results(self, batch: Batch) -> Iterator[dict[str, Any]]:
        """Yield a line for each row of an ended batch, finished videos first; docs/bulk.md describes the fields."""
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id is not None:
                yield from map(json.loads, _lines(self._transport.content(file_id)))


def _readable(path: str | os.PathLike[str]) -> Path:
    checked = Path(path)
    check_readable(checked, "file", max(_MANIFEST_BYTES, Limits().media_bytes))
    return checked


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        yield rest
