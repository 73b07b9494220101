"""The public names of the Python API, and the `emotivetalk` command.

Names are imported when they are first used, so that `import emotivetalk` is fast and needs no package that a program
does not use::

    from emotivetalk import EmotionLabel, EmotiveTalkPipeline
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emotivetalk.client import Client
    from emotivetalk.errors import EmotiveTalkError, InputError
    from emotivetalk.models.emotion import (
        EmotionImage,
        EmotionKey,
        EmotionLabel,
        EmotionSpeech,
        EmotionText,
        EmotionTrack,
        EmotionVideo,
    )
    from emotivetalk.models.pipeline import EmotiveTalkPipeline
    from emotivetalk.request import EMOTIONS

__version__ = "0.1.0"

__all__ = [
    "EMOTIONS",
    "Client",
    "EmotionImage",
    "EmotionKey",
    "EmotionLabel",
    "EmotionSpeech",
    "EmotionText",
    "EmotionTrack",
    "EmotionVideo",
    "EmotiveTalkError",
    "EmotiveTalkPipeline",
    "InputError",
    "__version__",
]

_HOMES = {
    "Client": "emotivetalk.client",
    "EMOTIONS": "emotivetalk.request",
    "EmotiveTalkPipeline": "emotivetalk.models.pipeline",
    "EmotiveTalkError": "emotivetalk.errors",
    "InputError": "emotivetalk.errors",
}


def __getattr__(name: str) -> object:
    """Import a public name from its home (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'emotivetalk' has no attribute {name!r}")
    home = _HOMES.get(name, "emotivetalk.models.emotion")
    try:
        return getattr(import_module(home), name)
    except ModuleNotFoundError as error:
        if error.name != "emotivetalk.models":
            raise
        raise ImportError(f"emotivetalk-client has no {name}; pip install emotivetalk", name=name) from error


def __dir__() -> list[str]:
    return sorted(__all__)
