import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotivetalk.corpus.parameters import EMOTION_TARGETS, LIP
from emotivetalk.corpus.speech import Phoneme
from emotivetalk.corpus.visemes import VISEMES, jaw_gain, lip_track, visemes_of

JAW, WIDE, PUCKER, PRESS, TUCK, TONGUE = range(len(LIP))


def track(*phonemes: tuple[float, str], engine="espeak", num_frames=50) -> np.ndarray:
    return lip_track([Phoneme(*p) for p in phonemes], engine, num_frames, np.ones(num_frames))


@settings(deadline=None, max_examples=60)
@given(
    consonant=st.sampled_from(["p", "b", "m", "f", "v"]),
    start_s=st.floats(0.3, 1.2),
    length_s=st.floats(0.005, 0.15),
    vowel=st.sampled_from(["A:", "a", "i:", "u:", "@"]),
)
def test_lips_close_or_tuck_fully_however_short_the_consonant(consonant, start_s, length_s, vowel):
    lip = track((0.0, vowel), (start_s, consonant), (start_s + length_s, vowel))
    shut = lip[:, PRESS if consonant in "pbm" else TUCK]
    assert shut.max() > 0.97
    if consonant in "pbm":
        assert lip[shut.argmax(), JAW] < 0.08
    frames = np.flatnonzero(shut > 0.5)
    assert abs((frames.mean() + 0.5) / 25 - (start_s + length_s / 2)) < 0.06  # in the middle of the consonant
    assert len(frames) <= np.ceil((max(length_s, 0.06) + 0.04) * 25) + 1  # and no longer


def test_vowels_reach_their_shapes():
    opened, spread, rounded = (track((0.0, "_:"), (0.4, v), (1.2, "_:"))[18] for v in ("A:", "i:", "u:"))
    assert opened[JAW] > 0.95 and spread[WIDE] > 0.95 and rounded[PUCKER] > 0.95
    assert spread[PUCKER] < 0.05 and rounded[WIDE] < 0.05


def test_neighbors_change_a_weak_consonant_more_than_a_strong_one():
    def pucker_between_rounds(consonant: str) -> float:
        return track((0.0, "u:"), (0.6, consonant), (0.7, "u:"))[15, PUCKER]

    assert pucker_between_rounds("k") > pucker_between_rounds("s") > VISEMES["SZ"].pucker + 0.1


def test_silence_is_a_closed_mouth_at_rest():
    assert np.abs(track((0.0, "_:"))).max() == 0
    assert np.abs(track()).max() == 0


def test_motion_is_smooth():
    lip = track(*((0.1 * i, symbol) for i, symbol in enumerate(["A:", "i:", "u:", "a", "o"] * 4)))
    assert np.abs(np.diff(lip[:, [JAW, WIDE, PUCKER]], axis=0)).max() < 0.75


def test_shift_of_the_speech_shifts_the_lips():
    phonemes = [(0.2, "m"), (0.3, "A:"), (0.5, "f"), (0.6, "i:"), (0.9, "_")]
    later = track(*((start_s + 0.4, symbol) for start_s, symbol in phonemes))
    np.testing.assert_allclose(later[14:40], track(*phonemes)[4:30], atol=1e-6)


@pytest.mark.parametrize(
    ("symbol", "engine", "expected"),
    [
        ("aI@", "espeak", ("AA", "IY", "AX")),
        ("'aI", "espeak", ("AA", "IY")),
        ("tS", "espeak", ("SH",)),
        ("t;", "espeak", ("TDN",)),
        ("t#", "espeak", ("TDN",)),
        ("_:", "espeak", ("rest",)),
        (";", "espeak", ("Y",)),
        ("ay", "flite", ("AA", "IY")),
        ("pau", "flite", ("rest",)),
        ("th", "flite", ("TH",)),
    ],
)
def test_phonemes_have_visemes(symbol, engine, expected):
    assert visemes_of(symbol, engine) == expected


def test_unknown_phoneme_is_named():
    with pytest.raises(ValueError, match="flite phoneme 'qq'"):
        visemes_of("qq", "flite")


def test_every_viseme_is_used():
    from emotivetalk.corpus import visemes

    for table in (visemes._ESPEAK, visemes._FLITE):
        assert {name for names in table.values() for name in names} == set(VISEMES)


def test_jaw_opens_with_loudness_and_emotion():
    weights = np.eye(len(EMOTION_TARGETS), dtype=np.float32)
    even = jaw_gain(weights, np.zeros(8))
    assert even.argmin() == 6 and even[1] > even[0]  # sad mumbles, angry does not
    assert (jaw_gain(weights, np.ones(8)) > even).all()
