"""The words that the training prompts of the text source are made of, by emotion (ours); see the YAML files."""

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
    words, scenes = (_table(name) for name in ("emotion_vocabulary.yaml", "emotion_situations.yaml"))
    return {emotion: Vocabulary(**_parts(words[emotion] | scenes[emotion])) for emotion in words}


def _table(name: str) -> dict[str, dict[str, str]]:
    return yaml.safe_load(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def _parts(words: dict[str, str]) -> dict[str, tuple[str, ...]]:
    return {
        field: tuple(
            part.strip() for part in (text.splitlines() if field == "scenes" else text.split(",")) if part.strip()
        )
        for field, text in words.items()
    }


VOCABULARY = _read()
