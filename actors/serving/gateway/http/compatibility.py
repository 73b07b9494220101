"""The rest of what OpenAI's client calls: models, remixes, edits, extensions and characters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator

from emotivetalk.actors.serving.gateway.http import openapi
from emotivetalk.actors.serving.gateway.http.access import CountedCaller, ServiceDependency
from emotivetalk.actors.serving.gateway.http.batch_schemas import FILE_EXAMPLE, Character, CreateCharacter
from emotivetalk.actors.serving.gateway.http.schemas import JOB_EXAMPLE, Video
from emotivetalk.actors.serving.gateway.http.uploads import parsed, read_body
from emotivetalk.actors.serving.gateway.service import VideoService
from emotivetalk.actors.serving.intake.submission import Caller
from emotivetalk.errors import InputError, InvalidRequestError
from emotivetalk.request import MAX_TEXT_LENGTH, Emotion, SamplingSettings, TextEmotion, parse_emotion

compatibility = APIRouter(prefix="/v1", tags=["videos"])

VideoId = Annotated[str, Path(description="The video's id.", examples=[JOB_EXAMPLE])]


class Model(BaseModel):
    """A model."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "emotivetalk"


class ModelList(BaseModel):
    """The served model, also under its other names."""

    object: Literal["list"] = "list"
    data: list[Model]


class RemixVideo(SamplingSettings):
    """The changes of a remix. Settings that are left out keep the values of the remixed video."""

    emotion: Emotion | None = Field(default=None, description="As for a new video; none is the portrait's own.")
    prompt: str | None = Field(default=None, max_length=MAX_TEXT_LENGTH, description="The emotion as text.")

    _parse_emotion = field_validator("emotion", mode="before")(parse_emotion)

    def chosen(self) -> tuple[Emotion | None, dict[str, object]]:
        """Return the emotion, and the settings that are given."""
        if self.emotion is not None and self.prompt:
            raise InvalidRequestError("prompt", "it is given beside emotion", "Send one of them.")
        emotion = TextEmotion(text=self.prompt) if self.prompt and self.prompt.strip() else self.emotion
        names = self.model_fields_set & set(SamplingSettings.model_fields)
        return emotion, {name: getattr(self, name) for name in names}


class VideoReference(BaseModel):
    """A finished video of this service."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(examples=[JOB_EXAMPLE])


class EditVideo(RemixVideo):
    """A remix of the video that it names."""

    video: VideoReference


@compatibility.get("/models", response_model=ModelList, responses=openapi.errors())
async def list_models(service: ServiceDependency, caller: CountedCaller) -> ModelList:
    """List the served model and its aliases."""
    return ModelList(data=[Model(id=name) for name in (service.model.name, *service.settings.model_aliases)])


@compatibility.get("/models/{model}", response_model=Model, responses=openapi.errors(404))
async def get_model(service: ServiceDependency, caller: CountedCaller, model: str) -> Model:
    """Get the served model."""
    if model not in (service.model.name, service.model.checkpoint, *service.settings.model_aliases):
        raise InputError("model_not_found", f"there is no model {model[:100]!r} here", f"Use {service.model.name!r}.")
    return Model(id=model)


@compatibility.post("/videos/{video_id}/remix", response_model=Video, responses=openapi.errors(404, 409, 507))
async def remix_video(body: RemixVideo, service: ServiceDependency, caller: CountedCaller, video_id: VideoId) -> Video:
    """Make a video with the portrait and speech of another one, and another emotion. Nothing is uploaded again."""
    return await _remixed(service, caller, video_id, body)


@compatibility.post(
    "/videos/edits",
    response_model=Video,
    responses=openapi.errors(404, 409, 413, 507),
    openapi_extra=openapi.edit_body(),
)
async def edit_video(request: Request, service: ServiceDependency, caller: CountedCaller) -> Video:
    """Do the same for a video that the body names. Videos that were not made here cannot be edited."""
    async with service.upload_folder() as folder:
        fields, uploads = await read_body(request, folder, caller, service.settings, names=("video",))
    if uploads:
        raise InputError(
            "edit_needs_id",
            "a video that was not made here cannot be edited",
            "Create a video of its speaker's portrait and its sound, with emotion_video for its expressions.",
        )
    body = parsed(EditVideo, fields)
    return await _remixed(service, caller, body.video.id, body)


@compatibility.post("/videos/extensions", responses=openapi.errors())
async def extend_video(caller: CountedCaller) -> dict[str, Any]:
    """Refuse: a video is as long as its speech."""
    raise InputError(
        "extension_unsupported",
        "a video is as long as its speech and cannot be extended",
        "Create one of longer speech.",
    )


@compatibility.post(
    "/videos/characters",
    response_model=Character,
    responses=openapi.errors(408, 413, 415, 507),
    openapi_extra=openapi.character_body(),
)
async def create_character(request: Request, service: ServiceDependency, caller: CountedCaller) -> Character:
    """Store a portrait under a name. Videos name it as {"file_id": id}; it is prepared and encoded once."""
    async with service.upload_folder() as folder:
        fields, uploads = await read_body(request, folder, caller, service.settings, names=("video",))
        body = parsed(CreateCharacter, fields)
        if "video" not in uploads:
            raise InvalidRequestError("video", "it is missing", "Send a picture of a face as the file video.")
        return Character.of(await service.create_character(caller, uploads["video"], body.name))


@compatibility.get("/videos/characters/{character_id}", response_model=Character, responses=openapi.errors(404))
async def get_character(
    service: ServiceDependency, caller: CountedCaller, character_id: Annotated[str, Path(examples=[FILE_EXAMPLE])]
) -> Character:
    """Get a character's name."""
    return Character.of(await service.batches.file(caller, character_id))


async def _remixed(service: VideoService, caller: Caller, video_id: str, body: RemixVideo) -> Video:
    emotion, settings = body.chosen()
    return Video.of(await service.remix(caller, video_id, emotion, settings), service.model.name)
