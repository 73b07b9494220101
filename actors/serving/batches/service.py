"""Uploaded files and batches, as the front doors see them."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, Literal

from emotivetalk.actors.errors import OverloadError
from emotivetalk.actors.serving.gateway.settings import BatchSettings
from emotivetalk.actors.serving.intake.submission import Caller, Upload
from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore, read_pieces
from emotivetalk.actors.serving.jobs.batch_records import Batch, BatchStatus, Page, StoredFile
from emotivetalk.actors.serving.jobs.batch_store import BatchStore
from emotivetalk.actors.serving.jobs.files import JobFiles
from emotivetalk.actors.serving.jobs.records import new_id
from emotivetalk.actors.serving.jobs.store import JobStore
from emotivetalk.actors.serving.threads import in_thread
from emotivetalk.errors import InvalidRequestError
from emotivetalk.request.batch_line import ENDPOINT

PURPOSES = ("batch", "user_data", "vision", "character", "batch_output")
MAX_WINDOW_H = 168
MAX_METADATA = 16
_HOUR_S = 3600.0
_WINDOW = re.compile(r"([1-9][0-9]{0,2})h")


def stored_folder(artifacts: ArtifactStore, stored_id: str) -> str:
    """Return the artifact folder of a job or of an uploaded file."""
    return f"files/{stored_id}" if stored_id.startswith("file-") else JobFiles(artifacts, stored_id).folder


class BatchService:
    """Stores files, and creates, reports and cancels batches. `BatchRunner` does their work.

    Methods that take an id raise FileNotFoundInStoreError or BatchNotFoundError, also if another caller owns it.
    """

    def __init__(self, jobs: JobStore, artifacts: ArtifactStore, settings: BatchSettings, executor: Executor) -> None:
        self.store, self.artifacts, self.settings = BatchStore(jobs), artifacts, settings
        self._jobs, self._io = jobs, executor

    # ------------------------------------------------------------------------------------------------------------ files

    async def create_file(
        self, caller: Caller, upload: Upload, purpose: str, *, expires_after_s: float | None = None
    ) -> StoredFile:
        """Store an upload.

        Raises:
            InvalidRequestError: the purpose is unknown, or the file is empty.
            OverloadError: code "too_many_files": the caller's files would be larger than `limits.max_stored_mb`.
        """
        if purpose not in PURPOSES or purpose == "batch_output":
            raise InvalidRequestError("purpose", f"it is {purpose[:50]!r}; use {', '.join(PURPOSES[:-1])}")
        if expires_after_s is not None and not _HOUR_S <= expires_after_s <= self.settings.file_retention_s:
            raise InvalidRequestError(
                "expires_after", f"it must be {_HOUR_S:g} to {self.settings.file_retention_s:g} seconds"
            )
        num_bytes = (await in_thread(self._io, upload.path.stat)).st_size
        if num_bytes == 0:
            raise InvalidRequestError("file", "it is empty")
        held = await in_thread(self._io, self.store.stored_bytes, caller.name)
        if held + num_bytes > caller.limits.max_stored_mb * 1_000_000:
            raise OverloadError(
                "too_many_files",
                f"your files would have more than {caller.limits.max_stored_mb} MB, which is the limit limits.max_stored_mb; "
                "delete some",
                60.0,
            )
        return await in_thread(self._io, self.put_file, caller.name, upload.path, upload.name, purpose, expires_after_s)

    def put_file(
        self, owner: str, path: Path, filename: str, purpose: str, expires_after_s: float | None = None
    ) -> StoredFile:
        """Store a local file (blocking): its content, then its row. Without the row, the content is removed later."""
        now = self._jobs.clock()
        file = StoredFile(
            file_id=new_id("file-", now),
            owner=owner,
            filename=filename,
            purpose=purpose,
            num_bytes=path.stat().st_size,
            created_at=now,
            expires_at=now + (expires_after_s or self.settings.file_retention_s),
        )
        self._jobs.reserve(file.file_id)
        self.artifacts.upload(path, content_path(file))
        self.store.create_file(file)
        return file

    async def file(self, caller: Caller, file_id: str) -> StoredFile:
        """Return a file's record."""
        return await in_thread(self._io, self.store.file, file_id, caller.name)

    async def list_files(self, caller: Caller, **page: Any) -> Page:
        """Return a page of the caller's files; see `BatchStore.list_files`."""
        return await in_thread(self._io, partial(self.store.list_files, caller.name, **page))

    async def delete_file(self, caller: Caller, file_id: str) -> None:
        """Remove a file. Batches and videos that were made of it stay."""
        await in_thread(self._io, self.store.delete_file, file_id, caller.name)

    def read_file(self, file: StoredFile) -> AsyncGenerator[bytes, None]:
        """Yield the content in pieces of at most 256 KiB."""
        return read_pieces(self._io, self.artifacts, content_path(file), 0, file.num_bytes)

    async def fetch_file(self, file_id: str, owner: str, folder: Path) -> Upload:
        """Copy a stored file into a folder; an `intake.preparation.FetchFile`."""
        file = await in_thread(self._io, self.store.file, file_id, owner)
        path = folder / "content"
        await in_thread(self._io, self._copy, file, path)
        return Upload(file.filename, path)

    def _copy(self, file: StoredFile, path: Path) -> None:
        with self.artifacts.local(content_path(file)) as source:
            shutil.copyfile(source, path)

    # ---------------------------------------------------------------------------------------------------------- batches

    async def create(
        self,
        caller: Caller,
        input_file_id: str,
        *,
        endpoint: str = ENDPOINT,
        completion_window: str = "24h",
        metadata: dict[str, str] | None = None,
    ) -> Batch:
        """Create a batch of an uploaded manifest. Its rows are read, checked and rendered afterwards.

        Raises:
            InvalidRequestError: an argument is invalid.
            InputError: the file was not uploaded with the purpose "batch".
            TooManyBatchesError: the caller has too many unfinished batches.
        """
        if endpoint != ENDPOINT:
            raise InvalidRequestError("endpoint", f"it is {endpoint[:50]!r}; batches here call {ENDPOINT}")
        window = _WINDOW.fullmatch(completion_window)
        if window is None or int(window[1]) > MAX_WINDOW_H:
            raise InvalidRequestError(
                "completion_window", f"it is {completion_window[:50]!r}; write 1h to {MAX_WINDOW_H}h, such as 24h"
            )
        if metadata is not None and len(metadata) > MAX_METADATA:
            raise InvalidRequestError("metadata", f"it has more than {MAX_METADATA} entries")
        now = self._jobs.clock()
        batch = Batch(
            batch_id=new_id("batch_", now),
            owner=caller.name,
            endpoint=endpoint,
            completion_window=completion_window,
            input_file_id=input_file_id,
            status=BatchStatus.VALIDATING,
            metadata=metadata,
            created_at=now,
            expires_at=now + int(window[1]) * _HOUR_S,
        )
        return await in_thread(self._io, self.store.create, batch, caller.limits.max_batches)

    async def get(self, caller: Caller, batch_id: str) -> Batch:
        """Return the batch's current state."""
        return await in_thread(self._io, self.store.get, batch_id, caller.name)

    async def list(
        self, caller: Caller, *, limit: int = 20, after: str | None = None, order: Literal["asc", "desc"] = "desc"
    ) -> Page:
        """Return a page of the caller's batches by time of creation."""
        return await in_thread(self._io, partial(self.store.list, caller.name, limit=limit, after=after, order=order))

    async def cancel(self, caller: Caller, batch_id: str) -> Batch:
        """Begin to cancel a batch. One that has ended does not change."""
        return await in_thread(self._io, self.store.cancel, batch_id, caller.name)

    async def watch(self, caller: Caller, batch_id: str) -> AsyncGenerator[Batch, None]:
        """Yield the batch now and at each change of its status or counts, until it has ended."""
        last: Batch | None = None
        while True:
            batch = await self.get(caller, batch_id)
            if batch != last:
                last = batch
                yield batch
            if batch.status.is_terminal:
                return
            await asyncio.sleep(self.settings.poll_s)

    def expire(self) -> None:
        """Remove what has expired (blocking)."""
        self.store.expire()


def content_path(file: StoredFile) -> str:
    """Return the artifact path of a file's content."""
    return f"files/{file.file_id}/content"
