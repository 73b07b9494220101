"""A text that asks for an emotion, and how strongly."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

PromptKind: TypeAlias = Literal["word", "action", "scene", "negation", "none"]
KINDS: tuple[PromptKind, ...] = ("word", "action", "scene", "negation", "none")

MILD, PLAIN, STRONG = 0.35, 0.65, 1.0
DESCRIBED = 0.8  # what a deed or a situation suggests


@dataclass(frozen=True)
class EmotionPrompt:
    """A text and what it asks for.

    emotion: one of emotivetalk.models.emotion.EMOTIONS, or None for a text that asks for no emotion.
    intensity: 0..1; without meaning where the emotion is None or "neutral".
    kind: how the text says it: by an emotion word, by what somebody does, by a situation, by a negation, or not at all.
    """

    text: str
    emotion: str | None
    intensity: float
    kind: PromptKind


def lines(text: str) -> tuple[str, ...]:
    """The lines of a text, without what indents them."""
    return tuple(line.strip() for line in text.strip().splitlines())


def weakened(intensity: float) -> float:
    """What "a little" leaves of an intensity."""
    return max(0.15, 0.5 * intensity)


def strengthened(intensity: float) -> float:
    """What "very" makes of an intensity."""
    return 1 - 0.3 * (1 - intensity)
