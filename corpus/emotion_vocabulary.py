"""The words that the training prompts of the text source are made of, by emotion (ours); see the YAML beside this file."""

from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Vocabulary:
    """The words of one emotion.

    Phrases complete "be ...", "full of ...", "speak ..." and "you ...";
    scenes are sentences.
    """

    mild: tuple[str, ...]
    plain: tuple[str, ...]
    strong: tuple[str, ...]
    nouns: tuple[str, ...]
    adverbs: tuple[str, ...]
    actions: tuple[str, ...]
    scenes: tuple[str, ...]


def _read() -> dict[str, Vocabulary]:
    text = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    return {emotion: Vocabulary(**_parts(words)) for emotion, words in yaml.safe_load(text).items()}


def _parts(words: dict[str, str]) -> dict[str, tuple[str, ...]]:
    return {
        field: tuple(
            part.strip() for part in (text.splitlines() if field == "scenes" else text.split(",")) if part.strip()
        )
        for field, text in words.items()
    }


VOCABULARY = _read()
