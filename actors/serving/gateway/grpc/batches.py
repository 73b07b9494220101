"""The gRPC side of files and batches: proto/emotivetalk/v1/batches.proto."""

# ruff: noqa: N802 the .proto file names the methods of a servicer

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio

from emotivetalk.actors.serving.gateway.grpc.guard import CALLER
from emotivetalk.actors.serving.gateway.grpc.messages import invalid, set_time
from emotivetalk.actors.serving.gateway.grpc.uploads import IncomingFile, check_chunk, check_size
from emotivetalk.actors.serving.gateway.service import VideoService
from emotivetalk.actors.serving.intake.submission import Caller, Upload
from emotivetalk.actors.serving.jobs.batch_records import Batch, BatchStatus, StoredFile
from emotivetalk.errors import InputError
from emotivetalk.limits import say_duration
from emotivetalk.wire import batches_pb2 as pb
from emotivetalk.wire import batches_pb2_grpc as pb_grpc

PART_BYTES = 1 << 16
_PURPOSES: dict[str, pb.FilePurpose] = {
    "batch": pb.FILE_PURPOSE_BATCH,
    "user_data": pb.FILE_PURPOSE_USER_DATA,
    "vision": pb.FILE_PURPOSE_USER_DATA,
    "character": pb.FILE_PURPOSE_USER_DATA,
    "batch_output": pb.FILE_PURPOSE_BATCH_OUTPUT,
}
_UPLOADED = {pb.FILE_PURPOSE_BATCH: "batch", pb.FILE_PURPOSE_USER_DATA: "user_data"}
_STATUS: dict[BatchStatus, Any] = {
    status: pb.BatchStatus.Value(f"BATCH_STATUS_{status.name}") for status in BatchStatus
}


class BatchServicer(pb_grpc.BatchServiceServicer):
    """The servicer of BatchService. It raises the service's errors; `Guard` translates them."""

    def __init__(self, service: VideoService) -> None:
        self._service, self._batches = service, service.batches

    def _admitted(self) -> Caller:
        caller = CALLER.get()
        self._service.admit(caller)
        return caller

    async def UploadFile(
        self, requests: AsyncIterator[pb.UploadFileRequest], context: grpc.aio.ServicerContext
    ) -> pb.UploadFileResponse:
        caller = self._admitted()
        timeout_s = self._service.settings.upload_timeout_s
        async with self._service.upload_folder() as folder:
            try:
                async with asyncio.timeout(timeout_s):
                    first = await anext(requests, None)
                    if first is None or first.WhichOneof("part") != "header":
                        raise invalid("header", "is missing; it has to be the first message")
                    purpose = _UPLOADED.get(first.header.purpose)
                    if purpose is None:
                        raise invalid("header.purpose", "is neither FILE_PURPOSE_BATCH nor FILE_PURPOSE_USER_DATA")
                    incoming = IncomingFile(first.header.name or "file", folder / "file", None)
                    await incoming.flush()
                    async for message in requests:
                        if message.WhichOneof("part") != "data":
                            raise invalid("data", "is missing; after the header there are bytes only")
                        check_chunk(message.data, "data")
                        await incoming.add(message.data)
                        check_size(incoming.num_bytes, caller.limits.max_upload_bytes)
                    await incoming.flush()
            except TimeoutError as error:
                raise InputError(
                    "upload_timeout", f"the upload took longer than {say_duration(timeout_s)}", "Send it again."
                ) from error
            file = await self._batches.create_file(caller, Upload(incoming.name, incoming.path), purpose)
        return pb.UploadFileResponse(file=file_message(file))

    async def DownloadFile(
        self, request: pb.DownloadFileRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.DownloadFileResponse]:
        file = await self._batches.file(self._admitted(), request.id)
        async with aclosing(self._batches.read_file(file)) as pieces:
            async for piece in pieces:
                for start in range(0, len(piece), PART_BYTES):
                    yield pb.DownloadFileResponse(data=piece[start : start + PART_BYTES])

    async def DeleteFile(
        self, request: pb.DeleteFileRequest, context: grpc.aio.ServicerContext
    ) -> pb.DeleteFileResponse:
        await self._batches.delete_file(self._admitted(), request.id)
        return pb.DeleteFileResponse(id=request.id)

    async def CreateBatch(
        self, request: pb.CreateBatchRequest, context: grpc.aio.ServicerContext
    ) -> pb.CreateBatchResponse:
        batch = await self._batches.create(
            self._admitted(),
            request.input_file_id,
            completion_window=request.completion_window or "24h",
            metadata=dict(request.metadata) or None,
        )
        return pb.CreateBatchResponse(batch=batch_message(batch))

    async def GetBatch(self, request: pb.GetBatchRequest, context: grpc.aio.ServicerContext) -> pb.GetBatchResponse:
        return pb.GetBatchResponse(batch=batch_message(await self._batches.get(self._admitted(), request.id)))

    async def ListBatches(
        self, request: pb.ListBatchesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListBatchesResponse:
        caller = self._admitted()
        limit = request.limit if request.HasField("limit") else 20
        if not 1 <= limit <= 100:
            raise invalid("limit", f"is {limit}; the range is 1 to 100")
        page = await self._batches.list(caller, limit=limit, after=request.after or None)
        return pb.ListBatchesResponse(batches=[batch_message(batch) for batch in page.items], has_more=page.has_more)

    async def WatchBatch(
        self, request: pb.WatchBatchRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.WatchBatchResponse]:
        async with aclosing(self._batches.watch(self._admitted(), request.id)) as states:
            async for batch in states:
                yield pb.WatchBatchResponse(batch=batch_message(batch))

    async def CancelBatch(
        self, request: pb.CancelBatchRequest, context: grpc.aio.ServicerContext
    ) -> pb.CancelBatchResponse:
        return pb.CancelBatchResponse(batch=batch_message(await self._batches.cancel(self._admitted(), request.id)))


def file_message(file: StoredFile) -> pb.File:
    """Return a file's message."""
    message = pb.File(id=file.file_id, name=file.filename, purpose=_PURPOSES[file.purpose], num_bytes=file.num_bytes)
    set_time(message.created_at, file.created_at)
    set_time(message.expires_at, file.expires_at)
    return message


def batch_message(batch: Batch) -> pb.Batch:
    """Return a batch's message."""
    message = pb.Batch(
        id=batch.batch_id,
        status=_STATUS[batch.status],
        input_file_id=batch.input_file_id,
        output_file_id=batch.output_file_id or "",
        error_file_id=batch.error_file_id or "",
        errors=[
            pb.BatchError(code=error["code"], message=error["message"], line=error["line"])
            for error in batch.errors or []
        ],
        num_total=batch.num_total,
        num_completed=batch.num_completed,
        num_failed=batch.num_failed,
        metadata=batch.metadata or {},
    )
    set_time(message.created_at, batch.created_at)
    set_time(message.expires_at, batch.expires_at)
    return message
