"""A request's emotion and settings as keyword arguments of functions, such as the client's and the command's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from emotivetalk.request.emotion import EMOTION_ARGUMENTS, EmotionArgument
from emotivetalk.request.settings import VideoSettings

Function = TypeVar("Function", bound=Callable[..., Any])


def emotion_parameters(annotate: Callable[[str, EmotionArgument], Any]) -> list[inspect.Parameter]:
    """Return a keyword parameter for each emotion argument, with the annotation that `annotate` gives."""
    return [
        _parameter(name, False if argument.type is bool else None, annotate(name, argument))
        for name, argument in EMOTION_ARGUMENTS.items()
    ]


def settings_parameters(annotate: Callable[[Any], Any] = lambda field: field.annotation) -> list[inspect.Parameter]:
    """Return a keyword parameter for each setting, with the annotation that `annotate` gives for its pydantic field."""
    return [_parameter(name, field.default, annotate(field)) for name, field in VideoSettings.model_fields.items()]


def show_parameters(parameters: Iterable[inspect.Parameter]) -> Callable[[Function], Function]:
    """Decorate a function so that its signature has these parameters in place of its `**arguments`.

    Help texts, editors and typer read the signature; the function itself receives the arguments in `arguments`.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        *explicit, arguments = signature.parameters.values()
        assert arguments.kind is inspect.Parameter.VAR_KEYWORD
        function.__signature__ = signature.replace(parameters=[*explicit, *parameters])  # type: ignore[attr-defined]
        return function

    return decorate


def split_arguments(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide keyword arguments into those of the emotion and the settings.

    Raises:
        TypeError: an argument is neither, as for any Python function.
    """
    unknown = sorted(set(arguments) - set(EMOTION_ARGUMENTS) - set(VideoSettings.model_fields))
    if unknown:
        raise TypeError(f"unexpected keyword argument {', '.join(map(repr, unknown))}")
    emotion = {name: value for name, value in arguments.items() if name in EMOTION_ARGUMENTS}
    return emotion, {name: value for name, value in arguments.items() if name not in EMOTION_ARGUMENTS}


def _parameter(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
