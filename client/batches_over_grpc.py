"""The client's gRPC side of files and batches: proto/emotivetalk/v1/batches.proto."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc

from emotivetalk.client.batches import Batch, BatchError
from emotivetalk.client.videos import CHUNK_BYTES, UPLOAD_TIMEOUT_S
from emotivetalk.wire import batches_pb2 as pb
from emotivetalk.wire import batches_pb2_grpc as pb_grpc


class GrpcBatches:
    """The operations of files and batches on a transport's channel, through its `call` and `read`."""

    def __init__(self, call: Callable[..., Any], read: Callable[..., Iterator[Any]], channel: grpc.Channel) -> None:
        self._call, self._read, self._stub = call, read, pb_grpc.BatchServiceStub(channel)

    def upload(self, path: Path, purpose: str) -> str:
        def messages() -> Iterator[pb.UploadFileRequest]:
            header = pb.UploadFileHeader(name=path.name, purpose=f"FILE_PURPOSE_{purpose.upper()}")  # pyright: ignore[reportArgumentType]
            yield pb.UploadFileRequest(header=header)
            with path.open("rb") as file:
                while data := file.read(CHUNK_BYTES):
                    yield pb.UploadFileRequest(data=data)

        return self._call(self._stub.UploadFile, messages(), UPLOAD_TIMEOUT_S).file.id

    def content(self, file_id: str) -> Iterator[bytes]:
        for message in self._read(self._stub.DownloadFile, pb.DownloadFileRequest(id=file_id)):
            yield message.data

    def delete_file(self, file_id: str) -> None:
        self._call(self._stub.DeleteFile, pb.DeleteFileRequest(id=file_id))

    def create(self, file_id: str, completion_window: str, metadata: Mapping[str, str]) -> Batch:
        request = pb.CreateBatchRequest(input_file_id=file_id, completion_window=completion_window, metadata=metadata)
        return _batch(self._call(self._stub.CreateBatch, request).batch)

    def get(self, batch_id: str) -> Batch:
        return _batch(self._call(self._stub.GetBatch, pb.GetBatchRequest(id=batch_id)).batch)

    def list(self, limit: int, after: str | None) -> tuple[Batch, ...]:
        request = pb.ListBatchesRequest(limit=limit, after=after or "")
        return tuple(map(_batch, self._call(self._stub.ListBatches, request).batches))

    def cancel(self, batch_id: str) -> Batch:
        return _batch(self._call(self._stub.CancelBatch, pb.CancelBatchRequest(id=batch_id)).batch)


def _batch(message: pb.Batch) -> Batch:
    return Batch(
        id=message.id,
        status=pb.BatchStatus.Name(message.status).removeprefix("BATCH_STATUS_").lower(),
        input_file_id=message.input_file_id,
        output_file_id=message.output_file_id or None,
        error_file_id=message.error_file_id or None,
        num_total=message.num_total,
        num_completed=message.num_completed,
        num_failed=message.num_failed,
        created_at=message.created_at.seconds,
        expires_at=message.expires_at.seconds,
        errors=tuple(
            BatchError(error.code, error.message, error.line if error.HasField("line") else None)
            for error in message.errors
        ),
        metadata=dict(message.metadata),
    )
