"""Requests for tests, and access to the details of errors."""

from collections.abc import Iterator

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from emotivetalk.wire import videos_pb2 as pb
from tests.actors.fake_backend import FACE

PORTRAIT, AUDIO = FACE, b"speech: " + bytes(6)
NUM_FRAMES = 75
"""Length of the video of AUDIO, in three segments."""


def bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


def header(**fields: object) -> pb.CreateVideoHeader:
    made = pb.CreateVideoHeader(**fields)  # pyright: ignore[reportArgumentType]
    made.portrait.upload.name = "me.png"
    made.audio.upload.name = "hello.wav"
    return made


def upload(
    head: pb.CreateVideoHeader, portrait: bytes = PORTRAIT, audio: bytes = AUDIO, emotion: bytes = b""
) -> Iterator[pb.CreateVideoRequest]:
    yield pb.CreateVideoRequest(header=head)
    files = {pb.FILE_ROLE_PORTRAIT: portrait, pb.FILE_ROLE_AUDIO: audio, pb.FILE_ROLE_EMOTION: emotion}
    for role, data in files.items():
        for start in range(0, len(data), 1 << 16):
            yield pb.CreateVideoRequest(chunk=pb.FileChunk(role=role, data=data[start : start + (1 << 16)]))


class Failure:
    """The error of a call, with its rich details."""

    def __init__(self, error: grpc.RpcError) -> None:
        self.code = error.code()  # pyright: ignore[reportAttributeAccessIssue]
        self.status = rpc_status.from_call(error)
        assert self.status is not None, f"no details: {error}"

    def detail(self, kind: type[Message]) -> Message | None:
        for packed in self.status.details:
            if packed.Is(kind.DESCRIPTOR):
                found = kind()
                packed.Unpack(found)
                return found
        return None

    @property
    def info(self) -> error_details_pb2.ErrorInfo:
        found = self.detail(error_details_pb2.ErrorInfo)
        assert isinstance(found, error_details_pb2.ErrorInfo)
        return found

    @property
    def reason(self) -> str:
        return self.info.reason
