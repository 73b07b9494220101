"""The client's HTTP side of files and batches: `/v1/files` and `/v1/batches`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx

from emotivetalk.client.batches import Batch, BatchError
from emotivetalk.client.videos import CHUNK_BYTES, UPLOAD_TIMEOUT_S, checked_id


class HttpBatches:
    """The operations of files and batches, through a transport's `call` and `reading`."""

    def __init__(
        self,
        call: Callable[..., Any],
        reading: Callable[[str, float | None], AbstractContextManager[httpx.Response]],
    ) -> None:
        self._call, self._reading = call, reading

    def upload(self, path: Path, purpose: str) -> str:
        with path.open("rb") as file:
            fields = {"data": {"purpose": purpose}, "files": {"file": (path.name, file)}}
            return self._call("POST", "/v1/files", **fields, timeout=UPLOAD_TIMEOUT_S)["id"]

    def content(self, file_id: str) -> Iterator[bytes]:
        with self._reading(f"/v1/files/{checked_id(file_id)}/content", 60.0) as response:
            yield from response.iter_bytes(CHUNK_BYTES)

    def delete_file(self, file_id: str) -> None:
        self._call("DELETE", f"/v1/files/{checked_id(file_id)}")

    def create(self, file_id: str, completion_window: str, metadata: Mapping[str, str]) -> Batch:
        body = {
            "input_file_id": file_id,
            "endpoint": "/v1/videos",
            "completion_window": completion_window,
            "metadata": dict(metadata) or None,
        }
        return _batch(self._call("POST", "/v1/batches", json=body))

    def get(self, batch_id: str) -> Batch:
        return _batch(self._call("GET", f"/v1/batches/{checked_id(batch_id)}"))

    def list(self, limit: int, after: str | None) -> tuple[Batch, ...]:
        params = {"limit": limit} | ({} if after is None else {"after": after})
        return tuple(map(_batch, self._call("GET", "/v1/batches", params=params)["data"]))

    def cancel(self, batch_id: str) -> Batch:
        return _batch(self._call("POST", f"/v1/batches/{checked_id(batch_id)}/cancel"))


def _batch(found: dict[str, Any]) -> Batch:
    counts, errors = found["request_counts"], (found["errors"] or {"data": []})["data"]
    return Batch(
        id=found["id"],
        status=found["status"],
        input_file_id=found["input_file_id"],
        output_file_id=found["output_file_id"],
        error_file_id=found["error_file_id"],
        num_total=counts["total"],
        num_completed=counts["completed"],
        num_failed=counts["failed"],
        created_at=found["created_at"],
        expires_at=found["expires_at"],
        errors=tuple(BatchError(error["code"], error["message"], error["line"]) for error in errors),
        metadata=found["metadata"] or {},
    )
