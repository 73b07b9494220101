"""Options of the command line, derived from the definition of a request."""

from __future__ import annotations

from typing import Annotated, Any

import annotated_types
import typer
from pydantic.fields import FieldInfo

from emotivetalk.request import EmotionArgument, VideoSettings, emotion_parameters, settings_parameters


def option_name(name: str) -> str:
    """Return an argument's option: "emotion_text" is "--emotion-text"."""
    return f"--{name.replace('_', '-')}"


def setting_option(name: str) -> Any:
    """Return the option of a setting: its help and range."""
    return _option(VideoSettings.model_fields[name])


def _option(field: FieldInfo) -> Any:
    bounds: dict[str, Any] = {}
    for bound in field.metadata:
        if isinstance(bound, annotated_types.Ge):
            bounds["min"] = bound.ge
        elif isinstance(bound, annotated_types.Le):
            bounds["max"] = bound.le
    return typer.Option(help=field.description, **bounds)


def _emotion_option(name: str, argument: EmotionArgument) -> Any:
    if argument.type is bool:
        return Annotated[bool, typer.Option(option_name(name), help=argument.description)]
    return Annotated[argument.type | None, typer.Option(metavar=argument.metavar, help=argument.description)]


EMOTION_OPTIONS = emotion_parameters(_emotion_option)
SETTINGS_OPTIONS = settings_parameters(lambda field: Annotated[field.annotation, _option(field)])
