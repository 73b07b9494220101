"""Prompts for an emotion: training data of the emotion mapping's text head (ours).

Training prompts are generated from a vocabulary and sentence frames. The held-out prompts (`held_out_prompts.py`) were
written separately, use other sentences, and share no emotion word with the training vocabulary. They measure the
generalization of the sentence encoder, not the memory of the head.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from emotivetalk.corpus.emotion_vocabulary import VOCABULARY, Vocabulary
from emotivetalk.corpus.held_out_prompts import DEMO_PROMPTS, HELD_OUT, INTENSITY_PAIRS, MEANINGLESS
from emotivetalk.corpus.prompt import (
    DESCRIBED,
    MILD,
    PLAIN,
    STRONG,
    EmotionPrompt,
    PromptKind,
    lines,
    strengthened,
    weakened,
)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


WEAK_MODIFIERS = ("a little", "slightly", "a bit", "somewhat", "mildly")
STRONG_MODIFIERS = ("very", "extremely", "really", "incredibly", "absolutely", "terribly")
WEAK_AMOUNTS = ("a hint of", "a little", "slight", "some mild", "a tinge of")
STRONG_AMOUNTS = ("great", "the greatest", "extreme", "intense", "so much")

# A sentence is a short frame, a request with a clause, or a subject with a statement; the last two may have a tail.
WORD_FRAMES = (
    "Be {}.", "Sound {}.", "Look {}.", "Speak as if you were {}.", "You are {}.", "I feel {}.", "A {} face.", "{}!",
    "Say that sentence as if you were {}.", "Speak in a {} voice.", "a {} expression", "Say this in a {} tone.",
    "Someone who feels {}", "emotion: {}", "tone: {}", "in a {} mood", "{}, please", "a {} person", "feeling {}",
    "style: {}, slowly", "the voice of a {} woman", "a {} man speaks", "{} and slow", "the {} look of a child",
)  # fmt: skip
WORD_CLAUSES = (
    "be {}", "sound {}", "look {}", "act {}", "seem {}", "speak in a {} way", "talk in a {} voice", "stay {}",
    "say this line in a {} tone", "read the text like a {} person", "say it as if you were {}", "become {}",
    "play a {} character", "answer like someone who is {}", "make a {} face", "keep a {} expression", "feel {}",
    "come across as {}", "pretend to be {}", "speak like a {} actor", "present yourself as {}", "talk as a {} boss would",
)  # fmt: skip
NOUN_FRAMES = ("{}", "Full of {}.", "a face full of {}", "a voice of {}", "emotion: {}", "With {}!", "pure {}")
NOUN_CLAUSES = (
    "speak with {}", "say that sentence with {}", "show {}", "express {}", "answer full of {}", "feel {}",
    "put {} into your voice", "say it with {} in your eyes", "let us hear {}", "read this with {} on your face",
)  # fmt: skip
ADVERB_FRAMES = ("{}", "Speak {}.", "Say that sentence {}.", "She speaks {}.", "He replied {}.")
PLAIN_ADVERB_FRAMES = ("{}", "Speak {}.")  # used for every adverb
ADVERB_CLAUSES = (
    "speak {}",
    "say that sentence {}",
    "talk {}",
    "answer {}",
    "look at me {}",
    "read this {}",
    "say it {}",
)
ACTION_FRAMES = ("You {}.", "{}!", "They {}.")
ACTION_CLAUSES = (
    "speak as you {}",
    "talk as if you were about to {}",
    "act like those who {}",
    "speak while you {}",
    "{}",
)
REQUESTS = (
    "{}", "{}", "Please {}", "Can you {}", "I want you to {}", "Let the speaker {}", "Make her {}", "Make him {}",
    "Try to {}", "We need you to {}", "The actor should {}", "Have the woman {}", "In this scene, {}", "You must {}",
    "For this clip, {}", "Would you {}", "The character has to {}", "It would be nice if you could {}", "Now {}",
    "The man in the photo should {}", "My wish: {}", "When you are ready, {}", "I'd love to see you {}", "You'd better {}",
    "The script says: {}", "Next, {}", "She ought to {}", "Tell the presenter to {}", "Ask the girl to {}",
)  # fmt: skip
SUBJECTS = (
    "She", "He", "My brother", "The queen", "The customer", "The old man", "This girl", "The teacher", "The doctor",
    "The woman in the picture", "I", "My colleague", "The captain", "Her voice", "The student", "The whole family",
)  # fmt: skip
STATEMENTS = (
    "is {}", "feels {}", "looks {}", "was {} that evening", "has become {}", "sounds {}", "seems {}", "got {}",
    "has been {} all day", "speaks like someone who is {}", "turned {}", "wants to look {}", "remained {}", "was so {}",
)  # fmt: skip
NOUN_STATEMENTS = (
    "speaks with {}", "is full of {}", "feels {}", "shows {}", "answered with {}", "knows nothing but {}", "radiates {}",
)  # fmt: skip
TAILS = (
    "", "", "", "", " from beginning to end", " this time", " in the whole video", " while you speak", " today", " now",
    " in front of the camera", " on the phone", " in front of the class", " when the door opens", " for ten seconds",
    " as they come in", " at the end", " in the evening", " in the meeting", " to the audience", " all along",
)  # fmt: skip
REWORDED_FRAMES = (
    "Could you deliver this line in the manner of a {} man?", "I would like the avatar to appear {} throughout.",
    "Her mood this morning: {}", "Play the part of a {} neighbour.", "From now on be {}, if you can manage it",
    "Perform the next bit in such a way that everybody thinks you are really {}",
)  # fmt: skip
SITUATION_FRAMES = (
    "Imagine: {}", "Speak as if this had just happened. {}", "Situation: {}", "{} Say it like that.", "{} How do you sound?",
    "Think of this: {}", "{} Now talk.", "This is the scene. {}",
)  # fmt: skip
NEGATION_FRAMES = (
    "Do not {}", "Don't {}", "Never {}", "You must not {}", "Stop it, do not {}", "Please don't {}", "She does not {}",
    "Whatever you do, don't {}", "It is forbidden to {}", "There is no reason to {}", "Try not to {}", "No need to {}",
    "You should not {}", "I am not going to {}", "Nobody should {}", "He never wanted to {}", "You can't {}",
)  # fmt: skip
NEGATED_WORD_FRAMES = (
    "Not {} at all.", "Stop being {}.", "Without being {}.", "None of this is {}.", "Quit being {}.", "I am not {}.",
    "It is not {}.", "You are no longer {}.", "Speak without sounding {}.", "anything but {}", "She isn't {}.",
)  # fmt: skip
NEGATED_NOUN_FRAMES = (
    "Without any {}.", "No {}, please.", "Show no {}.", "Speak with no trace of {}.", "Leave out the {}.", "There is no {}.",
)  # fmt: skip
FRAMES_PER_WORD, FRAMES_PER_ADVERB, FRAMES_PER_ACTION, FRAMES_PER_SITUATION = 7, 4, 2, 2

_NONE_THINGS = _words(
    "train, table, bottle, river, computer, window, lamp, bicycle, carpet, mountain, engine, spoon, bridge, printer, "
    "cabbage, planet, keyboard, ladder, curtain, museum, library, oxygen, paper, bucket, potato, cable, staircase"
)
_NONE_PLACES = _words(
    "in the kitchen, near the station, on the second floor, behind the school, in northern Europe, under the desk, "
    "next to the bank, in the catalogue, at the corner, on page twelve, above the shelf, in the left drawer"
)
_NONE_ADJECTIVES = _words(
    "tall, young, old, British, left-handed, bearded, blond, famous, married, French, blue, fast, slow, loud, quiet, bald, "
    "wealthy, wet, round, hungry, Spanish, retired, well-dressed, barefoot, thirsty, local, medical, digital, early, seated"
)
_NONE_ADVERBS = _words(
    "slowly, quickly, twice, again, in English, in Portuguese, into the microphone, for half a minute, from memory, later, "
    "tomorrow, indoors, outdoors, upstairs, backwards, sideways, alphabetically, weekly, annually, simultaneously, online, "
    "separately, directly, grammatically, fluently, phonetically, in short sentences, in rhyme, with an accent, usually, "
    "through an interpreter, without notes, at noon, on Sundays, side by side, clockwise, in full, in turn, mostly, "
    "frequently, recently, electronically, mathematically, historically, technically, audibly, loudly, quietly, first"
)
_NONE_CLAUSES = (
    "say this line", "read the text", "look at the camera", "speak", "play a character", "say that sentence", "talk",
    "answer the phone", "put the book on the table", "open the window", "count to ten", "walk to the station", "wait",
    "turn round", "write a letter", "buy two tickets", "read this again", "spell the name", "take the second exit",
)  # fmt: skip
_NONE_STATEMENTS = (
    "speaks", "is speaking", "has brown hair", "lives in Madrid", "wears a hat", "is a baker", "reads the text", "sits down",
    "has two sisters", "came by train", "is twenty years old", "has a meeting at noon", "works in a bank", "speaks Dutch",
)  # fmt: skip
_NONE_FRAMES = (
    "The {0} is {1}.", "There are three {0}s {1}.", "A {0} {1}", "Where is the {0}? It is {1}.", "Put the {0} {1}.",
    "{0} {2}", "The {0} weighs {2} kilograms.", "The {0} was built in 19{2}.", "{2} times a {0} makes {2}.",
    "How do you spell {0}?", "This {0} consists of steel and glass.", "buy a {0} {1}", "{0} {0} {0}",
)  # fmt: skip
_NONE_SENTENCES = lines("""
    Speak.
    Say that sentence.
    Talk to the camera.
    Speak faster.
    Speak a little more slowly.
    Speak louder, please.
    Turn your head to the left.
    Look at the camera.
    Read this sentence.
    Say hello.
    Please say the following sentence.
    Speak English.
    Speak with a British accent.
    Nod while you speak.
    The quick brown fox jumps over the lazy dog.
    One two three four five.
    The train leaves at nine.
    Water boils at one hundred degrees.
    Paris is the capital of France.
    import numpy as np
    def main(): return 0
    SELECT name FROM users;
    https://www.example.com/index.html
    hello
    test
    ok
    yes
    video of a person talking
    a portrait of a woman with brown hair
    a man in a blue suit
    4k, high quality, detailed
    25 frames per second
    The meeting starts on Tuesday at ten.
    Add two eggs and stir for a minute.
    The capital has four million inhabitants.
    Chapter three, paragraph seven.
    Version 2.1 is out.
    the of and to a in
    What is the time?
    My name is Robert.
    The shop closes at eight in the evening.
    Visiting hours are from two to five.
    Iron melts at a very high temperature.
    Light travels faster than sound.
    Silver is a metal.
    The molecule has two atoms of hydrogen.
    Peel the carrots and cut them into slices.
    Boil the rice and drain it.
    Stir sugar into the butter.
    Turn left after the second traffic light.
    The bus number four goes to the harbour.
    Press the green button to continue.
    Save the file and close the window.
    Please enter your password.
    The museum is closed on Mondays.
    Page 12 of 40
    Invoice number 20931
    Room 204, second floor
    The garage has a white door.
    The parliament consists of two chambers.
    A picture of a young man with glasses
    a close-up of a woman wearing a hat
    Move your head up and down.
    Look to the right.
    Close your eyes for a second.
    Whisper.
    Pause after every sentence.
    Use simple words.
    Translate this into French.
    print("hello world")
    for i in range(10):
    npm install
    {"key": "value"}
    ???
    ----------
    abc def ghi
    foo bar baz
    lalala
    red yellow black
    nine eleven forty
    zebra violin concrete
    A litre of milk costs one euro.
    The flight takes six hours.
    The river flows into the sea.
    Cows eat grass.
    The moon orbits the earth.
    The library has four thousand books.
    The next lesson is about fractions.
    This is a sentence.
    My phone number ends with seven.""")


def training_prompts(seed: int = 0) -> tuple[EmotionPrompt, ...]:
    """Generate all training prompts. Texts are unique, and none is a held-out prompt."""
    rng = np.random.default_rng(seed)
    held_out = {_plain(prompt.text) for prompt in (*HELD_OUT, *DEMO_PROMPTS, *MEANINGLESS)}
    held_out |= {_plain(prompt.text) for pair in INTENSITY_PAIRS for prompt in pair}
    prompts: dict[str, EmotionPrompt] = {}
    for prompt in _generate(rng):
        if _plain(prompt.text) not in held_out:
            prompts.setdefault(_plain(prompt.text), prompt)
    return tuple(prompts.values())


def reworded_prompts() -> tuple[EmotionPrompt, ...]:
    """Return 12 prompts per emotion with words of the training vocabulary in sentences that are not in training."""
    prompts = []
    for emotion, words in VOCABULARY.items():
        common = [word for word in words.plain if " " not in word][: 2 * len(REWORDED_FRAMES)]
        pairs = zip(REWORDED_FRAMES * 2, common, strict=True)
        prompts += [_prompt(frame, word, emotion, PLAIN, "word") for frame, word in pairs]
    return tuple(prompts)


def emotion_words() -> frozenset[str]:
    """Return the single words of the training vocabulary that name an emotion or its expression."""
    return frozenset(
        phrase
        for words in VOCABULARY.values()
        for phrase in (*words.mild, *words.plain, *words.strong, *words.nouns, *words.adverbs)
        if " " not in phrase
    )


def _generate(rng: np.random.Generator) -> Iterator[EmotionPrompt]:
    for emotion, words in VOCABULARY.items():
        yield from _word_prompts(emotion, words, rng)
        for action in words.actions:
            yield _prompt("{}", action, emotion, DESCRIBED, "action")
            for _ in range(FRAMES_PER_ACTION):
                frame = _frame(ACTION_FRAMES, ACTION_CLAUSES, (), rng)
                yield _prompt(frame, action, emotion, DESCRIBED, "action")
        for situation in words.situations:
            for frame in ("{}", *rng.choice(SITUATION_FRAMES, FRAMES_PER_SITUATION, replace=False)):
                yield _prompt(frame, situation, emotion, DESCRIBED, "situation")
        if emotion != "neutral":
            yield from _negations(words, rng)
    yield from _meaningless(rng)


def _frame(frames: Sequence[str], clauses: Sequence[str], statements: Sequence[str], rng: np.random.Generator) -> str:
    """Draw a sentence with a gap: one of `frames`, a request with a clause, or a subject with a statement."""
    choice = rng.random()
    if choice < 0.35:
        return str(rng.choice(frames))
    tail = str(rng.choice(TAILS))
    if choice < 0.75 or not statements:
        return str(rng.choice(REQUESTS)).format(rng.choice(clauses)) + tail
    return f"{rng.choice(SUBJECTS)} {rng.choice(statements)}{tail}."


def _word_prompts(emotion: str, words: Vocabulary, rng: np.random.Generator) -> Iterator[EmotionPrompt]:
    adjectives = ((MILD, words.mild), (PLAIN, words.plain), (STRONG, words.strong))
    for base, level in adjectives:
        for adjective in level:
            yield _prompt("{}", adjective, emotion, base, "word")
            for _ in range(FRAMES_PER_WORD):
                phrase, intensity = _modified(adjective, emotion, base, WEAK_MODIFIERS, STRONG_MODIFIERS, rng)
                yield _prompt(_frame(WORD_FRAMES, WORD_CLAUSES, STATEMENTS, rng), phrase, emotion, intensity, "word")
    for noun in words.nouns:
        for _ in range(FRAMES_PER_WORD):
            phrase, intensity = _modified(noun, emotion, PLAIN, WEAK_AMOUNTS, STRONG_AMOUNTS, rng)
            yield _prompt(_frame(NOUN_FRAMES, NOUN_CLAUSES, NOUN_STATEMENTS, rng), phrase, emotion, intensity, "word")
    for adverb in words.adverbs:
        for frame in PLAIN_ADVERB_FRAMES:
            yield _prompt(frame, adverb, emotion, PLAIN, "word")
        for _ in range(FRAMES_PER_ADVERB):
            phrase, intensity = _modified(adverb, emotion, PLAIN, WEAK_MODIFIERS, STRONG_MODIFIERS, rng)
            yield _prompt(_frame(ADVERB_FRAMES, ADVERB_CLAUSES, (), rng), phrase, emotion, intensity, "word")


def _modified(
    phrase: str,
    emotion: str,
    intensity: float,
    weak: Sequence[str],
    strong: Sequence[str],
    rng: np.random.Generator,
) -> tuple[str, float]:
    """Return the phrase unchanged, weaker or stronger, with equal probability; neutral stays unchanged."""
    choice = int(rng.integers(3))
    if choice == 0 or emotion == "neutral":
        return phrase, intensity
    if choice == 1:
        return f"{rng.choice(weak)} {phrase}", weakened(intensity)
    return f"{rng.choice(strong)} {phrase}", strengthened(intensity)


def _negations(words: Vocabulary, rng: np.random.Generator) -> Iterator[EmotionPrompt]:
    for word in (*words.mild, *words.plain, *words.strong):
        clause = str(rng.choice(NEGATION_FRAMES)).format(rng.choice(WORD_CLAUSES))
        frame = clause if rng.random() < 0.6 else str(rng.choice(NEGATED_WORD_FRAMES))
        yield _prompt(frame, word, None, 0.0, "negation")
    for noun in words.nouns:
        yield _prompt(str(rng.choice(NEGATED_NOUN_FRAMES)), noun, None, 0.0, "negation")
    for action in words.actions:
        yield _prompt(str(rng.choice(NEGATION_FRAMES)), action, None, 0.0, "negation")


def _meaningless(rng: np.random.Generator) -> Iterator[EmotionPrompt]:
    for sentence in _NONE_SENTENCES:
        yield _prompt("{}", sentence, None, 0.0, "none")
    for adjective in _NONE_ADJECTIVES:
        for _ in range(FRAMES_PER_WORD):
            frame = _frame(WORD_FRAMES, WORD_CLAUSES, STATEMENTS, rng)
            yield _prompt(frame, adjective, None, 0.0, "none")
    for _ in range(300):
        frame = _frame(_NONE_SENTENCES[:20], _NONE_CLAUSES, _NONE_STATEMENTS, rng)
        yield _prompt(frame, "", None, 0.0, "none")
    for thing in _NONE_THINGS:
        for frame in _NONE_FRAMES:
            text = frame.format(thing, rng.choice(_NONE_PLACES), rng.integers(2, 100))
            yield _prompt("{}", text, None, 0.0, "none")
    for _ in range(150):
        letters = rng.choice(list("abcdefghijklmnopqrstuvwxyz0123456789;,.!?"), size=int(rng.integers(2, 14)))
        yield _prompt("{}", "".join(letters), None, 0.0, "none")
        yield _prompt("{}", " ".join(rng.choice(_NONE_THINGS, size=3, replace=False)), None, 0.0, "none")
    for adverb in _NONE_ADVERBS:
        for frame in PLAIN_ADVERB_FRAMES:
            yield _prompt(frame, adverb, None, 0.0, "none")
        for _ in range(FRAMES_PER_ADVERB):
            yield _prompt(_frame(ADVERB_FRAMES, ADVERB_CLAUSES, (), rng), adverb, None, 0.0, "none")


def _prompt(frame: str, words: str, emotion: str | None, intensity: float, kind: PromptKind) -> EmotionPrompt:
    article = frame.replace("a {}", "an {}").replace("A {}", "An {}") if words[:1] in "aeiou" else frame
    text = article.format(words)
    return EmotionPrompt(text[:1].upper() + text[1:], emotion, intensity, kind)


def _plain(text: str) -> str:
    return text.lower().strip(" .!")
