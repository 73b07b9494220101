"""Vocabulary of the training prompts by emotion (ours), read from the YAML files."""

from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Vocabulary:
    """Vocabulary of one emotion.

    Attributes:
        mild, plain, strong: adjectives by intensity, as in "be ...".
        nouns: as in "full of ...".
        adverbs: as in "speak ...".
        actions: as in "you ...".
        situations: whole sentences.
    """

    mild: tuple[str, ...]
    plain: tuple[str, ...]
    strong: tuple[str, ...]
    nouns: tuple[str, ...]
    adverbs: tuple[str, ...]
    actions: tuple[str, ...]
    situations: tuple[str, ...]


def _read() -> dict[str, Vocabulary]:
    words, situations = (_table(name) for name in ("emotion_vocabulary.yaml", "emotion_situations.yaml"))
    return {emotion: Vocabulary(**_phrases(words[emotion] | situations[emotion])) for emotion in words}


def _table(name: str) -> dict[str, dict[str, str]]:
    return yaml.safe_load(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def _phrases(words: dict[str, str]) -> dict[str, tuple[str, ...]]:
    return {
        field: tuple(
            part.strip() for part in (text.splitlines() if field == "situations" else text.split(",")) if part.strip()
        )
        for field, text in words.items()
    }


VOCABULARY = _read()
