"""The client's gRPC side: proto/emotivetalk/v1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from emotivetalk.client.batches_over_grpc import GrpcBatches
from emotivetalk.client.videos import (
    CHUNK_BYTES,
    UPLOAD_TIMEOUT_S,
    EmotionChange,
    LiveOrder,
    Order,
    Source,
    Video,
    VideoError,
    VideoPage,
    is_file_id,
    service_error,
    timed_out,
    unreachable,
)
from emotivetalk.errors import EmotiveTalkError, InputError, VideoNotReadyError
from emotivetalk.request import Emotion, LabelEmotion, SpeechEmotion, TextEmotion, TrackEmotion, TrackKey, VideoSettings
from emotivetalk.wire import videos_pb2 as pb
from emotivetalk.wire import videos_pb2_grpc as pb_grpc

LIVE_BYTES = 6_400  # 0.2 s of speech in a message

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.keepalive_time_ms", 30_000),  # notices a service that vanished
    ("grpc.keepalive_timeout_ms", 20_000),
]
_STATUS: dict[int, str] = {
    pb.VIDEO_STATUS_QUEUED: "queued",
    pb.VIDEO_STATUS_IN_PROGRESS: "in_progress",
    pb.VIDEO_STATUS_COMPLETED: "completed",
    pb.VIDEO_STATUS_FAILED: "failed",
    pb.VIDEO_STATUS_CANCELLED: "cancelled",
}
_NUMBERS = {name: number for number, name in _STATUS.items()}
_ORDERS = {"desc": pb.LIST_ORDER_NEWEST_FIRST, "asc": pb.LIST_ORDER_OLDEST_FIRST}
_INPUT_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
}


class GrpcTransport:
    """One channel to `host:port`, with TLS where the address begins with https:// or grpcs://."""

    def __init__(self, address: str, token: str | None, timeout_s: float, certificates: Path | None) -> None:
        scheme, _, target = address.rpartition("://")
        self._address = address
        self._timeout_s = timeout_s
        self._metadata = [] if token is None else [("authorization", f"Bearer {token}")]
        if scheme in ("https", "grpcs") or certificates is not None:
            roots = None if certificates is None else certificates.read_bytes()
            self._channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(roots), options=_OPTIONS)
        else:
            self._channel = grpc.insecure_channel(target, options=_OPTIONS)
        self._stub = pb_grpc.VideoServiceStub(self._channel)

    def create(self, order: Order) -> Video:
        broken: list[OSError] = []
        messages = _messages(order, _header(order), broken)
        with self.translating_errors():
            try:
                response = self._stub.CreateVideo(messages, metadata=self._metadata, timeout=UPLOAD_TIMEOUT_S)
            except grpc.RpcError:
                if broken:
                    raise broken[0] from None
                raise
        return _video(response.video)

    def get(self, video_id: str) -> Video:
        return _video(self.call(self._stub.GetVideo, pb.GetVideoRequest(id=video_id)).video)

    def list(self, limit: int, after: str | None, order: str, status: str | None) -> VideoPage:
        request = pb.ListVideosRequest(
            limit=limit,
            after=after or "",
            order=_ORDERS[order],
            status=pb.VIDEO_STATUS_UNSPECIFIED if status is None else _NUMBERS[status],  # pyright: ignore[reportArgumentType]
        )
        page = self.call(self._stub.ListVideos, request)
        return VideoPage(tuple(map(_video, page.videos)), page.has_more)

    def watch(self, video_id: str) -> Iterator[Video]:
        for message in self.read(self._stub.WatchVideo, pb.WatchVideoRequest(id=video_id)):
            yield _video(message.video)

    def stream(self, video_id: str) -> Iterator[bytes]:
        for message in self.read(self._stub.StreamVideo, pb.StreamVideoRequest(id=video_id)):
            yield message.data

    def content(self, video_id: str) -> Iterator[bytes]:
        video = self.get(video_id)
        if not video.is_final:
            raise VideoNotReadyError(video_id, video.status, video.progress)
        return self.stream(video_id)

    def live(self, order: LiveOrder) -> Iterator[bytes]:
        broken: list[Exception] = []
        messages = _live_messages(order, _live_header(order), broken)
        parts: list[bytes] = []
        try:
            for message in self.read(self._stub.GenerateLive, messages):
                if message.WhichOneof("part") == "started":
                    yield message.started.init
                if message.WhichOneof("part") == "fragment":
                    parts.append(message.fragment.data)
                    if message.fragment.is_last_part:
                        yield b"".join(parts)
                        parts.clear()
        except EmotiveTalkError:
            if broken:
                raise broken[0] from None
            raise

    def cancel(self, video_id: str) -> Video:
        return _video(self.call(self._stub.CancelVideo, pb.CancelVideoRequest(id=video_id)).video)

    def delete(self, video_id: str) -> None:
        self.call(self._stub.DeleteVideo, pb.DeleteVideoRequest(id=video_id))

    @property
    def batches(self) -> GrpcBatches:
        return GrpcBatches(self.call, self.read, self._channel)

    def close(self) -> None:
        self._channel.close()

    def call(self, method: Any, request: Any, timeout_s: float | None = None) -> Any:
        """Return the answer to a call, or raise the service's error."""
        with self.translating_errors():
            return method(request, metadata=self._metadata, timeout=timeout_s or self._timeout_s)

    def read(self, method: Any, request: Any) -> Iterator[Any]:
        call = method(request, metadata=self._metadata)
        try:
            with self.translating_errors():
                yield from call
        finally:
            call.cancel()  # tells the service when the reader stops early

    @contextmanager
    def translating_errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise self._error(error) from error

    def _error(self, error: Any) -> EmotiveTalkError:
        """Return the service's error, or one that says that there was no answer."""
        details = {}
        status = rpc_status.from_call(error)
        for packed in () if status is None else status.details:
            for kind in (error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo):
                if packed.Is(kind.DESCRIPTOR):
                    details[kind] = kind.FromString(packed.value)
        info, retry = details.get(error_details_pb2.ErrorInfo), details.get(error_details_pb2.RetryInfo)
        if info is None:
            late = error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            return timed_out(self._address) if late else unreachable(self._address, error.details())
        return service_error(
            info.reason,
            error.details(),
            remedy=info.metadata.get("remedy"),
            is_input=error.code() in _INPUT_CODES,
            retry_after_s=retry.retry_delay.seconds
            if retry is not None and error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            else None,
        )


def _header(order: Order) -> pb.CreateVideoHeader:
    try:
        return pb.CreateVideoHeader(
            portrait=_source(order.portrait),
            audio=_source(order.audio),
            emotion=None if order.emotion is None else _emotion(order.emotion, order.emotion_file),
            settings=_settings(order.settings),
            idempotency_key=order.idempotency_key,
            webhook_url=order.webhook_url or "",
        )
    except (TypeError, ValueError) as error:  # a number that does not fit the field
        raise InputError("request_invalid", f"a setting cannot be sent ({error})", "Give one in its range.") from error


def _messages(order: Order, header: pb.CreateVideoHeader, broken: list[OSError]) -> Iterator[pb.CreateVideoRequest]:
    """Yield the header, then the files.

    Args:
        broken: receives an error of reading a file; gRPC would report only that something failed.
    """
    yield pb.CreateVideoRequest(header=header)
    files = {
        pb.FILE_ROLE_PORTRAIT: order.portrait,
        pb.FILE_ROLE_AUDIO: order.audio,
        pb.FILE_ROLE_EMOTION: order.emotion_file,
    }
    try:
        for role, source in files.items():
            if isinstance(source, Path):
                with source.open("rb") as file:
                    while data := file.read(CHUNK_BYTES):
                        yield pb.CreateVideoRequest(chunk=pb.FileChunk(role=role, data=data))
    except OSError as error:
        broken.append(error)
        raise


def _live_header(order: LiveOrder) -> pb.LiveHeader:
    try:
        return pb.LiveHeader(
            portrait=order.portrait.read_bytes(),
            portrait_name=order.portrait.name,
            emotion=_emotion(order.emotion),
            settings=_settings(order.settings),
        )
    except (TypeError, ValueError) as error:  # a number that does not fit the field
        raise InputError("request_invalid", f"a setting cannot be sent ({error})", "Give one in its range.") from error


def _live_messages(
    order: LiveOrder, header: pb.LiveHeader, broken: list[Exception]
) -> Iterator[pb.GenerateLiveRequest]:
    """Yield the header, the audio with its changes of emotion, and the end; split samples are joined.

    Args:
        broken: receives an error of the audio's iterator; gRPC would report only that something failed.
    """
    yield pb.GenerateLiveRequest(header=header)
    rest = b""
    try:
        for piece in order.audio:
            if isinstance(piece, EmotionChange):
                yield pb.GenerateLiveRequest(emotion=_emotion(piece.chosen()))
                continue
            data = rest + piece
            whole = len(data) - len(data) % 2
            for start in range(0, whole, LIVE_BYTES):
                audio = pb.LiveAudio(s16le=data[start : min(start + LIVE_BYTES, whole)])
                yield pb.GenerateLiveRequest(audio=audio)
            rest = data[whole:]
    except Exception as error:
        broken.append(error)
        raise
    yield pb.GenerateLiveRequest(end_of_audio=pb.EndOfAudio())


def _source(source: Source) -> pb.FileSource:
    if isinstance(source, str):
        return pb.FileSource(file_id=source) if is_file_id(source) else pb.FileSource(url=source)
    return pb.FileSource(upload=pb.FileUpload(name=source.name, num_bytes=source.stat().st_size))


def _settings(settings: VideoSettings) -> pb.RenderSettings:
    return pb.RenderSettings(**settings.model_dump(exclude_none=True))


def _emotion(emotion: Emotion | None, file: Source | None = None) -> pb.Emotion:
    match emotion:
        case LabelEmotion():
            return pb.Emotion(label=_label(emotion))
        case TextEmotion():
            return pb.Emotion(text=pb.TextEmotion(text=emotion.text))
        case SpeechEmotion():
            return pb.Emotion(speech=pb.SpeechEmotion())
        case TrackEmotion():
            return pb.Emotion(track=pb.TrackEmotion(keys=map(_key, emotion.keys)))
        case None:
            return pb.Emotion(portrait=pb.PortraitEmotion())
    assert file is not None
    if emotion.kind == "image":
        return pb.Emotion(image=pb.ImageEmotion(file=_source(file)))
    return pb.Emotion(video=pb.VideoEmotion(file=_source(file)))


def _label(emotion: LabelEmotion) -> pb.LabelEmotion:
    return pb.LabelEmotion(emotion=emotion.emotion, intensity=emotion.intensity)


def _key(key: TrackKey) -> pb.TrackKey:
    source = key.source()
    if isinstance(source, TextEmotion):
        return pb.TrackKey(time_s=key.time_s, text=pb.TextEmotion(text=source.text))
    label = pb.LabelEmotion(emotion=source.emotion, intensity=key.intensity)
    return pb.TrackKey(time_s=key.time_s, label=label)


def _video(found: pb.Video) -> Video:
    return Video(
        id=found.id,
        status=_STATUS.get(found.status, "in_progress"),  # a status of a newer service is not final here
        progress=found.progress,
        model=found.model,
        created_at=found.created_at.seconds,
        started_at=_seconds(found, "started_at"),
        completed_at=_seconds(found, "completed_at"),
        expires_at=_seconds(found, "expires_at"),
        width=found.width,
        height=found.height,
        num_frames=found.num_frames,
        frames_done=found.frames_done,
        seed=found.seed,
        error=VideoError(found.error.code, found.error.message) if found.HasField("error") else None,
        device_s=found.device_time.ToMicroseconds() / 1e6 if found.HasField("device_time") else None,
    )


def _seconds(found: pb.Video, name: str) -> int | None:
    timestamp: Timestamp = getattr(found, name)
    return timestamp.seconds if found.HasField(name) else None
