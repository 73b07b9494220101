"""Voices of the synthetic corpus, their splits, and the effect of an emotion on a voice.

Each voice belongs to one split:

- `held_out`: espeak-ng's variants number 4, 13, 22, 31, 40 and 49 of `ESPEAK_VARIANTS` (every 9th), in all six accents.
- `foreign`: flite's `slt`, a woman's voice of another synthesizer that is not in training.
- `train`: flite's `awb`, `kal16` and `rms` for 12 % of the identities. The others use espeak-ng with any of six accents:
  half of them with one of the other 49 variants, half with a random variant of their own (`random_variant`).

Ours: the paper trains on recorded speech. The prosody follows the literature on acted emotion (anger is loud and fast,
sadness slow, low and flat, fear high and trembling).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.signal import lfilter

from emotivetalk.corpus.records import Split
from emotivetalk.models.emotion import EMOTIONS
from emotivetalk.timebase import SAMPLE_RATE_HZ

Engine = Literal["espeak", "flite"]

ESPEAK_ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-us-nyc", "en-029", "en-gb-scotland")  # "en" is British
ESPEAK_VARIANTS: tuple[str, ...] = (
    *("", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5", "Alex", "adam", "Andy", "Annie"),
    *("anika", "belinda", "benjamin", "Denis", "Diogo", "ed", "Gene", "grandma", "grandpa", "Hugo", "iven", "Jacky"),
    *("john", "kaukovalta", "Lee", "linda", "marcelo", "Mario", "max", "Michael", "michel", "miguel", "Mike"),
    *("norbert", "pablo", "paul", "pedro", "quincy", "rob", "robert", "RicishayMax", "sandro", "shelby", "steph"),
    *("steph2", "travis", "victor", "zac"),
)
HELD_OUT_EVERY, HELD_OUT_FIRST = 9, 4
FLITE_SHARE, OWN_VARIANT_SHARE = 0.12, 0.5


@dataclass(frozen=True)
class Voice:
    """A voice.

    Attributes:
        variant: espeak-ng's timbre; "" for its plain voice and for flite.
        definition: definition of a random variant in espeak-ng's file format; "" for espeak-ng's own variants.
    """

    engine: Engine
    name: str
    accent: str
    variant: str = ""
    definition: str = ""


@dataclass(frozen=True)
class Prosody:
    """Prosody of a sentence on espeak-ng's scales; flite's settings are derived from them."""

    rate_wpm: float  # words per minute, 85 to 320
    pitch: float  # 0 to 99; 50 is the voice's default
    pitch_range: float  # 0 (monotone) to 99
    volume: float  # 0 to 200; 100 is the voice's default


FLITE_TRAINED = (
    Voice("flite", "awb", "en-gb-scotland"),
    Voice("flite", "kal16", "en-us"),
    Voice("flite", "rms", "en-us"),
)
FLITE_FOREIGN = Voice("flite", "slt", "en-us")


def _espeak_voices(held_out: bool) -> tuple[Voice, ...]:
    variants = [v for i, v in enumerate(ESPEAK_VARIANTS) if (i % HELD_OUT_EVERY == HELD_OUT_FIRST) == held_out]
    return tuple(Voice("espeak", f"{a}+{v}" if v else a, a, v) for a in ESPEAK_ACCENTS for v in variants)


VOICES: dict[Split, tuple[Voice, ...]] = {
    "train": (*_espeak_voices(held_out=False), *FLITE_TRAINED),
    "held_out": _espeak_voices(held_out=True),
    "foreign": (FLITE_FOREIGN,),
}


def voice_of(identity_seed: int, split: Split) -> Voice:
    """Return the voice of an identity in a split."""
    rng = np.random.default_rng([identity_seed, 0x701CE])
    voices = VOICES[split]
    if split == "train":
        flite = rng.random() < FLITE_SHARE
        voices = FLITE_TRAINED if flite else tuple(voice for voice in voices if voice.engine == "espeak")
    voice = voices[rng.integers(len(voices))]
    if split == "train" and voice.engine == "espeak" and rng.random() < OWN_VARIANT_SHARE:
        variant = f"own-{identity_seed}"
        return Voice("espeak", f"{voice.accent}+{variant}", voice.accent, variant, random_variant(identity_seed))
    return voice


def random_variant(identity_seed: int) -> str:
    """Draw a variant definition for espeak-ng: formants, pitch, roughness and tone, as varied as in its own variants.

    The length of the vocal tract shifts all formants together; each formant also has its own position, strength and
    width. A network that was trained on only 49 variants generalized worse to a new variant than to a new sentence
    (docs/lessons.md).
    """
    rng = np.random.default_rng([identity_seed, 0x7420A7])

    def about(middle: float, log_spread: float, lowest: float, highest: float) -> int:
        return round(float(np.clip(middle * np.exp(log_spread * rng.normal()), lowest, highest)))

    length = about(100, 0.12, 75, 145)
    lines = ["language variant", "name own"]
    for formant in range(9):
        shift_spread, strength_spread = (0.05, 0.25) if formant < 3 else (0.10, 0.60)
        position, strength = about(length, shift_spread, 60, 180), about(100, strength_spread, 8, 220)
        lines.append(f"formant {formant} {position} {strength} {about(100, 0.22, 50, 190)}")
    lowest_hz = about(110, 0.4, 50, 260)
    lines.append(f"pitch {lowest_hz} {round(lowest_hz * rng.uniform(1.1, 1.8))}")
    lines.append(f"voicing {about(85, 0.3, 35, 130)}")
    lines.append(f"consonants {about(90, 0.25, 45, 140)} {about(90, 0.25, 45, 140)}")
    lines.append(f"flutter {rng.integers(6)}")
    lines.append(f"roughness {rng.integers(4)}")
    bass, middle, treble = (about(170, 0.4, 60, 255) for _ in range(3))
    lines.append(f"tone 600 {bass} 1200 {middle} {about(3000, 0.4, 1600, 6000)} {treble}")
    return "\n".join(lines) + "\n"


_PROSODY = {
    "neutral": Prosody(172, 50, 45, 90),
    "angry": Prosody(198, 54, 75, 150),
    "contempt": Prosody(152, 42, 35, 82),
    "disgusted": Prosody(138, 38, 60, 98),
    "fear": Prosody(215, 72, 25, 72),
    "happy": Prosody(190, 68, 95, 112),
    "sad": Prosody(122, 33, 12, 58),
    "surprised": Prosody(182, 82, 99, 118),
}
_VOICE_JITTER = np.array([8, 9, 0, 0])  # spread between speakers
_CLIP_JITTER = np.array([9, 5, 8, 7])  # spread between clips of one speaker
_LOWEST, _HIGHEST = np.array([85, 2, 0, 25]), np.array([320, 99, 99, 190])


def prosody_of(emotion: int, intensity: float, identity_seed: int, rng: np.random.Generator) -> Prosody:
    """Draw the prosody of an emotion at an intensity in 0..1, with the speaker's habit and jitter from `rng`."""
    neutral, full = (_as_array(_PROSODY[name]) for name in ("neutral", EMOTIONS[emotion]))
    habit = np.random.default_rng([identity_seed, 0x4AB17]).normal(size=4) * _VOICE_JITTER
    values = neutral + intensity * (full - neutral) + habit + rng.normal(size=4) * _CLIP_JITTER
    return Prosody(*np.clip(values, _LOWEST, _HIGHEST).tolist())


def _as_array(prosody: Prosody) -> Float[np.ndarray, "4"]:
    return np.array([prosody.rate_wpm, prosody.pitch, prosody.pitch_range, prosody.volume], np.float64)


def colour(waveform: Float[np.ndarray, "samples"], emotion: int, intensity: float) -> Float[np.ndarray, "samples"]:
    """Apply an emotion's timbre to a voice: tremble, saturation, muffling or roughness. Intensity is in 0..1.

    Every filter is causal and shorter than a millisecond, so phoneme times stay valid.
    """
    time_s = np.arange(len(waveform)) / SAMPLE_RATE_HZ
    match EMOTIONS[emotion]:
        case "fear":  # a trembling voice
            waveform = waveform * (1 - 0.35 * intensity * (0.5 + 0.5 * np.sin(2 * np.pi * 7.5 * time_s)))
        case "angry":  # pressed: saturated, with a bright edge
            driven = np.tanh(waveform * (1 + 1.5 * intensity)) / (1 + 0.4 * intensity)
            waveform = driven + 0.5 * intensity * _filtered([1, -0.95], [1], driven)
        case "sad":  # muffled
            pole = 0.55 * intensity
            waveform = _filtered([1 - pole], [1, -pole], waveform)
        case "disgusted":  # creaking
            waveform = waveform * (1 - 0.2 * intensity * (np.sin(2 * np.pi * 32 * time_s) > 0.2))
        case "contempt":  # nasal: a notch
            waveform = waveform - 0.25 * intensity * _filtered([1, 0, -1], [1, -1.2, 0.81], waveform) * 0.5
        case "happy":  # a smile shortens the vocal tract, which sounds brighter
            waveform = waveform + 0.3 * intensity * _filtered([1, -0.9], [1], waveform)
    return np.asarray(waveform, np.float32)


def _filtered(
    zeros: list[float], poles: list[float], waveform: Float[np.ndarray, " samples"]
) -> Float[np.ndarray, " samples"]:
    """Filter the waveform with these coefficients."""
    return np.asarray(lfilter(zeros, poles, waveform))
