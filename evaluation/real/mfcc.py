"""Mel-frequency cepstra as SyncNet was trained on: 13 numbers, 100 times a second (HTK's recipe).

Frames of 25 ms every 10 ms, pre-emphasis 0.97, a 512-point power spectrum through 26 triangles on the mel scale from 0
to 8 kHz, logarithm, an orthonormal cosine transform, liftering 22; the first number is the log energy.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.fft import dct

from emotivetalk.timebase import SAMPLE_RATE_HZ

STEPS_PER_S = 100
_FRAME, _STEP, _FFT = 400, 160, 512
_BANDS, _KEPT, _LIFTER = 26, 13, 22
_EMPHASIS = 0.97


def mfcc(waveform: Float[np.ndarray, " samples"]) -> Float[np.ndarray, "13 steps"]:
    """Of 16 kHz speech in -1..1, read as 16-bit samples.

    Raises:
        ValueError: no samples.
    """
    if not len(waveform):
        raise ValueError("speech without samples has no cepstra. Give at least one sample.")
    signal = waveform.astype(np.float64) * 32768
    emphasised = np.append(signal[0], signal[1:] - _EMPHASIS * signal[:-1])
    num = 1 + max(0, -(-(len(signal) - _FRAME) // _STEP))
    padded = np.pad(
        emphasised, (0, (num - 1) * _STEP + _FRAME - len(signal) if num > 1 else max(0, _FRAME - len(signal)))
    )
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_STEP][:num]
    power = np.abs(np.fft.rfft(frames, _FFT)) ** 2 / _FFT
    energy = np.maximum(power.sum(1), np.finfo(float).eps)
    bands = np.maximum(power @ _triangles().T, np.finfo(float).eps)
    cepstra = np.asarray(dct(np.log(bands), type=2, axis=1, norm="ortho"))[:, :_KEPT]
    cepstra *= 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(_KEPT) / _LIFTER)
    cepstra[:, 0] = np.log(energy)
    return cepstra.T.astype(np.float32)


def _triangles() -> Float[np.ndarray, "26 257"]:
    highest = 2595 * np.log10(1 + SAMPLE_RATE_HZ / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, highest, _BANDS + 2) / 2595) - 1)
    edges = np.floor((_FFT + 1) * hertz / SAMPLE_RATE_HZ)
    place = np.arange(_FFT // 2 + 1)
    rises = (place - edges[:-2, None]) / np.maximum(edges[1:-1] - edges[:-2], 1)[:, None]
    falls = (edges[2:, None] - place) / np.maximum(edges[2:] - edges[1:-1], 1)[:, None]
    return np.clip(np.minimum(rises, falls), 0, 1)
