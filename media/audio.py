"""Speech: whatever PyAV decodes, as 16 kHz mono."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from jaxtyping import Float32

from emotivetalk.errors import InputError
from emotivetalk.files import quoted
from emotivetalk.limits import Limits, say_duration
from emotivetalk.media.containers import check_complete, claimed_duration_s, open_media, too_long
from emotivetalk.timebase import SAMPLE_RATE_HZ

SILENCE_PEAK = 1e-3  # -60 dB: below it there is no speech to follow, only hiss

Waveform = Float32[np.ndarray, " samples"]


@dataclass(frozen=True)
class Speech:
    """A checked recording.

    Attributes:
        waveform: 16 kHz mono, within -1..1, finite, not silent.
        source_path: the file it came from.
        duration_s: samples / 16 000.
    """

    waveform: Waveform
    source_path: Path
    duration_s: float


def load_speech(path: Path, limits: Limits | None = None) -> Speech:
    """Decode a file's (best) sound track. The length is probed first, then watched while decoding.

    Channels are averaged. A recording louder than full scale is scaled down to it, as a whole.

    Raises:
        InputError: not a media file, no sound in it, cut off or damaged, too long, too short, silent, NaN or infinite.
    """
    limits = limits or Limits()
    with open_media(path, "audio", limits) as container:
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            raise _no_audio(path, container)
        claimed_s = claimed_duration_s(path, container, stream)
        if claimed_s is not None and claimed_s > limits.audio_s:
            raise too_long(path, "audio", claimed_s, limits.audio_s)
        waveform = _decode(path, container, stream, limits)
        duration_s = len(waveform) / SAMPLE_RATE_HZ
        check_complete(path, "audio", claimed_s, duration_s)
    _check_length(path, duration_s, limits)
    return Speech(_check_level(path, waveform), path, duration_s)


def read_sound(path: Path, limits: Limits | None = None) -> tuple[Waveform, float]:
    """Decode a file's (best) sound track as it is: it may be silent, or last no time at all.

    Channels are averaged; what is louder than full scale is clipped.

    Returns:
        16 kHz mono within -1..1, and when it begins, in seconds on the file's time line.

    Raises:
        InputError: not a media file, no sound in it, damaged, too long, NaN or infinite.
    """
    limits = limits or Limits()
    with open_media(path, "audio", limits) as container:
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            raise _no_audio(path, container)
        starts: list[float] = []
        waveform = _decode(path, container, stream, limits, starts)
    if not np.isfinite(waveform).all():
        raise InputError(
            "audio_not_finite", f"audio {quoted(path)} has NaN or infinite samples", "Export it again as 16-bit WAV."
        )
    return np.clip(waveform, -1, 1), starts[0] if starts else 0.0


def _decode(
    path: Path, container: InputContainer, stream: AudioStream, limits: Limits, starts: list[float] | None = None
) -> Waveform:
    """The whole track, resampled block by block; ends with an error once it exceeds the limit.

    When the first block begins is appended to `starts`.
    """
    blocks: list[Waveform] = []
    num_samples = 0
    for block in _resampled(path, container, stream, [] if starts is None else starts):
        blocks.append(block)
        num_samples += len(block)
        if num_samples > limits.audio_s * SAMPLE_RATE_HZ:
            raise too_long(path, "audio", num_samples / SAMPLE_RATE_HZ, limits.audio_s)
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _resampled(path: Path, container: InputContainer, stream: AudioStream, starts: list[float]) -> Iterator[Waveform]:
    resampler = av.AudioResampler(format="fltp", rate=SAMPLE_RATE_HZ)
    for frame in chain(container.decode(stream), [None]):  # None lets out what the resampler still holds
        if frame is not None and not starts:
            starts.append(frame.time or 0.0)
        try:
            resampled = resampler.resample(frame)
        except ValueError as error:
            raise InputError(
                "audio_corrupt",
                f"audio {quoted(path)} changes its format midway ({error})",
                "Export it again, as WAV.",
            ) from error
        for block in resampled:
            # Averaged here: swresample's own mono of floats is 3 dB louder than either channel.
            yield block.to_ndarray().mean(axis=0, dtype=np.float32)


def _check_length(path: Path, duration_s: float, limits: Limits) -> None:
    if duration_s == 0:
        raise InputError(
            "audio_empty", f"audio {quoted(path)} has a sound track without sound (0 s)", "Record or export it again."
        )
    if duration_s < limits.audio_min_s:
        raise InputError(
            "audio_too_short",
            f"audio {quoted(path)} is {say_duration(duration_s)} long; "
            f"at least {say_duration(limits.audio_min_s)} are needed",
            "Give a longer recording.",
        )


def _check_level(path: Path, waveform: Waveform) -> Waveform:
    """The waveform within full scale, or an error if it is not finite or nothing is to be heard."""
    peak = float(np.max(np.abs(waveform)))
    if not math.isfinite(peak):
        bad = int(np.argmin(np.isfinite(waveform)))
        raise InputError(
            "audio_not_finite",
            f"audio {quoted(path)} has NaN or infinite samples, the first at {bad / SAMPLE_RATE_HZ:.2f} s",
            "Export it again as 16-bit WAV.",
        )
    if peak < SILENCE_PEAK:
        raise InputError(
            "audio_silent",
            f"audio {quoted(path)} is silent: its peak is {peak:.2g}; {SILENCE_PEAK:g} of full scale is needed",
            "Check the microphone and the chosen track, or make it louder.",
        )
    return waveform / max(peak, 1.0)


def _no_audio(path: Path, container: InputContainer) -> InputError:
    what = "is a video without audio" if container.streams.video else "has no sound track"
    return InputError("audio_missing_stream", f"audio {quoted(path)} {what}", "Give a file that has speech in it.")
