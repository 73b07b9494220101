"""The JSON of the HTTP API: OpenAI's video object and its neighbours, and the body that creates a video."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from emotivetalk.actors.serving.jobs.records import Outlook
from emotivetalk.actors.serving.jobs.store import Job
from emotivetalk.request import MAX_TEXT_LENGTH, Emotion, VideoSettings, parse_emotion
from emotivetalk.timebase import FRAME_RATE_HZ

JOB_EXAMPLE = "video_0199c7a5b1e27c3d9d3f5a1be07c42d8"


class ApiError(BaseModel):
    """An error and its remedy."""

    code: str = Field(description="Stable name for machines.", examples=["audio_silent"])
    message: str = Field(description="What was wrong and the remedy, for people.")
    remedy: str | None = Field(default=None, description="The last part of the message: what to do about it.")
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(default=None, description="The field that was wrong, where one was.")


class ErrorBody(BaseModel):
    """The body of an error's answer."""

    error: ApiError


class VideoError(BaseModel):
    """The reason why a video failed."""

    code: str
    message: str


class Video(BaseModel):
    """A video: its request and its progress."""

    id: str = Field(examples=[JOB_EXAMPLE])
    object: Literal["video"] = "video"
    model: str = Field(examples=["emotivetalk-starter"])
    status: Literal["queued", "in_progress", "completed", "failed", "cancelled"]
    progress: int = Field(ge=0, le=100, description="Percent; 100 only when completed.")
    created_at: int = Field(description="Unix time, seconds.")
    started_at: int | None = None
    completed_at: int | None = None
    expires_at: int | None = Field(default=None, description="When the video and its files will be removed.")
    seconds: str = Field(description="Length, rounded to whole seconds, at least 1.", examples=["12"])
    size: str = Field(examples=["256x256"])
    prompt: str | None = Field(default=None, description="The emotion, where it was given as text.")
    remixed_from_video_id: str | None = Field(default=None, description="The video that this one is a remix of.")
    error: VideoError | None = None
    emotion: Emotion | None = Field(default=None, description="None is the portrait's own expression.")
    seed: int
    num_frames: int = Field(description=f"At {FRAME_RATE_HZ} frames a second.")
    frames_done: int
    queue_position: int | None = Field(default=None, description="Queued videos before this one; only while queued.")
    expected_seconds: float | None = Field(
        default=None, description="Seconds to the end at the speed of the last minute; null if nothing was made in it."
    )
    device_seconds: float | None = Field(default=None, description="Computation of a finished video, seconds.")

    @classmethod
    def of(cls, job: Job, model: str, outlook: Outlook | None = None) -> Video:
        """Return the video of a job.

        Args:
            model: name of the served model, for jobs that do not name theirs.
            outlook: of an unfinished job; None leaves it out.
        """
        emotion = job.request.get("emotion")
        return cls(
            id=job.job_id,
            model=job.model or model,
            status=job.status.value,
            progress=job.progress,
            created_at=int(job.created_at),
            started_at=_whole(job.started_at),
            completed_at=_whole(job.completed_at),
            expires_at=_whole(job.expires_at),
            seconds=str(max(1, round(job.num_frames / FRAME_RATE_HZ))),
            size=f"{job.width}x{job.height}",
            prompt=emotion["text"] if emotion and emotion["kind"] == "text" else None,
            remixed_from_video_id=job.remixed_from,
            error=None if job.error is None else VideoError(code=job.error.code, message=job.error.message),
            emotion=emotion,
            seed=job.request["seed"],
            num_frames=job.num_frames,
            frames_done=job.frames_done,
            queue_position=None if outlook is None else outlook.queue_position,
            expected_seconds=None if outlook is None else outlook.expected_s,
            device_seconds=None if job.device_s is None else round(job.device_s, 3),
        )


class VideoList(BaseModel):
    """A page of videos. The next page begins `after` its `last_id`."""

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VideoDeleted(BaseModel):
    """The video is cancelled and its files are removed."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


class Health(BaseModel):
    """The service answers."""

    status: Literal["ok", "ready"]


class MediaReference(BaseModel):
    """A file by URL (http, https or data), or by the id of an upload to `/v1/files`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = None
    image_url: str | None = None
    audio_url: str | None = None
    video_url: str | None = None
    file_id: str | None = None

    @model_validator(mode="after")
    def _is_one(self) -> MediaReference:
        if len(self._given()) != 1:
            raise ValueError("give one of url, image_url, audio_url, video_url and file_id")
        return self

    def _given(self) -> list[str]:
        return [given for given in (self.url, self.image_url, self.audio_url, self.video_url, self.file_id) if given]

    def location(self) -> str:
        """Return the URL; of a file's id, "file-..."."""
        return self._given()[0]


def _url_as_object(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


def _or_string(schema: dict[str, Any]) -> None:
    """Add a string to the schema of a field whose validator also takes text."""
    schema["anyOf"] = [{"type": "string"}, *schema["anyOf"]]


Media = Annotated[
    MediaReference | None,
    BeforeValidator(_url_as_object),
    Field(
        default=None,
        description="An http(s) or data URL, as a string or as an object such as {'image_url': '...'}, or the id of an "
        "uploaded file, {'file_id': '...'}. In a multipart form: the file itself.",
        json_schema_extra=_or_string,
    ),
]


class CreateVideo(VideoSettings):
    """The body that creates a video from a portrait, speech and an emotion. Unknown fields are refused."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "portrait": {"image_url": "https://example.com/me.png"},
                "audio": {"audio_url": "https://example.com/hello.wav"},
                "emotion": "happy:0.8",
                "seed": 7,
            }
        },
    )

    portrait: Media
    input_reference: Media = Field(default=None, description="Another name of `portrait`.")
    image_reference: Media = Field(default=None, description="Another name of `portrait`.")
    audio: Media
    audio_reference: Media = Field(default=None, description="Another name of `audio`.")
    emotion: Emotion | None = Field(
        default=None,
        json_schema_extra=_or_string,
        description="An emotion such as 'happy' or 'happy:0.8', an object by `kind` (as JSON text in a form), or a list "
        "of keys along time. Without it: `prompt`, or the portrait's own expression.",
    )
    emotion_image: Media = Field(default=None, description="Picture of a face with the expression.")
    emotion_video: Media = Field(default=None, description="Video of a face with the expressions.")
    prompt: str | None = Field(
        default=None,
        max_length=MAX_TEXT_LENGTH,
        description="The emotion as text, such as 'Speak seriously'. Empty: the portrait's own expression.",
    )
    webhook_url: str | None = Field(
        default=None, max_length=2000, description="Receives a POST when the video has ended."
    )
    model: str | None = Field(default=None, description="Checked: the model that is served here.")
    size: str | None = Field(
        default=None, description="Pixels, such as 1280x720; the nearest size of the model is made."
    )
    n: int = Field(default=1, ge=1, le=1, description="Checked: a request makes one video.")
    seconds: float | None = Field(
        default=None, gt=0, description="Checked: a video is as long as its speech (to the second)."
    )

    _parse_emotion = field_validator("emotion", mode="before")(parse_emotion)


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)
