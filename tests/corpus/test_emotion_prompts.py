import re
from collections import Counter
from collections.abc import Iterable

import pytest

from emotivetalk.corpus.emotion_prompts import emotion_words, reworded_prompts, training_prompts
from emotivetalk.corpus.held_out_prompts import DEMO_PROMPTS, HELD_OUT, INTENSITY_PAIRS, MEANINGLESS, NEGATED
from emotivetalk.corpus.prompt import PROMPT_KINDS, EmotionPrompt, strengthened, weakened
from emotivetalk.models.emotion import EMOTIONS, EmotionText

PAIRED = tuple(prompt for pair in INTENSITY_PAIRS for prompt in pair)
TESTED = (*HELD_OUT, *DEMO_PROMPTS, *MEANINGLESS, *NEGATED, *PAIRED)


@pytest.fixture(scope="module")
def training() -> tuple[EmotionPrompt, ...]:
    return training_prompts()


def words_of(prompts: Iterable[EmotionPrompt]) -> set[str]:
    return {word for prompt in prompts for word in re.findall(r"[a-zé'-]+", prompt.text.lower())}


def same_stem(one: str, other: str) -> bool:
    pairs = enumerate(zip(one, other, strict=False))
    shared = next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))
    return one == other or shared >= 6 or (shared == min(len(one), len(other)) >= 4 and abs(len(one) - len(other)) <= 3)


def test_there_are_thousands_of_every_emotion_and_kind(training: tuple[EmotionPrompt, ...]) -> None:
    assert len(training) > 5000
    emotions = Counter(prompt.emotion for prompt in training)
    assert set(emotions) == {*EMOTIONS, None}
    assert min(emotions.values()) > 400
    assert set(Counter(prompt.kind for prompt in training)) == set(PROMPT_KINDS)


def test_the_same_seed_gives_the_same_prompts(training: tuple[EmotionPrompt, ...]) -> None:
    assert training_prompts(0) == training
    assert training_prompts(1) != training


def test_texts_are_unique_and_none_is_held_out(training: tuple[EmotionPrompt, ...]) -> None:
    texts = [prompt.text.lower().strip(" .!") for prompt in training]
    assert len(set(texts)) == len(texts)
    assert not set(texts) & {prompt.text.lower().strip(" .!") for prompt in TESTED}


def test_tested_prompts_share_no_emotion_word_with_training() -> None:
    # prompts without an emotion may share words
    shared = [
        (word, known)
        for word in words_of((*HELD_OUT, *DEMO_PROMPTS, *NEGATED, *PAIRED))
        for known in emotion_words()
        if same_stem(word, known)
    ]
    assert shared == []


def test_held_out_situations_are_not_reworded_training_situations(training: tuple[EmotionPrompt, ...]) -> None:
    common = words_of(prompt for prompt in training if prompt.kind in ("none", "word"))
    situations = [words_of([prompt]) - common for prompt in training if prompt.kind == "situation"]
    for prompt in HELD_OUT:
        if prompt.kind == "situation":
            words = words_of([prompt]) - common
            assert max(len(words & situation) for situation in situations) <= max(2, len(words) // 2), prompt.text


def test_reworded_prompts_are_new_sentences_with_known_words(training: tuple[EmotionPrompt, ...]) -> None:
    reworded = reworded_prompts()
    assert not {prompt.text for prompt in reworded} & {prompt.text for prompt in training}
    assert set(Counter(prompt.emotion for prompt in reworded).values()) == {12}
    assert all(words_of([prompt]) & emotion_words() for prompt in reworded)


def test_there_are_enough_held_out_prompts() -> None:
    assert len(HELD_OUT) >= 120
    assert min(Counter(prompt.emotion for prompt in HELD_OUT).values()) >= 15
    assert len(MEANINGLESS) >= 15
    assert len(INTENSITY_PAIRS) >= 10
    assert {prompt.text for prompt in DEMO_PROMPTS} == {"Speak seriously", "Be cheerful and say that sentence"}


def test_every_prompt_is_well_formed(training: tuple[EmotionPrompt, ...]) -> None:
    for prompt in (*training, *TESTED):
        EmotionText(prompt.text)
        assert 0 <= prompt.intensity <= 1
        assert prompt.emotion is None or prompt.emotion in EMOTIONS
        assert (prompt.emotion is None) == (prompt.kind in ("none", "negation"))
        assert "{" not in prompt.text.replace('{"', "")
        assert "  " not in prompt.text


def test_pairs_are_of_one_emotion_weaker_first() -> None:
    for weak, strong in INTENSITY_PAIRS:
        assert weak.emotion == strong.emotion
        assert weak.intensity < strong.intensity


def test_modifiers_move_the_intensity_and_stay_in_range() -> None:
    for intensity in (0.35, 0.65, 1.0):
        assert 0 < weakened(intensity) < intensity <= strengthened(intensity) <= 1
