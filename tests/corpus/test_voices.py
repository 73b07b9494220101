import numpy as np
import pytest

from emotivetalk.corpus.voices import (
    ESPEAK_ACCENTS,
    ESPEAK_VARIANTS,
    FLITE_SHARE,
    OWN_VARIANT_SHARE,
    VOICES,
    colour,
    prosody_of,
    voice_of,
)
from emotivetalk.models.emotion import EMOTIONS


def test_splits_share_no_voice_and_no_variant():
    train, held_out = ({v.variant for v in VOICES[s] if v.engine == "espeak"} for s in ("train", "held_out"))
    assert not train & held_out
    assert len(train | held_out) == len(ESPEAK_VARIANTS) == 55
    assert len(held_out) == 6 and len(ESPEAK_ACCENTS) == 6
    assert {v.name for v in VOICES["foreign"]} == {"slt"}
    assert "slt" not in {v.name for v in VOICES["train"]}


def test_identity_keeps_its_voice_and_some_speak_flite():
    voices = [voice_of(seed, "train") for seed in range(600)]
    assert voices == [voice_of(seed, "train") for seed in range(600)]
    assert abs(np.mean([v.engine == "flite" for v in voices]) - FLITE_SHARE) < 0.04
    assert len(set(voices)) > 200


def test_half_of_the_espeak_training_voices_have_a_random_variant():
    voices = [voice_of(seed, "train") for seed in range(600)]
    own = [voice for voice in voices if voice.definition]
    assert abs(len(own) / sum(v.engine == "espeak" for v in voices) - OWN_VARIANT_SHARE) < 0.06
    assert len({voice.definition for voice in own}) == len({voice.name for voice in own}) == len(own)
    assert not {voice.variant for voice in own} & {voice.variant for split in VOICES.values() for voice in split}
    assert not any(voice_of(seed, split).definition for seed in range(200) for split in ("held_out", "foreign"))


@pytest.mark.parametrize("emotion", range(len(EMOTIONS)))
def test_prosody_follows_the_emotion(emotion):
    def mean(intensity: float) -> np.ndarray:
        drawn = (prosody_of(emotion, intensity, 5, np.random.default_rng(seed)) for seed in range(40))
        return np.mean([[p.rate_wpm, p.pitch, p.pitch_range, p.volume] for p in drawn], axis=0)

    none, half, full = mean(0.0), mean(0.5), mean(1.0)
    np.testing.assert_allclose(half, (none + full) / 2, atol=6)
    assert emotion == EMOTIONS.index("neutral") or np.abs(full - none).max() > 15


def test_sad_is_slow_and_low_and_angry_loud():
    sad, angry = (prosody_of(EMOTIONS.index(e), 1.0, 0, np.random.default_rng(0)) for e in ("sad", "angry"))
    assert sad.rate_wpm < angry.rate_wpm - 40 and sad.pitch < angry.pitch and sad.volume < angry.volume - 50


@pytest.mark.parametrize("emotion", range(len(EMOTIONS)))
def test_colour_keeps_time_and_grows_with_intensity(emotion):
    waveform = 0.3 * np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    waveform[:8_000] = 0
    weak, strong = (colour(waveform, emotion, intensity) for intensity in (1 / 3, 1.0))
    assert strong.dtype == np.float32 and strong.shape == waveform.shape and np.isfinite(strong).all()
    assert not strong[:8_000].any()  # the filters are causal
    changed = [np.abs(w - waveform).mean() for w in (weak, strong)]
    plain = EMOTIONS[emotion] in ("neutral", "surprised")  # prosody alone
    assert changed == [0, 0] if plain else 0 < changed[0] < changed[1]
