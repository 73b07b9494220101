"""The files of uploads: chunks become files on disk, within the caller's limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from emotivetalk.actors.serving.gateway.grpc.messages import emotion_file, invalid, read_emotion, read_settings
from emotivetalk.actors.serving.intake.submission import FileReference, Source, Submission, Upload
from emotivetalk.errors import InputError
from emotivetalk.wire import videos_pb2 as pb

MAX_CHUNK_BYTES = 1 << 20
MAX_URL_LENGTH = 2_000
WRITE_BYTES = 1 << 20  # collected before a write, because a thread for every 64 KiB costs more than the write

_NAMES: dict[int, str] = {
    pb.FILE_ROLE_PORTRAIT: "portrait",
    pb.FILE_ROLE_AUDIO: "audio",
    pb.FILE_ROLE_EMOTION: "emotion",
}


@dataclass
class IncomingFile:
    """A file that is being received."""

    name: str
    path: Path
    expected: int | None
    num_bytes: int = 0
    waiting: bytearray = field(default_factory=bytearray)

    async def add(self, data: bytes) -> None:
        self.waiting += data
        self.num_bytes += len(data)
        if len(self.waiting) >= WRITE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        data, self.waiting = bytes(self.waiting), bytearray()
        await asyncio.to_thread(_append, self.path, data)


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


async def receive_header(requests: AsyncIterator[pb.CreateVideoRequest]) -> pb.CreateVideoHeader:
    """Read the first message.

    Raises:
        InvalidRequestError: there is none, or it is no header.
    """
    first = await anext(requests, None)
    if first is None or first.WhichOneof("part") != "header":
        raise invalid("header", "is missing; it has to be the first message")
    return first.header


async def receive_files(
    header: pb.CreateVideoHeader, requests: AsyncIterator[pb.CreateVideoRequest], folder: Path, max_bytes: int
) -> Submission:
    """Read the rest of the call: chunks until the client closes its side.

    Args:
        folder: folder for the files.
        max_bytes: limit on all files together.

    Raises:
        InvalidRequestError: a message is out of order, or a field is invalid.
        InputError: there are too many bytes, or not as many as announced.
    """
    if len(header.webhook_url) > MAX_URL_LENGTH:
        raise invalid("header.webhook_url", f"is longer than {MAX_URL_LENGTH} characters")
    emotion, settings = read_emotion(header), read_settings(header)
    files: dict[int, IncomingFile] = {}

    def source(role: int, file: pb.FileSource | None, path: str) -> Source:
        kind = file.WhichOneof("source") if file is not None else None
        if file is None or kind is None:
            raise invalid(path, "is missing; give a url or a file_id, or announce an upload")
        if kind == "url":
            if not 1 <= len(file.url) <= MAX_URL_LENGTH:
                raise invalid(f"{path}.url", f"is not 1 to {MAX_URL_LENGTH} characters long")
            return file.url
        if kind == "file_id":
            return FileReference(file.file_id)
        expected = file.upload.num_bytes if file.upload.HasField("num_bytes") else None
        incoming = IncomingFile(file.upload.name or _NAMES[role], folder / _NAMES[role], expected)
        incoming.path.touch()
        files[role] = incoming
        return Upload(incoming.name, incoming.path)

    portrait = source(pb.FILE_ROLE_PORTRAIT, header.portrait, "header.portrait")
    audio = source(pb.FILE_ROLE_AUDIO, header.audio, "header.audio")
    file = emotion_file(header.emotion)
    emotion_source = None if file is None else source(pb.FILE_ROLE_EMOTION, file, "header.emotion.file")
    submission = Submission(
        portrait=portrait,
        audio=audio,
        emotion=emotion,
        emotion_source=emotion_source,
        settings=settings,
        webhook_url=header.webhook_url or None,
    )
    await _receive_chunks(requests, files, max_bytes)
    return submission


async def _receive_chunks(
    requests: AsyncIterator[pb.CreateVideoRequest], files: dict[int, IncomingFile], max_bytes: int
) -> None:
    total = 0
    async for message in requests:
        if message.WhichOneof("part") != "chunk":
            raise invalid("chunk", "is missing; after the header there are chunks only")
        chunk = message.chunk
        incoming = files.get(chunk.role)
        if incoming is None:
            raise invalid("chunk.role", f"{_role_name(chunk.role)} was not announced as an upload by the header")
        check_chunk(chunk.data, "chunk.data")
        total += len(chunk.data)
        check_size(total, max_bytes)
        await incoming.add(chunk.data)
    for incoming in files.values():
        if incoming.expected is not None and incoming.num_bytes != incoming.expected:
            raise InputError(
                "upload_incomplete",
                f"{incoming.name!r} has {incoming.num_bytes} bytes; {incoming.expected} were announced",
                "Send the whole file.",
            )
        await incoming.flush()


def check_chunk(data: bytes, field: str) -> None:
    """Raise InvalidRequestError if a message has too many bytes."""
    if len(data) > MAX_CHUNK_BYTES:
        raise invalid(field, f"has {len(data)} bytes; the limit is {MAX_CHUNK_BYTES}")


def check_size(num_bytes: int, max_bytes: int) -> None:
    """Raise InputError if the files of a call have more than `max_bytes` together."""
    if num_bytes > max_bytes:
        raise InputError(
            "upload_too_large",
            f"the files have more than {max_bytes / 1e6:g} MB, which is the limit limits.max_upload_mb",
            "Compress or shorten them.",
        )


def _role_name(role: int) -> str:
    known = pb.FileRole.DESCRIPTOR.values_by_number.get(role)
    return known.name if known is not None else str(role)
