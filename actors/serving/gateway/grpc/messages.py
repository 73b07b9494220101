"""Mapping between the messages of proto/emotivetalk/v1 and the service's types."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import TypeAdapter, ValidationError

from emotivetalk.actors.serving.gateway.live_session import LiveEmotion, LiveHeader, LiveLimits, SpeechSamples
from emotivetalk.actors.serving.jobs.store import Job, JobStatus
from emotivetalk.errors import InputError, InvalidRequestError
from emotivetalk.request import Emotion, LabelEmotion, TextEmotion, VideoSettings, invalid_request
from emotivetalk.timebase import FRAME_RATE_HZ
from emotivetalk.wire import videos_pb2 as pb

_STATUS = {
    JobStatus.QUEUED: pb.VIDEO_STATUS_QUEUED,
    JobStatus.IN_PROGRESS: pb.VIDEO_STATUS_IN_PROGRESS,
    JobStatus.COMPLETED: pb.VIDEO_STATUS_COMPLETED,
    JobStatus.FAILED: pb.VIDEO_STATUS_FAILED,
    JobStatus.CANCELLED: pb.VIDEO_STATUS_CANCELLED,
}
_JOB_STATUS: dict[int, JobStatus] = {number: status for status, number in _STATUS.items()}
_ORDERS: dict[int, Literal["asc", "desc"]] = {
    pb.LIST_ORDER_UNSPECIFIED: "desc",
    pb.LIST_ORDER_NEWEST_FIRST: "desc",
    pb.LIST_ORDER_OLDEST_FIRST: "asc",
}
_EMOTION: TypeAdapter[Emotion] = TypeAdapter(Emotion)
REMEDY = "Correct the message; proto/emotivetalk/v1/videos.proto says what it may hold."


def invalid(field: str, what: str) -> InvalidRequestError:
    """Return the error about a field, named by its path in the request, such as "header.settings.seed"."""
    return InvalidRequestError(field, what, REMEDY)


# ------------------------------------------------------------------------------------------------------------- answers


def video_message(job: Job, model: str) -> pb.Video:
    """Return the job's message.

    Args:
        model: name of the served model, for jobs that do not name theirs.
    """
    video = pb.Video(
        id=job.job_id,
        status=_STATUS[job.status],
        progress=job.progress,
        model=job.model or model,
        duration=duration_message(job.num_frames / FRAME_RATE_HZ),
        width=job.width,
        height=job.height,
        num_frames=job.num_frames,
        frames_done=job.frames_done,
        seed=job.request["seed"],
    )
    for name in ("created_at", "started_at", "completed_at", "expires_at"):
        set_time(getattr(video, name), getattr(job, name))
    if job.device_s is not None:
        video.device_time.FromMilliseconds(round(job.device_s * 1e3))
    if job.error is not None:
        video.error.CopyFrom(pb.VideoError(code=job.error.code, message=job.error.message))
    return video


def set_time(timestamp: Timestamp, seconds: float | None) -> None:
    """Set a message's time, to the microsecond; None leaves it unset."""
    if seconds is not None:
        timestamp.FromMicroseconds(round(seconds * 1e6))


def duration_message(seconds: float) -> Duration:
    """Return seconds as a Duration, to the microsecond."""
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1e6))
    return duration


# ------------------------------------------------------------------------------------------------------------ requests


def read_order(order: int) -> Literal["asc", "desc"]:
    """Return the order as "asc" or "desc".

    Raises:
        InvalidRequestError: the number is not in the enum.
    """
    try:
        return _ORDERS[order]
    except KeyError:
        raise invalid("order", f"{order} is not a ListOrder") from None


def read_status(status: int) -> JobStatus | None:
    """Return the status to filter by; None for any.

    Raises:
        InvalidRequestError: the number is not in the enum.
    """
    if status == pb.VIDEO_STATUS_UNSPECIFIED:
        return None
    try:
        return _JOB_STATUS[status]
    except KeyError:
        raise invalid("status", f"{status} is not a VideoStatus") from None


def read_settings(header: pb.CreateVideoHeader | pb.LiveHeader) -> VideoSettings:
    """Read the settings of a header. The fields of `RenderSettings` have the names of the model's.

    Raises:
        InvalidRequestError: a setting is out of range.
    """
    try:
        return VideoSettings(**{field.name: value for field, value in header.settings.ListFields()})
    except ValidationError as error:
        raise _field_error(error, "header.settings") from error


def read_emotion(header: pb.CreateVideoHeader | pb.LiveHeader) -> Emotion | None:
    """Read the emotion of a header.

    Raises:
        InputError: a field is missing or out of range, or the emotion does not exist.
    """
    return _emotion(header.emotion, "header.emotion") if header.HasField("emotion") else None


def read_live_header(header: pb.LiveHeader, limits: LiveLimits) -> LiveHeader:
    """Read the first message of a live call.

    Raises:
        InputError: the portrait is missing or too large, a setting is out of range, or the emotion is unknown or needs
            a file.
    """
    if not header.portrait:
        raise InputError("image_empty", "the portrait is empty (0 bytes)", "Send a whole image file.")
    if len(header.portrait) > limits.portrait_bytes:
        raise InputError(
            "image_too_many_bytes",
            f"the portrait has {len(header.portrait) / 1e6:.1f} MB; the limit is {limits.portrait_bytes / 1e6:g} MB",
            "Compress it, or scale it down.",
        )
    settings = read_settings(header)
    if settings.audio_track is not None:
        raise invalid("header.settings.audio_track", "is for files; the sound of a live call has one track")
    return LiveHeader(
        portrait=header.portrait,
        portrait_name=header.portrait_name or "portrait",
        emotion=_live_emotion(read_emotion(header), "header.emotion"),
        settings=settings,
    )


def read_live_emotion(message: pb.Emotion) -> LiveEmotion:
    """Read the emotion of the audio that follows.

    Raises:
        InputError: it is not given by label or text and is not the portrait's own; or a value is invalid.
    """
    return _live_emotion(_emotion(message, "emotion"), "emotion")


def read_audio(message: pb.LiveAudio) -> SpeechSamples:
    """Return 16 kHz samples in -1..1.

    Raises:
        InvalidRequestError: the last sample is incomplete, or a sample is not finite.
    """
    kind = message.WhichOneof("samples")
    if kind is None:
        raise invalid("audio.samples", "is not set; give s16le or f32le")
    data: bytes = getattr(message, kind)
    width = 2 if kind == "s16le" else 4
    if len(data) % width:
        raise invalid(f"audio.{kind}", f"has {len(data)} bytes, which is no multiple of {width}")
    if kind == "s16le":
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768.0
    samples = np.frombuffer(data, "<f4").astype(np.float32)
    if not np.isfinite(samples).all():
        raise invalid("audio.f32le", "has samples that are not finite numbers")
    return np.clip(samples, -1.0, 1.0)


def emotion_file(message: pb.Emotion) -> pb.FileSource | None:
    """Return the file of an emotion by image or video; None for all others."""
    kind = message.WhichOneof("source")
    return getattr(message, kind).file if kind in ("image", "video") else None


def _emotion(message: pb.Emotion, field: str) -> Emotion | None:
    values = _emotion_values(message, field)
    try:
        return None if values is None else _EMOTION.validate_python(values)
    except ValidationError as error:
        raise _field_error(error, field) from error


def _emotion_values(message: pb.Emotion, field: str) -> dict[str, Any] | None:
    """Return the emotion as the JSON that `emotivetalk.request` validates."""
    match message.WhichOneof("source"):
        case None:
            raise invalid(field, "has no source that this server knows")
        case "portrait":
            return None
        case "label":
            return {"kind": "label", **_label_values(message.label)}
        case "text":
            return {"kind": "text", "text": message.text.text}
        case "track":
            return {"kind": "track", "keys": [_key_values(key) for key in message.track.keys]}
        case kind:
            return {"kind": kind}


def _label_values(label: pb.LabelEmotion) -> dict[str, Any]:
    return {"emotion": label.emotion} | ({"intensity": label.intensity} if label.HasField("intensity") else {})


def _key_values(key: pb.TrackKey) -> dict[str, Any]:
    match key.WhichOneof("source"):
        case "label":
            return {"time_s": key.time_s, **_label_values(key.label)}
        case "text":
            return {"time_s": key.time_s, "text": key.text.text}
        case _:
            return {"time_s": key.time_s}


def _live_emotion(emotion: Emotion | None, field: str) -> LiveEmotion:
    if not isinstance(emotion, LabelEmotion | TextEmotion | None):
        raise InvalidRequestError(
            field, f"an emotion by {emotion.kind} cannot be used live", "Give one by label or text."
        )
    return emotion


def _field_error(error: ValidationError, message: str) -> InputError:
    """Return the first thing that pydantic found, with the path of the field in the request's message."""
    found = invalid_request(error)
    return invalid(f"{message}.{found.field}", found.reason) if isinstance(found, InvalidRequestError) else found
