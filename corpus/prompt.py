"""A prompt for an emotion and its intensity."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

PromptKind: TypeAlias = Literal["word", "action", "situation", "negation", "none"]
PROMPT_KINDS: tuple[PromptKind, ...] = get_args(PromptKind)

MILD, PLAIN, STRONG = 0.35, 0.65, 1.0
DESCRIBED = 0.8  # actions and situations


@dataclass(frozen=True)
class EmotionPrompt:
    """A text and the emotion that it requests.

    Attributes:
        emotion: one of `emotivetalk.models.emotion.EMOTIONS`, or None if the text requests no emotion.
        intensity: 0..1; it has no meaning if the emotion is None or "neutral".
        kind: how the text expresses the emotion: an emotion word, an action, a situation, a negation, or not at all.
    """

    text: str
    emotion: str | None
    intensity: float
    kind: PromptKind


def lines(text: str) -> tuple[str, ...]:
    """Split a text into lines without their indentation."""
    return tuple(line.strip() for line in text.strip().splitlines())


def weakened(intensity: float) -> float:
    """Return the intensity after "a little"."""
    return max(0.15, 0.5 * intensity)


def strengthened(intensity: float) -> float:
    """Return the intensity after "very"."""
    return 1 - 0.3 * (1 - intensity)
