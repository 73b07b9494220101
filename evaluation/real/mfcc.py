"""Mel-frequency cepstral coefficients as in SyncNet's training: 13 values, 100 times a second (HTK's recipe).

Frames of 25 ms every 10 ms, pre-emphasis 0.97, a 512-point power spectrum through 26 triangles on the mel scale from 0
to 8 kHz, logarithm, an orthonormal cosine transform, liftering 22; the first value is the log energy.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.fft import dct

from emotivetalk.timebase import SAMPLE_RATE_HZ

STEPS_PER_S = 100
_WINDOW_SAMPLES, _STEP_SAMPLES, _FFT_SIZE = 400, 160, 512
_NUM_BANDS, _NUM_COEFFICIENTS, _LIFTER = 26, 13, 22
_EMPHASIS = 0.97


def mfcc(waveform: Float[np.ndarray, " samples"]) -> Float[np.ndarray, "13 steps"]:
    """Compute the coefficients of 16 kHz speech in -1..1, scaled to 16-bit samples.

    Raises:
        ValueError: the waveform is empty.
    """
    if not len(waveform):
        raise ValueError("the waveform is empty, so it has no MFCC. Give at least one sample.")
    signal = waveform.astype(np.float64) * 32768
    emphasised = np.append(signal[0], signal[1:] - _EMPHASIS * signal[:-1])
    num = 1 + max(0, -(-(len(signal) - _WINDOW_SAMPLES) // _STEP_SAMPLES))
    padded = np.pad(
        emphasised,
        (
            0,
            (num - 1) * _STEP_SAMPLES + _WINDOW_SAMPLES - len(signal)
            if num > 1
            else max(0, _WINDOW_SAMPLES - len(signal)),
        ),
    )
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW_SAMPLES)[::_STEP_SAMPLES][:num]
    power = np.abs(np.fft.rfft(frames, _FFT_SIZE)) ** 2 / _FFT_SIZE
    energy = np.maximum(power.sum(1), np.finfo(float).eps)
    bands = np.maximum(power @ _triangles().T, np.finfo(float).eps)
    cepstra = np.asarray(dct(np.log(bands), type=2, axis=1, norm="ortho"))[:, :_NUM_COEFFICIENTS]
    cepstra *= 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(_NUM_COEFFICIENTS) / _LIFTER)
    cepstra[:, 0] = np.log(energy)
    return cepstra.T.astype(np.float32)


def _triangles() -> Float[np.ndarray, "26 257"]:
    highest = 2595 * np.log10(1 + SAMPLE_RATE_HZ / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, highest, _NUM_BANDS + 2) / 2595) - 1)
    edges = np.floor((_FFT_SIZE + 1) * hertz / SAMPLE_RATE_HZ)
    bin_index = np.arange(_FFT_SIZE // 2 + 1)
    rises = (bin_index - edges[:-2, None]) / np.maximum(edges[1:-1] - edges[:-2], 1)[:, None]
    falls = (edges[2:, None] - bin_index) / np.maximum(edges[2:] - edges[1:-1], 1)[:, None]
    return np.clip(np.minimum(rises, falls), 0, 1)
