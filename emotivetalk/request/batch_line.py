"""A line of a manifest: a video's fields, flat, or as the body of an OpenAI batch line."""

from __future__ import annotations

import json
from typing import Any

from emotivetalk.errors import InputError

_REMEDY = "docs/bulk.md describes the format."
ENDPOINT = "/v1/videos"


def parse_batch_line(line: str) -> dict[str, Any]:
    """Return the fields of a line of JSON, without the empty ones; `custom_id` is one of them if given.

    Raises:
        InputError: codes "row_not_json", "row_not_video" (the line calls another endpoint).
    """
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError("row_not_json", f"it is not JSON ({error})", _REMEDY) from error
    if not isinstance(values, dict):
        raise InputError("row_not_json", "it is JSON, but not an object", _REMEDY)
    if "body" in values:
        unknown = sorted(set(values) - {"custom_id", "method", "url", "body"})
        called = (values.get("method", "POST"), values.get("url", ENDPOINT))
        if unknown or called != ("POST", ENDPOINT) or not isinstance(values["body"], dict):
            message = f"it is not a batch line that creates a video with POST {ENDPOINT}"
            raise InputError("row_not_video", message, _REMEDY)
        identity = {"custom_id": values["custom_id"]} if "custom_id" in values else {}
        values = {**values["body"], **identity}
    return {name: value for name, value in values.items() if value not in (None, "")}
