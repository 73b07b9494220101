import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VideoStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VIDEO_STATUS_UNSPECIFIED: _ClassVar[VideoStatus]
    VIDEO_STATUS_QUEUED: _ClassVar[VideoStatus]
    VIDEO_STATUS_IN_PROGRESS: _ClassVar[VideoStatus]
    VIDEO_STATUS_COMPLETED: _ClassVar[VideoStatus]
    VIDEO_STATUS_FAILED: _ClassVar[VideoStatus]
    VIDEO_STATUS_CANCELLED: _ClassVar[VideoStatus]

class ListOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LIST_ORDER_UNSPECIFIED: _ClassVar[ListOrder]
    LIST_ORDER_NEWEST_FIRST: _ClassVar[ListOrder]
    LIST_ORDER_OLDEST_FIRST: _ClassVar[ListOrder]

class FileRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FILE_ROLE_UNSPECIFIED: _ClassVar[FileRole]
    FILE_ROLE_PORTRAIT: _ClassVar[FileRole]
    FILE_ROLE_AUDIO: _ClassVar[FileRole]
    FILE_ROLE_EMOTION: _ClassVar[FileRole]
VIDEO_STATUS_UNSPECIFIED: VideoStatus
VIDEO_STATUS_QUEUED: VideoStatus
VIDEO_STATUS_IN_PROGRESS: VideoStatus
VIDEO_STATUS_COMPLETED: VideoStatus
VIDEO_STATUS_FAILED: VideoStatus
VIDEO_STATUS_CANCELLED: VideoStatus
LIST_ORDER_UNSPECIFIED: ListOrder
LIST_ORDER_NEWEST_FIRST: ListOrder
LIST_ORDER_OLDEST_FIRST: ListOrder
FILE_ROLE_UNSPECIFIED: FileRole
FILE_ROLE_PORTRAIT: FileRole
FILE_ROLE_AUDIO: FileRole
FILE_ROLE_EMOTION: FileRole

class Video(_message.Message):
    __slots__ = ("id", "status", "progress", "model", "created_at", "started_at", "completed_at", "expires_at", "duration", "width", "height", "num_frames", "frames_done", "error", "seed", "device_time")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    NUM_FRAMES_FIELD_NUMBER: _ClassVar[int]
    FRAMES_DONE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    status: VideoStatus
    progress: int
    model: str
    created_at: _timestamp_pb2.Timestamp
    started_at: _timestamp_pb2.Timestamp
    completed_at: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    duration: _duration_pb2.Duration
    width: int
    height: int
    num_frames: int
    frames_done: int
    error: VideoError
    seed: int
    device_time: _duration_pb2.Duration
    def __init__(self, id: _Optional[str] = ..., status: _Optional[_Union[VideoStatus, str]] = ..., progress: _Optional[int] = ..., model: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., completed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., num_frames: _Optional[int] = ..., frames_done: _Optional[int] = ..., error: _Optional[_Union[VideoError, _Mapping]] = ..., seed: _Optional[int] = ..., device_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class VideoError(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class FileSource(_message.Message):
    __slots__ = ("url", "upload", "file_id")
    URL_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    FILE_ID_FIELD_NUMBER: _ClassVar[int]
    url: str
    upload: FileUpload
    file_id: str
    def __init__(self, url: _Optional[str] = ..., upload: _Optional[_Union[FileUpload, _Mapping]] = ..., file_id: _Optional[str] = ...) -> None: ...

class FileUpload(_message.Message):
    __slots__ = ("name", "num_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NUM_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    num_bytes: int
    def __init__(self, name: _Optional[str] = ..., num_bytes: _Optional[int] = ...) -> None: ...

class FileChunk(_message.Message):
    __slots__ = ("role", "data")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    role: FileRole
    data: bytes
    def __init__(self, role: _Optional[_Union[FileRole, str]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Emotion(_message.Message):
    __slots__ = ("label", "text", "image", "video", "speech", "track", "portrait")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    VIDEO_FIELD_NUMBER: _ClassVar[int]
    SPEECH_FIELD_NUMBER: _ClassVar[int]
    TRACK_FIELD_NUMBER: _ClassVar[int]
    PORTRAIT_FIELD_NUMBER: _ClassVar[int]
    label: LabelEmotion
    text: TextEmotion
    image: ImageEmotion
    video: VideoEmotion
    speech: SpeechEmotion
    track: TrackEmotion
    portrait: PortraitEmotion
    def __init__(self, label: _Optional[_Union[LabelEmotion, _Mapping]] = ..., text: _Optional[_Union[TextEmotion, _Mapping]] = ..., image: _Optional[_Union[ImageEmotion, _Mapping]] = ..., video: _Optional[_Union[VideoEmotion, _Mapping]] = ..., speech: _Optional[_Union[SpeechEmotion, _Mapping]] = ..., track: _Optional[_Union[TrackEmotion, _Mapping]] = ..., portrait: _Optional[_Union[PortraitEmotion, _Mapping]] = ...) -> None: ...

class LabelEmotion(_message.Message):
    __slots__ = ("emotion", "intensity")
    EMOTION_FIELD_NUMBER: _ClassVar[int]
    INTENSITY_FIELD_NUMBER: _ClassVar[int]
    emotion: str
    intensity: float
    def __init__(self, emotion: _Optional[str] = ..., intensity: _Optional[float] = ...) -> None: ...

class TextEmotion(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class ImageEmotion(_message.Message):
    __slots__ = ("file",)
    FILE_FIELD_NUMBER: _ClassVar[int]
    file: FileSource
    def __init__(self, file: _Optional[_Union[FileSource, _Mapping]] = ...) -> None: ...

class VideoEmotion(_message.Message):
    __slots__ = ("file",)
    FILE_FIELD_NUMBER: _ClassVar[int]
    file: FileSource
    def __init__(self, file: _Optional[_Union[FileSource, _Mapping]] = ...) -> None: ...

class SpeechEmotion(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PortraitEmotion(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TrackEmotion(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[TrackKey]
    def __init__(self, keys: _Optional[_Iterable[_Union[TrackKey, _Mapping]]] = ...) -> None: ...

class TrackKey(_message.Message):
    __slots__ = ("time_s", "label", "text")
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    time_s: float
    label: LabelEmotion
    text: TextEmotion
    def __init__(self, time_s: _Optional[float] = ..., label: _Optional[_Union[LabelEmotion, _Mapping]] = ..., text: _Optional[_Union[TextEmotion, _Mapping]] = ...) -> None: ...

class RenderSettings(_message.Message):
    __slots__ = ("seed", "num_steps", "emotion_strength", "face", "audio_track")
    SEED_FIELD_NUMBER: _ClassVar[int]
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    EMOTION_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    FACE_FIELD_NUMBER: _ClassVar[int]
    AUDIO_TRACK_FIELD_NUMBER: _ClassVar[int]
    seed: int
    num_steps: int
    emotion_strength: float
    face: int
    audio_track: int
    def __init__(self, seed: _Optional[int] = ..., num_steps: _Optional[int] = ..., emotion_strength: _Optional[float] = ..., face: _Optional[int] = ..., audio_track: _Optional[int] = ...) -> None: ...

class CreateVideoRequest(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: CreateVideoHeader
    chunk: FileChunk
    def __init__(self, header: _Optional[_Union[CreateVideoHeader, _Mapping]] = ..., chunk: _Optional[_Union[FileChunk, _Mapping]] = ...) -> None: ...

class CreateVideoHeader(_message.Message):
    __slots__ = ("portrait", "audio", "emotion", "settings", "idempotency_key", "webhook_url")
    PORTRAIT_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    EMOTION_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    WEBHOOK_URL_FIELD_NUMBER: _ClassVar[int]
    portrait: FileSource
    audio: FileSource
    emotion: Emotion
    settings: RenderSettings
    idempotency_key: str
    webhook_url: str
    def __init__(self, portrait: _Optional[_Union[FileSource, _Mapping]] = ..., audio: _Optional[_Union[FileSource, _Mapping]] = ..., emotion: _Optional[_Union[Emotion, _Mapping]] = ..., settings: _Optional[_Union[RenderSettings, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., webhook_url: _Optional[str] = ...) -> None: ...

class CreateVideoResponse(_message.Message):
    __slots__ = ("video", "created")
    VIDEO_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    video: Video
    created: bool
    def __init__(self, video: _Optional[_Union[Video, _Mapping]] = ..., created: _Optional[bool] = ...) -> None: ...

class GetVideoRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class GetVideoResponse(_message.Message):
    __slots__ = ("video",)
    VIDEO_FIELD_NUMBER: _ClassVar[int]
    video: Video
    def __init__(self, video: _Optional[_Union[Video, _Mapping]] = ...) -> None: ...

class ListVideosRequest(_message.Message):
    __slots__ = ("limit", "after", "order", "status")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    limit: int
    after: str
    order: ListOrder
    status: VideoStatus
    def __init__(self, limit: _Optional[int] = ..., after: _Optional[str] = ..., order: _Optional[_Union[ListOrder, str]] = ..., status: _Optional[_Union[VideoStatus, str]] = ...) -> None: ...

class ListVideosResponse(_message.Message):
    __slots__ = ("videos", "has_more")
    VIDEOS_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    videos: _containers.RepeatedCompositeFieldContainer[Video]
    has_more: bool
    def __init__(self, videos: _Optional[_Iterable[_Union[Video, _Mapping]]] = ..., has_more: _Optional[bool] = ...) -> None: ...

class WatchVideoRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class WatchVideoResponse(_message.Message):
    __slots__ = ("video",)
    VIDEO_FIELD_NUMBER: _ClassVar[int]
    video: Video
    def __init__(self, video: _Optional[_Union[Video, _Mapping]] = ...) -> None: ...

class StreamVideoRequest(_message.Message):
    __slots__ = ("id", "first_segment")
    ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEGMENT_FIELD_NUMBER: _ClassVar[int]
    id: str
    first_segment: int
    def __init__(self, id: _Optional[str] = ..., first_segment: _Optional[int] = ...) -> None: ...

class StreamVideoResponse(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class CancelVideoRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class CancelVideoResponse(_message.Message):
    __slots__ = ("video",)
    VIDEO_FIELD_NUMBER: _ClassVar[int]
    video: Video
    def __init__(self, video: _Optional[_Union[Video, _Mapping]] = ...) -> None: ...

class DeleteVideoRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class DeleteVideoResponse(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class GenerateLiveRequest(_message.Message):
    __slots__ = ("header", "audio", "emotion", "end_of_audio")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    EMOTION_FIELD_NUMBER: _ClassVar[int]
    END_OF_AUDIO_FIELD_NUMBER: _ClassVar[int]
    header: LiveHeader
    audio: LiveAudio
    emotion: Emotion
    end_of_audio: EndOfAudio
    def __init__(self, header: _Optional[_Union[LiveHeader, _Mapping]] = ..., audio: _Optional[_Union[LiveAudio, _Mapping]] = ..., emotion: _Optional[_Union[Emotion, _Mapping]] = ..., end_of_audio: _Optional[_Union[EndOfAudio, _Mapping]] = ...) -> None: ...

class LiveHeader(_message.Message):
    __slots__ = ("portrait", "portrait_name", "emotion", "settings")
    PORTRAIT_FIELD_NUMBER: _ClassVar[int]
    PORTRAIT_NAME_FIELD_NUMBER: _ClassVar[int]
    EMOTION_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    portrait: bytes
    portrait_name: str
    emotion: Emotion
    settings: RenderSettings
    def __init__(self, portrait: _Optional[bytes] = ..., portrait_name: _Optional[str] = ..., emotion: _Optional[_Union[Emotion, _Mapping]] = ..., settings: _Optional[_Union[RenderSettings, _Mapping]] = ...) -> None: ...

class LiveAudio(_message.Message):
    __slots__ = ("s16le", "f32le")
    S16LE_FIELD_NUMBER: _ClassVar[int]
    F32LE_FIELD_NUMBER: _ClassVar[int]
    s16le: bytes
    f32le: bytes
    def __init__(self, s16le: _Optional[bytes] = ..., f32le: _Optional[bytes] = ...) -> None: ...

class EndOfAudio(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GenerateLiveResponse(_message.Message):
    __slots__ = ("started", "fragment", "completed")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    started: LiveStarted
    fragment: LiveFragment
    completed: LiveCompleted
    def __init__(self, started: _Optional[_Union[LiveStarted, _Mapping]] = ..., fragment: _Optional[_Union[LiveFragment, _Mapping]] = ..., completed: _Optional[_Union[LiveCompleted, _Mapping]] = ...) -> None: ...

class LiveStarted(_message.Message):
    __slots__ = ("id", "width", "height", "frame_rate_hz", "init", "max_buffer", "max_clip", "max_idle")
    ID_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    FRAME_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    INIT_FIELD_NUMBER: _ClassVar[int]
    MAX_BUFFER_FIELD_NUMBER: _ClassVar[int]
    MAX_CLIP_FIELD_NUMBER: _ClassVar[int]
    MAX_IDLE_FIELD_NUMBER: _ClassVar[int]
    id: str
    width: int
    height: int
    frame_rate_hz: int
    init: bytes
    max_buffer: _duration_pb2.Duration
    max_clip: _duration_pb2.Duration
    max_idle: _duration_pb2.Duration
    def __init__(self, id: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., frame_rate_hz: _Optional[int] = ..., init: _Optional[bytes] = ..., max_buffer: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_clip: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_idle: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class LiveFragment(_message.Message):
    __slots__ = ("index", "start_frame", "num_frames", "data", "is_last_part")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    START_FRAME_FIELD_NUMBER: _ClassVar[int]
    NUM_FRAMES_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    IS_LAST_PART_FIELD_NUMBER: _ClassVar[int]
    index: int
    start_frame: int
    num_frames: int
    data: bytes
    is_last_part: bool
    def __init__(self, index: _Optional[int] = ..., start_frame: _Optional[int] = ..., num_frames: _Optional[int] = ..., data: _Optional[bytes] = ..., is_last_part: _Optional[bool] = ...) -> None: ...

class LiveCompleted(_message.Message):
    __slots__ = ("num_frames", "duration")
    NUM_FRAMES_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    num_frames: int
    duration: _duration_pb2.Duration
    def __init__(self, num_frames: _Optional[int] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
