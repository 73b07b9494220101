"""Speech from any file: what comes out is the sound that went in, at 16 kHz, where it was in time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emotivetalk.errors import InputError
from emotivetalk.media.audio import load_speech
from emotivetalk.timebase import SAMPLE_RATE_HZ

Signal = Callable[..., np.ndarray]


def correlation(one: np.ndarray, two: np.ndarray) -> float:
    num = min(len(one), len(two))
    return float(np.corrcoef(one[:num], two[:num])[0, 1])


def test_wav_at_16_khz_is_exact(tmp_path: Path, speechlike: Signal) -> None:
    waveform = speechlike(1.0)
    soundfile.write(tmp_path / "a.wav", waveform, SAMPLE_RATE_HZ, subtype="FLOAT")
    speech = load_speech(tmp_path / "a.wav")
    assert speech.waveform.dtype == np.float32
    np.testing.assert_allclose(speech.waveform, waveform, atol=1e-6)
    assert speech.duration_s == 1.0
    assert speech.source_path == tmp_path / "a.wav"


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.m4a", "aac"), ("a.mp3", "libmp3lame"), ("a.ogg", "libopus"), ("a.opus", "libopus"), ("a.flac", "flac")],
)
def test_every_codec_keeps_time_and_sound(
    tmp_path: Path, name: str, codec: str, speechlike: Signal, write_audio: Callable[..., Path], lag_ms: Callable
) -> None:
    original = speechlike(2.0, 48_000)
    path = write_audio(tmp_path / name, original, codec)
    reference = tmp_path / "reference.wav"
    soundfile.write(reference, original, 48_000, subtype="FLOAT")
    expected = load_speech(reference).waveform
    speech = load_speech(path)
    assert abs(speech.duration_s - 2.0) < 0.05
    assert abs(lag_ms(expected, speech.waveform)) < 2
    assert correlation(expected, speech.waveform) > 0.9


def test_vorbis(tmp_path: Path, speechlike: Signal) -> None:
    waveform = speechlike(1.0)
    soundfile.write(tmp_path / "a.ogg", waveform, SAMPLE_RATE_HZ, format="OGG", subtype="VORBIS")
    assert correlation(waveform, load_speech(tmp_path / "a.ogg").waveform) > 0.9


def test_channels_are_averaged(tmp_path: Path, speechlike: Signal) -> None:
    left = speechlike(0.5)
    soundfile.write(tmp_path / "a.wav", np.stack([left, 0 * left], axis=1), SAMPLE_RATE_HZ, subtype="FLOAT")
    np.testing.assert_allclose(load_speech(tmp_path / "a.wav").waveform, left / 2, atol=1e-6)


def test_too_loud_is_scaled_not_clipped(tmp_path: Path, speechlike: Signal) -> None:
    waveform = speechlike(0.5)
    soundfile.write(tmp_path / "a.wav", 20 * waveform, SAMPLE_RATE_HZ, subtype="FLOAT")
    found = load_speech(tmp_path / "a.wav").waveform
    assert np.abs(found).max() == pytest.approx(1)
    assert correlation(waveform, found) > 0.9999


def test_resampling_keeps_level_and_pitch(tmp_path: Path) -> None:
    time_s = np.arange(44_100) / 44_100
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * time_s), 44_100)
    found = load_speech(tmp_path / "a.wav").waveform
    assert len(found) == pytest.approx(SAMPLE_RATE_HZ, abs=2)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(found)) / SAMPLE_RATE_HZ)
    np.testing.assert_allclose(found[200:-200], expected[200:-200], atol=2e-3)


def test_a_piped_wav_claims_nothing(tmp_path: Path, speechlike: Signal) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, speechlike(0.5), SAMPLE_RATE_HZ, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert load_speech(path).duration_s == pytest.approx(0.5)


def test_odd_names_are_files_not_addresses(tmp_path: Path, speechlike: Signal) -> None:
    path = tmp_path / "concat:a|b 100%d.wav"
    soundfile.write(path, speechlike(0.5), SAMPLE_RATE_HZ)
    assert load_speech(path).duration_s == 0.5
    with pytest.raises(InputError, match="does not exist"):
        load_speech(Path("http://localhost/a.wav"))
