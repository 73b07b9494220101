"""Who speaks: the voices of the synthetic corpus, how an emotion changes a voice, and which voices are held out.

Splits (a voice is in exactly one):

- `held_out`: espeak-ng's variants number 4, 13, 22, 31, 40 and 49 of `ESPEAK_VARIANTS` (every 9th), in all six accents.
- `foreign`: flite's `slt`, a woman, never trained on: the test of another synthesiser's unseen voice.
- `train`: flite's `awb`, `kal16` and `rms` for 12 % of the identities; the others speak by espeak-ng in any of six accents,
  half of them by one of the other 49 variants, half by a throat of their own, which nobody else has (`throat_of`).

Ours: the paper trains on recorded speech; the table of prosody follows what is known of acted emotion (anger loud and
fast, sadness slow, low and flat, fear high and trembling).
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
FLITE_SHARE, OWN_THROAT_SHARE = 0.12, 0.5


@dataclass(frozen=True)
class Voice:
    """One speaking voice. `variant` is espeak-ng's timbre, "" for its plain voice and for flite.

    throat: what the variant is, in espeak-ng's file format; "" for those that espeak-ng comes with.
    """

    engine: Engine
    name: str
    accent: str
    variant: str = ""
    throat: str = ""


@dataclass(frozen=True)
class Prosody:
    """How a sentence is said, on espeak-ng's scales; flite's settings are derived from the same numbers."""

    rate_wpm: float  # words a minute, 85 to 320
    pitch: float  # 0 to 99, 50 is the voice's own
    pitch_range: float  # 0 (monotone) to 99
    volume: float  # 0 to 200, 100 is the voice's own


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
    """The one voice of an identity, drawn as the splits say."""
    rng = np.random.default_rng([identity_seed, 0x701CE])
    voices = VOICES[split]
    if split == "train":
        flite = rng.random() < FLITE_SHARE
        voices = FLITE_TRAINED if flite else tuple(voice for voice in voices if voice.engine == "espeak")
    voice = voices[rng.integers(len(voices))]
    if split == "train" and voice.engine == "espeak" and rng.random() < OWN_THROAT_SHARE:
        variant = f"own-{identity_seed}"
        return Voice("espeak", f"{voice.accent}+{variant}", voice.accent, variant, throat_of(identity_seed))
    return voice


def throat_of(identity_seed: int) -> str:
    """A variant for espeak-ng: formants, pitch, roughness and tone, about as varied as those of the variants it comes with.

    One length of the vocal tract moves all formants; each has a place, strength and width of its own besides. Whoever
    learned to read lips from the sound of 49 variants reads a new one worse than a new sentence (docs/lessons.md).
    """
    rng = np.random.default_rng([identity_seed, 0x7420A7])

    def about(middle: float, log_spread: float, lowest: float, highest: float) -> int:
        return round(float(np.clip(middle * np.exp(log_spread * rng.normal()), lowest, highest)))

    length = about(100, 0.12, 75, 145)
    lines = ["language variant", "name own"]
    for formant in range(9):
        alone, loud = (0.05, 0.25) if formant < 3 else (0.10, 0.60)
        place, strength = about(length, alone, 60, 180), about(100, loud, 8, 220)
        lines.append(f"formant {formant} {place} {strength} {about(100, 0.22, 50, 190)}")
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
_VOICE_JITTER = np.array([8, 9, 0, 0])  # between speakers: some are fast, some are high
_CLIP_JITTER = np.array([9, 5, 8, 7])  # between the clips of one speaker
_LOWEST, _HIGHEST = np.array([85, 2, 0, 25]), np.array([320, 99, 99, 190])


def prosody_of(emotion: int, intensity: float, identity_seed: int, rng: np.random.Generator) -> Prosody:
    """Prosody of an emotion at an intensity in 0..1, with the speaker's habit and jitter drawn from `rng`."""
    neutral, full = (_as_array(_PROSODY[name]) for name in ("neutral", EMOTIONS[emotion]))
    habit = np.random.default_rng([identity_seed, 0x4AB17]).normal(size=4) * _VOICE_JITTER
    said = neutral + intensity * (full - neutral) + habit + rng.normal(size=4) * _CLIP_JITTER
    return Prosody(*np.clip(said, _LOWEST, _HIGHEST).tolist())


def _as_array(prosody: Prosody) -> Float[np.ndarray, "4"]:
    return np.array([prosody.rate_wpm, prosody.pitch, prosody.pitch_range, prosody.volume], np.float64)


def colour(waveform: Float[np.ndarray, "samples"], emotion: int, intensity: float) -> Float[np.ndarray, "samples"]:
    """What an emotion does to a voice beyond prosody: tremble, drive, muffling, roughness. Intensity is in 0..1.

    Every filter is causal and shorter than a millisecond, so phoneme times stay true.
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
        case "contempt":  # through the nose: a dull notch
            waveform = waveform - 0.25 * intensity * _filtered([1, 0, -1], [1, -1.2, 0.81], waveform) * 0.5
        case "happy":  # a smile shortens the tract: brighter
            waveform = waveform + 0.3 * intensity * _filtered([1, -0.9], [1], waveform)
    return np.asarray(waveform, np.float32)


def _filtered(
    zeros: list[float], poles: list[float], waveform: Float[np.ndarray, " samples"]
) -> Float[np.ndarray, " samples"]:
    """The waveform through the filter with these coefficients; scipy's own result may carry its state along."""
    return np.asarray(lfilter(zeros, poles, waveform))
