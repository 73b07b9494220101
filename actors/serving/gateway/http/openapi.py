"""The parts of the OpenAPI document that FastAPI cannot derive: the streamed request body, and errors."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from emotivetalk.actors.serving.gateway.http.schemas import CreateVideo, ErrorBody
from emotivetalk.actors.serving.gateway.http.uploads import FILES

REF = "#/components/schemas/{model}"
DESCRIPTION = """
Make videos of a talking head from a portrait, speech and an emotion. `POST /v1/videos` answers at once with a job: poll
it, read its events, play its stream while it is being made, or receive a webhook. The API follows OpenAI's `/v1/videos`.
"""

_STATUSES = {
    400: "The request or an input is invalid; see `error.code`.",
    401: "The bearer token is missing or unknown.",
    403: "A web page of another origin used the anonymous access of this machine.",
    404: "The video, file or batch does not exist.",
    408: "The request arrived too slowly.",
    409: "The video's status does not allow the operation.",
    413: "The request exceeds the token's limit on bytes.",
    415: "The body is neither a form nor JSON.",
    416: "The range lies outside the video.",
    422: "The Idempotency-Key was used with another request.",
    429: "Too many requests, jobs or queued jobs; `Retry-After` has the seconds to wait.",
    503: "A dependency of the service does not answer.",
    507: "There is no space for the inputs.",
}

FORM_EXAMPLE = {"portrait": "(the file)", "audio": "(the file)", "emotion": "happy:0.8", "seed": 7}
EMOTION_EXAMPLES = {
    "label": {
        "summary": "An emotion and its intensity",
        "value": {"kind": "label", "emotion": "sad", "intensity": 0.6},
    },
    "shorthand": {"summary": "The same, in short form", "value": "sad:0.6"},
    "text": {"summary": "A description", "value": {"kind": "text", "text": "Speak seriously"}},
    "speech": {"summary": "The tone of the speech", "value": {"kind": "speech"}},
    "track": {
        "summary": "Emotions along time",
        "value": [{"time_s": 0, "emotion": "happy", "intensity": 0.8}, {"time_s": 2.5, "text": "Whisper in fear"}],
    },
}

# One event of a stream, as parsers of text/event-stream return it.
EVENT = {
    "type": "object",
    "properties": {
        "event": {"enum": ["progress", "completed", "failed", "cancelled", "deleted"]},
        "id": {"type": "string", "description": "For Last-Event-ID."},
        "data": {"type": "string", "description": "The video as JSON."},
    },
    "required": ["event", "data"],
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return a route's `responses` for these statuses and for those of every route."""
    every = {400, 401, 403, 429, 503}
    return {status: {"model": ErrorBody, "description": _STATUSES[status]} for status in sorted(every | {*statuses})}


def create_body() -> dict[str, Any]:
    """Return the `requestBody` of `POST /v1/videos`, as a form and as JSON."""
    json_example = {
        "portrait": {"image_url": "https://example.com/me.png"},
        "audio": {"audio_url": "https://example.com/hello.wav"},
    }
    examples = {
        name: {"summary": example["summary"], "value": json_example | {"emotion": example["value"]}}
        for name, example in EMOTION_EXAMPLES.items()
    }
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {"$ref": REF.format(model="CreateVideoForm")}, "example": FORM_EXAMPLE},
            "application/json": {"schema": {"$ref": REF.format(model="CreateVideo")}, "examples": examples},
        },
    }


def file_body() -> dict[str, Any]:
    """Return the `requestBody` of `POST /v1/files`."""
    properties: dict[str, Any] = {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"enum": ["batch", "user_data", "vision"]},
        "expires_after[anchor]": {"enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer"},
    }
    schema = {"type": "object", "properties": properties, "required": ["file", "purpose"]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def character_body() -> dict[str, Any]:
    """Return the `requestBody` of `POST /v1/videos/characters`."""
    properties = {"video": {"type": "string", "format": "binary"}, "name": {"type": "string"}}
    schema = {"type": "object", "properties": properties, "required": ["video", "name"]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def edit_body() -> dict[str, Any]:
    """Return the `requestBody` of `POST /v1/videos/edits`."""
    video = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
    properties: dict[str, Any] = {"video": video, "prompt": {"type": "string"}, "emotion": {"type": "string"}}
    schema = {"type": "object", "properties": properties, "required": ["video"]}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """Return the app's document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
        _, definitions = models_json_schema([(CreateVideo, "validation"), (ErrorBody, "validation")], ref_template=REF)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(definitions["$defs"])
        schemas["CreateVideoForm"] = _form_schema(schemas["CreateVideo"])
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None) if _is_fastapis(operation) else None
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        app.openapi_schema = document
    return app.openapi_schema


def _is_fastapis(operation: dict[str, Any]) -> bool:
    """Return True if the operation's 422 is FastAPI's default, which is unused: invalid parameters are 400 here."""
    schema = operation["responses"].get("422", {}).get("content", {}).get("application/json", {}).get("schema", {})
    return schema.get("$ref", "").endswith("/HTTPValidationError")


def _form_schema(json_schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of the form: the fields of the JSON, with files as bytes and objects as JSON text."""
    properties = {}
    for name, schema in json_schema["properties"].items():
        described = {"description": schema["description"]} if "description" in schema else {}
        if name in FILES:
            properties[name] = {"type": "string", "format": "binary", **described}
        elif name == "emotion":
            properties[name] = {"type": "string", **described}
        else:
            properties[name] = schema
    return {
        "type": "object",
        "title": "CreateVideoForm",
        "description": json_schema["description"],
        "properties": properties,
        "required": ["portrait", "audio"],
        "additionalProperties": False,
    }
