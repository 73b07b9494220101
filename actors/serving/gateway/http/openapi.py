"""The OpenAPI document: what FastAPI cannot see by itself, which is the body that is read as a stream, and errors."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from emotivetalk.actors.serving.gateway.http.schemas import CreateVideo, ErrorBody
from emotivetalk.actors.serving.gateway.http.uploads import FILES

REF = "#/components/schemas/{model}"
DESCRIPTION = """
A portrait, speech and an emotion go in; a video comes out. `POST /v1/videos` answers at once with a job; poll it, read
its events, play its stream while it is made, or be told by a webhook. The shape is that of OpenAI's `/v1/videos`.
"""

_STATUSES = {
    400: "Something about the request or its inputs; `error.code` says what.",
    401: "No bearer token, or one that is not known.",
    403: "A web page of another origin used this machine's anonymous access.",
    404: "There is no such video.",
    408: "The request came too slowly.",
    409: "It does not go with the video's status.",
    413: "More bytes than the token may send.",
    415: "Neither a form nor JSON.",
    416: "The range lies outside the video.",
    422: "The Idempotency-Key came with another request before.",
    429: "Too many requests, jobs, or waiting jobs; `Retry-After` says when to come back.",
    503: "Something that the service stands on does not answer.",
    507: "No space is left for the inputs.",
}

FORM_EXAMPLE = {"portrait": "(the file)", "audio": "(the file)", "emotion": "happy:0.8", "seed": 7}
EMOTION_EXAMPLES = {
    "label": {
        "summary": "An emotion and its intensity",
        "value": {"kind": "label", "emotion": "sad", "intensity": 0.6},
    },
    "shorthand": {"summary": "The same, short", "value": "sad:0.6"},
    "text": {"summary": "In words", "value": {"kind": "text", "text": "Speak seriously"}},
    "speech": {"summary": "As the speech sounds", "value": {"kind": "speech"}},
    "track": {
        "summary": "Along time",
        "value": [{"time_s": 0, "emotion": "happy", "intensity": 0.8}, {"time_s": 2.5, "text": "Whisper in fear"}],
    },
}

# One event of a stream, as readers of text/event-stream take it apart.
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
    """A route's `responses` for these statuses, and for those that every route may give."""
    every = {400, 401, 403, 429, 503}
    return {status: {"model": ErrorBody, "description": _STATUSES[status]} for status in sorted(every | {*statuses})}


def create_body() -> dict[str, Any]:
    """The `requestBody` of `POST /v1/videos`, as a form and as JSON."""
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


def document(app: FastAPI) -> dict[str, Any]:
    """The document of the app, made once."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
        _, definitions = models_json_schema([(CreateVideo, "validation"), (ErrorBody, "validation")], ref_template=REF)
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(definitions["$defs"])
        schemas["CreateVideoForm"] = _form_schema(schemas["CreateVideo"])
        for path in made["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None) if _is_fastapis(operation) else None
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        app.openapi_schema = made
    return app.openapi_schema


def _is_fastapis(operation: dict[str, Any]) -> bool:
    """Whether the operation's 422 is FastAPI's own, which is never given: invalid parameters are 400 here."""
    schema = operation["responses"].get("422", {}).get("content", {}).get("application/json", {}).get("schema", {})
    return schema.get("$ref", "").endswith("/HTTPValidationError")


def _form_schema(json_schema: dict[str, Any]) -> dict[str, Any]:
    """The same fields as a form carries them: files are bytes, objects are JSON text."""
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
