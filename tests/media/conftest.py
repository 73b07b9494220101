"""Media that the tests make for themselves: tones, chirps, moving bars, in whatever container."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from emotivetalk.timebase import SAMPLE_RATE_HZ


@pytest.fixture
def speechlike() -> Callable[..., np.ndarray]:
    """Noise bursts of changing loudness: its autocorrelation has a single sharp peak, so a shift shows."""

    def make(duration_s: float, sample_rate_hz: int = SAMPLE_RATE_HZ, seed: int = 0) -> np.ndarray:
        num_samples = round(duration_s * sample_rate_hz)
        noise = np.random.default_rng(seed).standard_normal(num_samples)
        smooth = np.convolve(noise, np.hanning(9), mode="same")
        envelope = np.abs(np.sin(np.linspace(0, 9 * duration_s, num_samples)))
        waveform = smooth * envelope
        return (0.5 * waveform / np.abs(waveform).max()).astype(np.float32)

    return make


@pytest.fixture
def write_video() -> Callable[..., Path]:
    """Write frames with their own time stamps, losslessly enough to tell them apart, and a sound track if asked."""

    def write(
        path: Path,
        frames: np.ndarray,
        fps: int = 25,
        ticks: list[int] | None = None,
        sample_aspect: Fraction | None = None,
        options: dict[str, str] | None = None,
        **codec_options: str,
    ) -> Path:
        with av.open(str(path), "w", options=options or {}) as container:
            stream = container.add_stream(
                "libx264", rate=fps, options={"crf": "4", "preset": "ultrafast"} | codec_options
            )
            stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
            if sample_aspect is not None:
                stream.codec_context.sample_aspect_ratio = sample_aspect
            stream.codec_context.time_base = Fraction(1, fps)
            for index, image in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts = index if ticks is None else ticks[index]
                frame.time_base = Fraction(1, fps)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write


@pytest.fixture
def write_audio() -> Callable[..., Path]:
    """Encode a mono waveform with a named codec."""

    def write(path: Path, waveform: np.ndarray, codec: str, sample_rate_hz: int = 48_000, **options: str) -> Path:
        with av.open(str(path), "w", options=options) as container:
            stream = container.add_stream(codec, rate=sample_rate_hz, layout="mono")
            frame = av.AudioFrame.from_ndarray(waveform[None].astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate = sample_rate_hz
            frame.pts = 0
            resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=sample_rate_hz)
            for resampled in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(resampled))
            container.mux(stream.encode(None))
        return path

    return write


def ramp_frames(num: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Uniform grey frames whose brightness says their number: 40, 44, 48, ..."""
    levels = (40 + 4 * np.arange(num)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (num, height, width, 3)).copy()


@pytest.fixture
def numbered_frames() -> Callable[..., np.ndarray]:
    return ramp_frames


@pytest.fixture
def lag_ms() -> Callable[[np.ndarray, np.ndarray], float]:
    """Measure the delay of the second 16 kHz signal after the first, in milliseconds."""

    def measure(one: np.ndarray, two: np.ndarray) -> float:
        size = 1 << (len(one) + len(two)).bit_length()
        spectrum = np.conj(np.fft.rfft(one, size)) * np.fft.rfft(two, size)
        lag = int(np.argmax(np.fft.irfft(spectrum, size)))
        return (lag if lag < size // 2 else lag - size) / SAMPLE_RATE_HZ * 1000

    return measure
