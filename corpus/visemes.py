"""Lip parameters from phonemes: visemes, coarticulation and complete closures.

Ours: the ground truth of the avatars' mouths. A phoneme has one to three visemes. A viseme has targets for the lip
parameters of `corpus/parameters.py`, and a dominance: its weight against neighboring visemes (Cohen and Massaro, 1993,
"Modeling coarticulation in synthetic visual speech"). Tracks are computed at 200 Hz and sampled in the middle of each
video frame.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from emotivetalk.corpus.parameters import JAW_BY_EMOTION, LIP
from emotivetalk.corpus.speech import Phoneme
from emotivetalk.corpus.voices import Engine
from emotivetalk.timebase import FRAME_RATE_HZ


class Viseme(NamedTuple):
    """Targets of the lip parameters in 0..1, and the viseme's dominance."""

    jaw: float
    wide: float
    pucker: float
    press: float
    tuck: float
    tongue: float
    dominance: float


VISEMES: dict[str, Viseme] = {
    "rest": Viseme(0.00, 0.00, 0.00, 0, 0, 0.0, 0.8),
    "MBP": Viseme(0.00, 0.00, 0.05, 1, 0, 0.0, 1.0),
    "FV": Viseme(0.10, 0.20, 0.00, 0, 1, 0.0, 1.0),
    "TH": Viseme(0.20, 0.15, 0.00, 0, 0, 1.0, 0.8),
    "TDN": Viseme(0.18, 0.25, 0.00, 0, 0, 0.7, 0.5),
    "SZ": Viseme(0.10, 0.45, 0.00, 0, 0, 0.1, 0.8),
    "SH": Viseme(0.18, 0.00, 0.65, 0, 0, 0.1, 1.0),
    "KG": Viseme(0.25, 0.15, 0.00, 0, 0, 0.0, 0.35),
    "H": Viseme(0.30, 0.10, 0.00, 0, 0, 0.0, 0.25),
    "L": Viseme(0.30, 0.20, 0.00, 0, 0, 1.0, 0.7),
    "R": Viseme(0.22, 0.00, 0.50, 0, 0, 0.3, 0.7),
    "W": Viseme(0.12, 0.00, 1.00, 0, 0, 0.0, 1.3),
    "Y": Viseme(0.22, 0.70, 0.00, 0, 0, 0.3, 0.6),
    "AA": Viseme(1.00, 0.05, 0.00, 0, 0, 0.0, 1.1),
    "AE": Viseme(0.80, 0.50, 0.00, 0, 0, 0.1, 1.0),
    "AH": Viseme(0.58, 0.15, 0.00, 0, 0, 0.1, 0.9),
    "AO": Viseme(0.75, 0.00, 0.55, 0, 0, 0.0, 1.0),
    "EH": Viseme(0.55, 0.55, 0.00, 0, 0, 0.2, 1.0),
    "ER": Viseme(0.38, 0.00, 0.50, 0, 0, 0.2, 0.9),
    "IH": Viseme(0.36, 0.60, 0.00, 0, 0, 0.2, 0.8),
    "IY": Viseme(0.28, 1.00, 0.00, 0, 0, 0.3, 1.0),
    "UH": Viseme(0.36, 0.00, 0.60, 0, 0, 0.0, 0.9),
    "UW": Viseme(0.24, 0.00, 1.00, 0, 0, 0.0, 1.1),
    "AX": Viseme(0.36, 0.15, 0.05, 0, 0, 0.1, 0.6),
}


def _pairs(table: str) -> dict[str, tuple[str, ...]]:
    """Parse 'aI=AA IY, k=KG' into a dictionary."""
    entries = (entry.partition("=") for entry in table.split(","))
    return {symbol.strip(): tuple(visemes.split()) for symbol, _, visemes in entries}


# espeak-ng's mnemonics (docs/phonemes.md of espeak-ng). The longest entry that is a prefix of the symbol applies.
# A single ";" is the glide between two vowels ("happy apple"), not a pause.
_ESPEAK = _pairs(
    """_=rest, ?=rest, p=MBP, b=MBP, m=MBP, f=FV, v=FV, T=TH, D=TH, t=TDN, d=TDN, n=TDN, *=TDN, s=SZ, z=SZ, S=SH, Z=SH,
    tS=SH, dZ=SH, k=KG, g=KG, N=KG, x=KG, C=SH, h=H, l=L, r=R, w=W, j=Y, ;=Y, A=AA, A:=AA, A@=AA ER, a=AE, aa=AE, a#=AX,
    aI=AA IY, aI@=AA IY AX, aI3=AA IY ER, aU=AA UW, aU@=AA UW AX, V=AH, VR=AH R, 0=AA, 02=AA, O=AO, O:=AO, O@=AO ER,
    o@=AO ER, OI=AO IY, oI=AO IY, o=AO, oU=AO UW, E=EH, E2=EH, e=EH, eI=EH IY, e@=EH ER, I=IH, I2=IH, I#=IH, i=IY,
    i:=IY, i@=IY AX, i@3=IY ER, U=UH, U@=UH AX, u=UW, u:=UW, y=UW, 3=ER, 3:=ER, @=AX, @2=AX, @5=AX, @L=AX L, @U=AX UW"""
)

# flite's phones: the ARPAbet of the CMU dictionary.
_FLITE = _pairs(
    """pau=rest, p=MBP, b=MBP, m=MBP, em=AX MBP, f=FV, v=FV, th=TH, dh=TH, t=TDN, d=TDN, n=TDN, en=AX TDN, nx=TDN, dx=TDN,
    s=SZ, z=SZ, sh=SH, zh=SH, ch=SH, jh=SH, k=KG, g=KG, ng=KG, hh=H, hv=H, l=L, el=AX L, r=R, w=W, y=Y, aa=AA, ae=AE,
    ah=AH, ao=AO, aw=AA UW, ax=AX, axr=ER, ay=AA IY, eh=EH, er=ER, ey=EH IY, ih=IH, iy=IY, ow=AO UW, oy=AO IY, uh=UH,
    uw=UW"""
)
_LONGEST_SYMBOL = max(map(len, _ESPEAK))
_ESPEAK_MARKS = "'`,;:%=|~^!"  # stress, length and palatalisation

_RATE_HZ = 200
_ANTICIPATION_S = 0.02  # lips move before the sound
_SHAPE_SIGMA_S = 0.035
_CLOSURE_SIGMA_S = 0.018
_CLOSURE_GAIN = 1.5
_SHORTEST_CLOSURE_S = 0.06  # with the sigma and gain above, the closure is complete for more than one frame (40 ms)


def visemes_of(symbol: str, engine: Engine) -> tuple[str, ...]:
    """Return the names of a phoneme's visemes. Raises ValueError for an unknown symbol."""
    if engine == "flite":
        if symbol in _FLITE:
            return _FLITE[symbol]
    else:
        bare = symbol.strip(_ESPEAK_MARKS) or symbol
        for length in range(_LONGEST_SYMBOL, 0, -1):
            if bare[:length] in _ESPEAK:
                return _ESPEAK[bare[:length]]
    raise ValueError(f"{engine} phoneme {symbol!r} has no viseme; add it to the table in corpus/visemes.py")


def lip_track(
    phonemes: Sequence[Phoneme],
    engine: Engine,
    num_frames: int,
    jaw_gain: Float[np.ndarray, "frames"],
) -> Float[np.ndarray, "frames 6"]:
    """Compute lip parameters (order of LIP) at the middle of each frame.

    The mouth is at rest before the first phoneme, and keeps the last phoneme's shape at the end. M, B and P close the lips
    completely, F and V tuck the lower lip completely, in at least one frame each. `jaw_gain` scales the jaw's opening.
    """
    num_ticks = num_frames * _RATE_HZ // FRAME_RATE_HZ
    targets, dominance, closed, tucked = _targets(phonemes, engine, num_ticks)

    def smooth(track: np.ndarray, sigma_s: float) -> np.ndarray:
        return gaussian_filter1d(track, sigma_s * _RATE_HZ, axis=0, mode="nearest")

    blended = smooth(targets * dominance, _SHAPE_SIGMA_S) / smooth(dominance, _SHAPE_SIGMA_S)
    press, tuck = (np.minimum(_CLOSURE_GAIN * smooth(c, _CLOSURE_SIGMA_S), 1) for c in (closed, tucked))
    ticks = (np.arange(num_frames) * 2 + 1) * _RATE_HZ // (2 * FRAME_RATE_HZ)
    lip, press, tuck = blended[ticks], press[ticks], tuck[ticks] * (1 - press[ticks])
    lip[:, LIP.index("jaw")] *= jaw_gain * (1 - 0.95 * press) * (1 - 0.6 * tuck)
    lip[:, LIP.index("tongue")] *= (1 - press) * (1 - tuck)
    lip[:, LIP.index("press")] = press
    lip[:, LIP.index("tuck")] = tuck
    return np.clip(lip, 0, 1.3).astype(np.float32)


def _targets(
    phonemes: Sequence[Phoneme], engine: Engine, num_ticks: int
) -> tuple[
    Float[np.ndarray, "ticks 6"], Float[np.ndarray, "ticks 1"], Float[np.ndarray, "ticks"], Float[np.ndarray, "ticks"]
]:
    """Return for each tick the viseme's targets, its dominance, and 0/1 flags for closed lips and a tucked lip."""
    rest = VISEMES["rest"]
    targets = np.tile(np.array(rest[:-1], np.float64), (num_ticks, 1))
    dominance = np.full((num_ticks, 1), rest.dominance)
    closed, tucked = np.zeros(num_ticks), np.zeros(num_ticks)
    ends_s = [*(phoneme.start_s for phoneme in phonemes[1:]), num_ticks / _RATE_HZ]
    for phoneme, phoneme_end_s in zip(phonemes, ends_s):
        names = visemes_of(phoneme.symbol, engine)
        step_s = (phoneme_end_s - phoneme.start_s) / len(names)
        for part, name in enumerate(names):
            start_s = phoneme.start_s + part * step_s - _ANTICIPATION_S
            end_s = start_s + step_s
            viseme = VISEMES[name]
            span = _span(start_s, end_s)
            targets[span], dominance[span] = viseme[:-1], viseme.dominance
            if name in ("MBP", "FV"):
                extension_s = max(_SHORTEST_CLOSURE_S - step_s, 0)
                closure = _span(start_s - extension_s / 2, end_s + extension_s / 2)
                (closed if name == "MBP" else tucked)[closure] = 1
    return targets, dominance, closed, tucked


def _span(start_s: float, end_s: float) -> slice:
    return slice(max(round(start_s * _RATE_HZ), 0), max(round(end_s * _RATE_HZ), 0))


_JAW_BY_LOUDNESS = 0.12


def jaw_gain(
    emotion_weights: Float[np.ndarray, "frames emotions"], loudness: Float[np.ndarray, "frames"]
) -> Float[np.ndarray, "frames"]:
    """Compute the factor of the jaw's opening, about 0.7 to 1.3, from emotion intensities and loudness (z-score)."""
    by_emotion = JAW_BY_EMOTION[0] + emotion_weights @ (JAW_BY_EMOTION - JAW_BY_EMOTION[0])
    return by_emotion * (1 + _JAW_BY_LOUDNESS * np.clip(loudness, -1.5, 1.5))
