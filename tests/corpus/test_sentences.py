import re

import numpy as np
import pytest

from emotivetalk.corpus.sentences import (
    SHORT_TEMPLATES,
    TEMPLATES,
    WORDS,
    half_of,
    invented_word,
    is_reserved,
    sentence,
)


def test_vocabulary_is_rich_and_mostly_trained():
    words = [(kind, word) for kind, choices in WORDS.items() for word in choices]
    reserved = [word for kind, word in words if is_reserved(kind, word)]
    assert len({word for _, word in words}) >= 300
    assert 0.06 < len(reserved) / len(words) < 0.2


@pytest.mark.parametrize("half", ["train", "held_out"])
def test_sentences_stay_in_their_half(half):
    rng = np.random.default_rng(0)
    sentences = [sentence(rng, half) for _ in range(200)]
    assert {half_of(text) for text in sentences} == {half}
    assert len(set(sentences)) > 195
    assert all(text[0].isupper() and text[-1] in ".?!" and "{" not in text for text in sentences)


def test_reserved_words_are_never_trained():
    rng = np.random.default_rng(1)
    trained = " ".join(sentence(rng, "train") for _ in range(1500)).lower()
    held_out = " ".join(sentence(rng, "held_out") for _ in range(1500)).lower()
    reserved = [word for word in WORDS["verb"] if is_reserved("verb", word)]
    assert reserved
    assert not [word for word in reserved if f" {word} the " in trained]
    assert [word for word in reserved if f" {word} the " in held_out]


def test_same_generator_same_sentence():
    assert sentence(np.random.default_rng(3), "train") == sentence(np.random.default_rng(3), "train")


def test_articles_fit():
    rng = np.random.default_rng(0)
    text = " ".join(sentence(rng, "train") for _ in range(500))
    assert not re.search(r"\b[Aa] [aeio]", text)
    assert re.search(r"\ban [aeio]", text)


def test_short_sentences_come_from_short_templates():
    rng = np.random.default_rng(0)
    lengths = [[len(sentence(rng, "train", short=short).split()) for _ in range(100)] for short in (True, False)]
    assert np.mean(lengths[0]) < np.mean(lengths[1]) - 3
    assert not set(SHORT_TEMPLATES) & set(TEMPLATES)


def test_only_training_sentences_have_invented_words():
    rng = np.random.default_rng(2)
    known = set(
        re.findall("[a-z]+", " ".join([*TEMPLATES, *(word for kind in WORDS.values() for word in kind)]).lower())
    )

    def unknown(half: str) -> int:
        used = re.findall("[a-z]+", " ".join(sentence(rng, half) for _ in range(300)).lower())
        return len([word for word in used if word not in known | {"an"}])

    assert unknown("held_out") == 0 and unknown("train") > 60


def test_an_invented_word_is_no_word_of_the_corpus():
    words = {word for kind in WORDS.values() for word in kind}
    invented = [invented_word(np.random.default_rng(seed)) for seed in range(3000)]
    assert not words & set(invented) and len(set(invented)) > 2500
