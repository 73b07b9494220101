"""Rows checked and resolved: the video that a row asks for, and its identity."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from emotivetalk.client.videos import Source
from emotivetalk.errors import EmotiveTalkError, InputError
from emotivetalk.files import check_readable
from emotivetalk.limits import Limits
from emotivetalk.request import (
    EMOTION_ARGUMENTS,
    Emotion,
    VideoSettings,
    checked,
    choose_emotion,
    parse_emotion,
    split_arguments,
)

ALIASES = {
    "input_reference": "portrait",
    "image_reference": "portrait",
    "audio_reference": "audio",
    "prompt": "emotion_text",
}
"""Names of the HTTP interface and the fields they stand for."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_EMOTION: TypeAdapter[Emotion] = TypeAdapter(Emotion)
_KNOWN = ("custom_id", "portrait", "audio", *EMOTION_ARGUMENTS, *VideoSettings.model_fields, *ALIASES)
_CACHED_HASHES = 4096


@dataclass(frozen=True)
class BulkRow:
    """A video to make.

    Attributes:
        number: position in the manifest, from 1.
        row_id: the row's `custom_id`, else its fingerprint; it names the outputs.
        fingerprint: SHA-256 of everything that the row's fields and files contain.
    """

    number: int
    row_id: str
    fingerprint: str
    portrait: Source
    audio: Source
    emotion: Emotion | None
    emotion_file: Source | None
    settings: VideoSettings


@dataclass(frozen=True)
class RowRules:
    """Rules for reading rows.

    Attributes:
        folder: relative paths start here; None forbids them.
        root: files must be inside this folder; None allows all.
        defaults: fields of rows that lack them.
        model: identity of the checkpoint, a part of the fingerprint.
    """

    folder: Path | None
    root: Path | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""


def plan_row(number: int, values: Mapping[str, Any], rules: RowRules) -> BulkRow:
    """Check a row's fields and files, and compute its identity.

    Raises:
        InputError: a field is unknown, missing or invalid, or a file cannot be read or lies outside the root.
    """
    fields = _renamed(values)
    if not any(name in fields for name in EMOTION_ARGUMENTS):
        fields = {**{k: v for k, v in rules.defaults.items() if k in EMOTION_ARGUMENTS}, **fields}
    fields = {**{k: v for k, v in rules.defaults.items() if k not in EMOTION_ARGUMENTS}, **fields}
    custom_id = fields.pop("custom_id", None)
    if custom_id is not None and not (isinstance(custom_id, str) and _ID.fullmatch(custom_id)):
        raise InputError(
            "row_id_invalid",
            f"custom_id {custom_id!r} is not a name of 1 to 128 letters, digits, dots, dashes and underscores",
            "It names the output, so choose one that is valid everywhere.",
        )
    sources = {}
    for name, kind in (("portrait", "image"), ("audio", "audio")):
        if name not in fields:
            raise InputError("row_lacks_field", f"it has no {name}", f"Name a file or a URL as {name}.")
        sources[name] = _source(fields.pop(name), kind, rules)
    emotion, emotion_file = _emotion(fields, rules)
    settings = checked(VideoSettings, **split_arguments(fields)[1])
    content = {
        "portrait": _content(sources["portrait"]),
        "audio": _content(sources["audio"]),
        "emotion": None if emotion is None else emotion.model_dump(mode="json"),
        "emotion_file": None if emotion_file is None else _content(emotion_file),
        "settings": settings.model_dump(mode="json"),
        "model": rules.model,
    }
    fingerprint = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return BulkRow(
        number,
        custom_id or fingerprint[:32],
        fingerprint,
        sources["portrait"],
        sources["audio"],
        emotion,
        emotion_file,
        settings,
    )


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in values.items():
        if name not in _KNOWN:
            nearest = difflib.get_close_matches(name, _KNOWN, 1)
            raise InputError(
                "row_field_unknown",
                f"there is no field {name!r}",
                f"Did you mean {nearest[0]}?"
                if nearest
                else f"The fields are {', '.join(_KNOWN[:3])} and the settings.",
            )
        target = ALIASES.get(name, name)
        if target in fields:
            raise InputError("row_field_twice", f"{target} is given twice, once as {name}", "Leave one out.")
        fields[target] = value
    return fields


def _emotion(fields: dict[str, Any], rules: RowRules) -> tuple[Emotion | None, Source | None]:
    """Take the emotion's fields out of `fields`."""
    given = {name: fields.pop(name) for name in EMOTION_ARGUMENTS if name in fields}
    speech = given.get("emotion_from_speech")
    if isinstance(speech, str):
        if speech.lower() not in ("true", "false", "1", "0"):
            raise InputError("emotion_invalid", f"emotion_from_speech is {speech!r}", "Write true or false.")
        given["emotion_from_speech"] = speech.lower() in ("true", "1")
    label = given.get("emotion")
    if label is not None and len(given) == 1 and not (isinstance(label, str) and label.lstrip()[:1] not in "{["):
        try:
            return _EMOTION.validate_python(parse_emotion(label)), None
        except EmotiveTalkError:
            raise
        except (ValidationError, ValueError) as error:
            raise InputError(
                "emotion_invalid", f"emotion: {str(error).splitlines()[0]}", "docs/bulk.md has examples."
            ) from error
    track = given.get("emotion_track")
    if isinstance(track, str):
        given["emotion_track"] = _file(track, rules)
    emotion = choose_emotion(given)
    if emotion is None or emotion.kind not in ("image", "video"):
        return emotion, None
    return emotion, _source(given[f"emotion_{emotion.kind}"], emotion.kind, rules)


def _source(value: Any, kind: str, rules: RowRules) -> Source:
    if isinstance(value, Mapping) and len(value) == 1:  # {"image_url": "..."} of the HTTP interface
        value = next(iter(value.values()))
    if not isinstance(value, str):
        raise InputError("row_file_invalid", f"{value!r} is not the {kind}'s path or URL", "Write it as text.")
    if value.startswith(("http://", "https://")):
        return value
    path = _file(value, rules)
    limits = Limits()
    check_readable(path, kind, limits.image_bytes if kind == "image" else limits.media_bytes)
    return path


def _file(value: str, rules: RowRules) -> Path:
    """Resolve a row's path and check that it is inside the root."""
    path = Path(value)
    if not path.is_absolute():
        if rules.folder is None:
            raise InputError(
                "row_path_relative", f"{value} is relative, but the manifest is remote", "Name files by URL."
            )
        path = rules.folder / path
    if rules.root is not None and not path.resolve().is_relative_to(rules.root.resolve()):
        raise InputError("row_outside_root", f"{value} lies outside {rules.root}", "Move it, or widen --root.")
    return path


def _content(source: Source) -> str:
    if isinstance(source, str):
        return source
    status = source.stat()
    return _file_hash(source, status.st_size, status.st_mtime_ns)


@lru_cache(_CACHED_HASHES)
def _file_hash(path: Path, size: int, modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
