"""Speech activity by loudness and by the periodicity of the voice (ours)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from emotivetalk.media.audio import Waveform
from emotivetalk.timebase import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

STEP = SAMPLES_PER_FRAME
WINDOW = 2 * STEP
MIN_LEVEL_DB = -50.0  # of full scale
MAX_BELOW_LOUD_DB = 30.0
MIN_PERIODICITY = 0.45
PITCH_HZ = (60.0, 420.0)
MIN_SWAY_DB = 2.0  # standard deviation of the level: a hum is periodic but constant, speech has syllables


@dataclass(frozen=True)
class SpeechActivity:
    """Speech activity of a piece of sound.

    Attributes:
        share: share of its frames with a voice, 0 to 1; 0 for a hum.
        level_db: level of the loud frames, relative to full scale.
    """

    share: float
    level_db: float


def speech_activity(waveform: Waveform) -> SpeechActivity:
    """Measure 16 kHz mono sound of at least one frame."""
    windows = _windows(waveform)
    level_db = 10 * np.log10(np.maximum(windows.var(1), 1e-12))
    loud_db = float(np.percentile(level_db, 90))
    is_loud = (level_db > MIN_LEVEL_DB) & (level_db > loud_db - MAX_BELOW_LOUD_DB)
    is_voiced = is_loud & _is_periodic(windows)
    sways = is_loud.any() and float(level_db[is_loud].std()) > MIN_SWAY_DB
    return SpeechActivity(float(is_voiced.mean()) if sways else 0.0, loud_db)


def _windows(waveform: Waveform) -> Float[np.ndarray, "frames window"]:
    num = max(1, len(waveform) // STEP)
    padded = np.pad(waveform.astype(np.float64), (STEP // 2, WINDOW))
    return np.stack([padded[i * STEP : i * STEP + WINDOW] for i in range(num)])


def _is_periodic(windows: Float[np.ndarray, "frames window"]) -> Bool[np.ndarray, " frames"]:
    """Test each window for a period in the range of a voice's pitch, by autocorrelation."""
    centred = windows - windows.mean(1, keepdims=True)
    spectrum = np.fft.rfft(centred, 2 * WINDOW)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:, :WINDOW]
    low, high = (round(SAMPLE_RATE_HZ / pitch) for pitch in reversed(PITCH_HZ))
    overlap = 1 - np.arange(WINDOW) / WINDOW  # share of samples that overlap at each lag
    normal = correlation / np.maximum(correlation[:, :1], 1e-12) / overlap
    return normal[:, low:high].max(1) > MIN_PERIODICITY
