"""Between the messages of proto/emotivetalk/v1 and what the service knows. Nothing else of gRPC is here."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import ValidationError

from emotivetalk.actors.serving.gateway.live_session import LiveEmotion, LiveHeader, LiveLimits, Speech
from emotivetalk.actors.serving.intake.submissions import InvalidRequestError, invalid_emotion
from emotivetalk.actors.serving.jobs.store import Job, JobStatus
from emotivetalk.actors.serving.requests import Emotion, LabelEmotion, TextEmotion, VideoRequest, light_source
from emotivetalk.errors import InputError
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
REMEDY = "Correct the message; proto/emotivetalk/v1/videos.proto says what it may hold."


def invalid(field: str, what: str) -> InvalidRequestError:
    """The error about a field of a message, by its path in the request, such as "header.settings.seed"."""
    return InvalidRequestError(field, what, REMEDY)


# ------------------------------------------------------------------------------------------------------------- answers


def video_message(job: Job, model: str) -> pb.Video:
    """The job as clients see it.

    Args:
        model: what is served now, where the job does not say which model it is for.
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
        seconds = getattr(job, name)
        if seconds is not None:
            timestamp: Timestamp = getattr(video, name)
            timestamp.FromMicroseconds(round(seconds * 1e6))
    if job.error is not None:
        video.error.CopyFrom(pb.VideoError(code=job.error.code, message=job.error.message))
    return video


def duration_message(seconds: float) -> Duration:
    """Seconds as a Duration, to the microsecond."""
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1e6))
    return duration


# ------------------------------------------------------------------------------------------------------------ requests


def read_order(order: int) -> Literal["asc", "desc"]:
    """The service's word for an order, "asc" or "desc".

    Raises:
        InvalidRequestError: a number that the enum lacks.
    """
    try:
        return _ORDERS[order]
    except KeyError:
        raise invalid("order", f"{order} is not a ListOrder") from None


def read_status(status: int) -> JobStatus | None:
    """The state to filter by, or None for any.

    Raises:
        InvalidRequestError: a number that the enum lacks.
    """
    if status == pb.VIDEO_STATUS_UNSPECIFIED:
        return None
    try:
        return _JOB_STATUS[status]
    except KeyError:
        raise invalid("status", f"{status} is not a VideoStatus") from None


def read_render(header: pb.CreateVideoHeader | pb.LiveHeader) -> tuple[VideoRequest, int | None]:
    """Emotion and settings of a header, checked; the request's length is not known yet (1 sample).

    Returns:
        The request, and which face of the portrait.

    Raises:
        InvalidRequestError: a field is missing or out of range.
        InputError: an emotion that does not exist.
    """
    settings = header.settings
    values: dict[str, Any] = {
        name: getattr(settings, name) for name in ("seed", "num_steps", "emotion_strength") if settings.HasField(name)
    }
    emotion = _emotion_values(header.emotion, "header.emotion") if header.HasField("emotion") else None
    try:
        request = VideoRequest(num_samples=1, emotion=emotion, **values)  # pyright: ignore[reportArgumentType]
    except ValidationError as error:
        raise _field_error(error) from error
    face = settings.face if settings.HasField("face") else None
    if face is not None and face < 1:
        raise invalid("header.settings.face", f"is {face}; faces count from 1 at the left")
    return request, face


def read_live_header(header: pb.LiveHeader, limits: LiveLimits) -> LiveHeader:
    """Whom and how to render live.

    Raises:
        InvalidRequestError, InputError: as `read_render`, or there is no portrait, or an emotion that needs files.
    """
    if not header.portrait:
        raise InputError("image_empty", "the portrait is empty (0 bytes)", "Send a whole image file.")
    if len(header.portrait) > limits.portrait_bytes:
        raise InputError(
            "image_too_many_bytes",
            f"the portrait has {len(header.portrait) / 1e6:.1f} MB; the limit is {limits.portrait_bytes / 1e6:g} MB",
            "Compress it, or scale it down.",
        )
    request, face = read_render(header)
    return LiveHeader(
        portrait=header.portrait,
        portrait_name=header.portrait_name or "portrait",
        emotion=_live_emotion(request.emotion, "header.emotion"),
        seed=request.seed,
        num_steps=request.num_steps,
        emotion_strength=request.emotion_strength,
        face=face,
    )


def read_live_emotion(message: pb.Emotion) -> LiveEmotion:
    """The emotion of what follows.

    Raises:
        InvalidRequestError: not one by label or text, nor the portrait's own; or a value out of range.
        InputError: an emotion that does not exist.
    """
    values = _emotion_values(message, "emotion")
    try:
        request = VideoRequest(num_samples=1, emotion=values)  # pyright: ignore[reportArgumentType]
    except ValidationError as error:
        raise _field_error(error, root="") from error
    return _live_emotion(request.emotion, "emotion")


def read_audio(message: pb.LiveAudio) -> Speech:
    """16 kHz samples as floats.

    Raises:
        InvalidRequestError: a broken sample at the end, or one that is not a number.
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
    """The picture or video of an emotion that comes by one."""
    kind = message.WhichOneof("source")
    return getattr(message, kind).file if kind in ("image", "video") else None


def _emotion_values(message: pb.Emotion, field: str) -> dict[str, Any] | None:
    """The emotion as JSON that `actors/serving/requests.py` parses."""
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
    try:
        light_source(emotion)
    except ValueError as error:
        raise invalid_emotion(error) from error
    return emotion


def _field_error(error: ValidationError, root: str = "header.") -> InvalidRequestError:
    """The first thing that pydantic found, by the field's path in the message instead of the request's."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = [str(part) for part in first["loc"]]
    if path[:1] != ["emotion"]:
        path = ["settings", *path]
    return invalid(root + ".".join(path), first["msg"].removeprefix("Value error, ").rstrip("."))
