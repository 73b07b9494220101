"""English sentences for the synthetic speakers, from several hundred words that cover every English phoneme.

The hash of a sentence decides if it belongs to the training or the held-out half. About one content word in eight, also
chosen by hash, occurs in held-out sentences only. The `foreign` split uses held-out sentences.

Training sentences contain invented words, so that lips are learned from any sequence of sounds rather than from words.
"""

import re
from hashlib import sha256
from typing import Literal

import numpy as np

Half = Literal["train", "held_out"]

WORDS: dict[str, tuple[str, ...]] = {
    "person": tuple(
        "my father,the old woman,our neighbour,everybody,the boy,a farmer,that man,the whole village,his mother,Peter,"
        "Fiona,Bob,Georgia,uncle Walter,the judge,a young girl,the teacher,Doctor Moore,her cousin,the baker,Victor,"
        "Zoe,the captain,Margaret,the tall policeman,Joy,Matthew,a visitor,the singer,my brother,Charlotte,the nurse,"
        "Beth,Hugh,a famous writer,the pilot,Felix,our cook,Yolanda,the thief,a soldier,Philip".split(",")
    ),
    "animal": tuple(
        "puppy fox bear rabbit mouse horse wolf goat pigeon beaver bull giraffe monkey fly whale thrush camel leopard "
        "frog bee peacock zebra".split()
    ),
    "thing": tuple(
        "window bottle picture button pocket balloon movie shadow bridge basket table feather jewel cushion mirror "
        "hammer paper ribbon wheel book ladder pillow trumpet box coin toy boat vase map cup lamp oven shoe bag piano "
        "glove stove kettle phone camera television suitcase pebble thumb cloth path tooth wreath jar cage jug chair "
        "church watch match peach sandwich measure treasure garage letter number vegetable beam shovel knife pipe "
        "tomb mop web rope drum comb bulb leaf roof cave".split()
    ),
    "mass": tuple(
        "music water coffee bread leather milk sugar weather fever wood gold thunder money pleasure snow soup poison "
        "noise work butter smoke wool beige paint perfume mud foam wine earth health".split()
    ),
    "place": tuple(
        "in the garden,by the river,on the mountain,at the market,under the bridge,in our village,near the harbour,"
        "behind the church,above the valley,at school,in the kitchen,on the beach,through the forest,along the road,"
        "across the bay,beyond the farm,before the palace,over the moor,inside the museum,outside the tavern,"
        "without a map,beneath the tower,in the shop,with both of them,from Bombay,to Vienna,round the fire".split(",")
    ),
    "adjective": tuple(
        "happy small purple wooden quiet famous yellow broken gentle empty heavy modern simple foolish warm bright dark "
        "cheap rough smooth beautiful marvellous brave fabulous huge pale blue thick thin northern worthy fuzzy vivid "
        "lovely bitter weird curious sharp wet open narrow poor royal loyal good full awful thoughtful mad fresh easy "
        "obvious impossible usual crimson humble bubbly vague plump".split()
    ),
    "verb": tuple(
        "found opened moved painted followed bought carried remembered visited pushed believed watched borrowed measured "
        "covered forgot polished improved chose shook brought wrapped saved loved bumped threw imagined enjoyed noticed "
        "avoided employed prepared chewed judged wove robbed folded mapped baked filmed gathered weighed dropped "
        "photographed refused".split()
    ),
    "past": tuple(
        "laughed,waited,smiled,vanished,fell asleep,went home,began to whisper,woke up,swam,shouted,moved away,ran past,"
        "gave up,coughed,wept,jumped,hopped about,looked back,breathed,came too,behaved,mumbled,played,arrived".split(
            ","
        )
    ),
    "stem": tuple(
        "help move bring measure buy open believe follow push watch choose wash give leave remember enjoy fix grab "
        "boil chop save refuse pay employ".split()
    ),
    "adverb": tuple(
        "slowly,quickly,every day,yesterday,again,today,tomorrow,all the time,at once,before five,very often,usually,"
        "perhaps,for a while,last February,this morning,on Wednesday,by then,together,with a smile,out loud,"
        "without a word,after breakfast,in July".split(",")
    ),
    "opener": tuple(
        "well,oh,maybe,of course,by the way,look,please,above all,believe me,no,yes,wow,hey,for example,"
        "in my view,above everything,oh boy,my word,believe it or not,if I may".split(",")
    ),
    "question": tuple("why did,when did,how did,where did,did,why would,could,should,how could,would".split(",")),
    "plural": tuple(
        "apples bees potatoes wolves mothers pages leaves thieves voices puppies beavers maps things cheeses months "
        "paths gloves bushes boys pears roses blueberries".split()
    ),
    "number": tuple(
        str(n) for n in (2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 15, 20, 24, 33, 40, 56, 70, 85, 99, 150, 500, 1000)
    ),
}

TEMPLATES: tuple[str, ...] = (
    "{person} {verb} the {adjective} {thing} {place}.",
    "{person} {verb} a {thing} {adverb}, and {person} {past}.",
    "{question} {person} {stem} the {adjective} {animal} {place}?",
    "the {thing} was {adjective}, but the {mass} was {adjective}.",
    "{person} {verb} {number} {plural} {place}.",
    "{opener}, {person} {verb} my {adjective} {thing}.",
    "there were {number} {adjective} {plural} {place}.",
    "I {verb} the {mass} because {person} {past}.",
    "we will {stem} the {thing} and the {animal} {adverb}.",
    "what {adjective} {mass}, and what a {adjective} {animal}!",
    "is the {thing} {place}, or did {person} {stem} it?",
    "{person} {past} {place} when the {animal} {past}.",
    "they never {verb} {mass} before {person} {verb} a {thing}.",
    "who {verb} her {adjective} {plural} {adverb}?",
    "if you {stem} the {thing}, {person} may {stem} the {mass}.",
    "{opener}, both {plural} and {plural} are {adjective}.",
)
SHORT_TEMPLATES: tuple[str, ...] = (
    "the {animal} {past}.",
    "{person} {past}.",
    "{opener}, {mass}!",
    "we {verb} {plural}.",
    "what a {adjective} {thing}!",
    "{person} {verb} it.",
    "is it {adjective}?",
    "give me {number}.",
)

_SLOT = re.compile(r"\{(\w+)\}")
_A_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[aeio])")
_RESERVED_EVERY = 8
_NEVER_RESERVED = ("question", "number")  # too few words to reserve some


def _hash(text: str) -> int:
    return sha256(text.encode()).digest()[0]


def is_reserved(kind: str, word: str) -> bool:
    """Return True if a word is reserved for held-out sentences."""
    return kind not in _NEVER_RESERVED and _hash(f"{kind}: {word}") % _RESERVED_EVERY == 0


_ALL_WORDS = frozenset(word for words in WORDS.values() for word in words)
_TRAINED: dict[str, tuple[str, ...]] = {
    kind: tuple(word for word in words if not is_reserved(kind, word)) for kind, words in WORDS.items()
}


def half_of(sentence: str) -> Half:
    """Return the half that a sentence belongs to, a pure function of its text."""
    return "held_out" if _hash(sentence) % 2 else "train"


_BEGINNINGS = tuple(
    "b bl br ch d dr f fl fr g gl gr h j k kl kr kw l m n p pl pr r s sh sk sl sm sn sp st sw t th tr tw v w y z".split()
)
_MIDDLES = tuple("a ai ar au e ea ee er i ie o oa oi oo or ou ow u".split())
_ENDS = tuple("b ch d f ft g k l lb lf lm lp m mp n nch nd ng nt p ps r s sh sk st t th ve x z".split())
_INVENTED_KINDS = ("animal", "thing", "mass", "adjective", "plural", "verb", "stem")
_INVENTED_SHARE = 0.25


def invented_word(rng: np.random.Generator) -> str:
    """Draw a word of one or two syllables that sounds English and is not in `WORDS`."""

    def draw(choices: tuple[str, ...]) -> str:
        return choices[rng.integers(len(choices))]

    while True:
        opening = draw(_BEGINNINGS) + draw(_MIDDLES) if rng.random() < 0.6 else ""
        word = opening + draw(_BEGINNINGS) + draw(_MIDDLES) + draw(_ENDS)
        if word not in _ALL_WORDS:
            return word


def sentence(rng: np.random.Generator, half: Half, short: bool = False) -> str:
    """Draw a sentence of a half. It takes two to three seconds to speak; a short one takes about one."""
    words = _TRAINED if half == "train" else WORDS
    templates = SHORT_TEMPLATES if short else TEMPLATES

    def choose(slot: re.Match[str]) -> str:
        if half == "train" and slot[1] in _INVENTED_KINDS and rng.random() < _INVENTED_SHARE:
            return invented_word(rng)
        choices = words[slot[1]]
        return choices[rng.integers(len(choices))]

    while True:
        text = _SLOT.sub(choose, templates[rng.integers(len(templates))])
        text = _A_BEFORE_VOWEL.sub(r"\1n ", text)
        text = text[0].upper() + text[1:]
        if half_of(text) == half:
            return text
