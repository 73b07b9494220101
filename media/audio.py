"""Speech and other sound: decode what PyAV reads to 16 kHz mono."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import InvalidDataError
from jaxtyping import Float32

from emotivetalk.errors import InputError
from emotivetalk.files import quoted
from emotivetalk.limits import Limits, say_duration
from emotivetalk.media.containers import check_complete, claimed_duration_s, open_media, too_long
from emotivetalk.timebase import SAMPLE_RATE_HZ

SILENCE_PEAK = 1e-3  # -60 dB: a recording whose peak is lower has no speech
MAX_BAD_PACKETS, MAX_BAD_SHARE = 2, 0.01  # packets that may be undecodable, as between two files that were joined
MIN_GAP_S = 0.03  # time stamps in milliseconds, as in Matroska, are off by less
MAX_GAP_S = 600.0  # a larger step is another time line, not lost sound
CHANNEL_WEIGHTS = {"FC": 1.0, "FL": 0.5, "FR": 0.5, "LFE": 0.0}  # of a layout with a center, where speech is
SURROUND_WEIGHT = 0.35

Waveform = Float32[np.ndarray, " samples"]


@dataclass(frozen=True)
class Speech:
    """A checked recording.

    Attributes:
        waveform: 16 kHz mono, within -1..1, finite, not silent.
        source_path: file that it was decoded from.
        duration_s: number of samples / 16 000.
    """

    waveform: Waveform
    source_path: Path
    duration_s: float


def load_speech(path: Path, limits: Limits | None = None, audio_track: int | None = None) -> Speech:
    """Decode a file's best sound track, or the first other one if that is silent.

    The length in the header is checked first, the length decoded so far while decoding. The channels are mixed to one. A
    recording that is louder than full scale is scaled down as a whole.

    Args:
        audio_track: number of the track to decode, from 1 in the file's order; None chooses.

    Raises:
        InputError: not a media file, no sound track or not that one, cut off or damaged, too long, too short, silent, NaN or infinite.
    """
    limits = limits or Limits()
    for index in _sound_tracks(path, limits, audio_track):
        waveform, claimed_s = _decode_track(path, index, limits)
        if len(waveform) and not np.max(np.abs(waveform)) < SILENCE_PEAK:
            break
    duration_s = len(waveform) / SAMPLE_RATE_HZ
    check_complete(path, "audio", claimed_s, duration_s)
    _check_length(path, duration_s, limits)
    return Speech(_check_level(path, waveform), path, duration_s)


def read_sound(path: Path, limits: Limits | None = None) -> tuple[Waveform, float]:
    """Decode a file's best sound track as it is: it may be silent or empty.

    The channels are mixed to one. Samples beyond full scale are clipped.

    Returns:
        16 kHz mono within -1..1, and its start in seconds on the file's time line.

    Raises:
        InputError: not a media file, no sound track, damaged, too long, NaN or infinite.
    """
    limits = limits or Limits()
    with open_media(path, "audio", limits) as container:
        decoder = _TrackDecoder(path, container, _best_track(path, container), limits)
        waveform = decoder.decode()
    if not np.isfinite(waveform).all():
        raise InputError(
            "audio_not_finite", f"audio {quoted(path)} has NaN or infinite samples", "Export it again as 16-bit WAV."
        )
    return np.clip(waveform, -1, 1), decoder.start_s or 0.0


def _sound_tracks(path: Path, limits: Limits, audio_track: int | None) -> list[int]:
    """Indices of the sound tracks to try: the one that is asked for, or all, the best one first."""
    with open_media(path, "audio", limits) as container:
        best = _best_track(path, container).index
        if audio_track is not None:
            tracks = container.streams.audio
            if audio_track > len(tracks):
                raise InputError(
                    "audio_track_missing",
                    f"audio {quoted(path)} has {len(tracks)} sound track{'s' if len(tracks) > 1 else ''}; there is no "
                    f"track {audio_track}",
                    f"Give a number from 1 to {len(tracks)}." if len(tracks) > 1 else "Leave out the number.",
                )
            return [tracks[audio_track - 1].index]
        return [best, *(stream.index for stream in container.streams.audio if stream.index != best)]


def _best_track(path: Path, container: InputContainer) -> AudioStream:
    stream = container.streams.best("audio")
    if not isinstance(stream, AudioStream):
        what = "is a video without audio" if container.streams.video else "has no sound track"
        raise InputError("audio_missing_stream", f"audio {quoted(path)} {what}", "Give a file that has speech in it.")
    return stream


def _decode_track(path: Path, index: int, limits: Limits) -> tuple[Waveform, float | None]:
    """A track's samples, and its length by the header."""
    with open_media(path, "audio", limits) as container:
        stream = container.streams[index]
        assert isinstance(stream, AudioStream)
        claimed_s = claimed_duration_s(path, container, stream)
        if claimed_s is not None and claimed_s > limits.audio_s:
            raise too_long(path, "audio", claimed_s, limits.audio_s)
        return _TrackDecoder(path, container, stream, limits).decode(), claimed_s


class _TrackDecoder:
    """Decodes a track to 16 kHz mono on the file's time line: lost packets leave silence.

    Attributes:
        start_s: time of the first sample; None before.
    """

    def __init__(self, path: Path, container: InputContainer, stream: AudioStream, limits: Limits) -> None:
        self._path, self._container, self._stream, self._limits = path, container, stream, limits
        self._resampler = _resampler()
        self._blocks: list[Waveform] = []
        self._num_samples = 0
        self._end_s: float | None = None  # of the last frame, by its time stamp
        self.start_s: float | None = None

    def decode(self) -> Waveform:
        """Decode the whole track."""
        for frame in self._frames():
            self._fill_gap(frame)
            self._resample(frame)
        self._resample(None)
        return np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.float32)

    def _frames(self) -> Iterator[av.AudioFrame]:
        """The frames of all packets that can be decoded. An error is raised if too many cannot be."""
        num_packets = num_bad = 0
        for packet in self._container.demux(self._stream):
            num_packets += 1
            try:
                frames = self._stream.codec_context.decode(packet)
            except InvalidDataError:
                num_bad += 1
                if num_bad > MAX_BAD_PACKETS + MAX_BAD_SHARE * num_packets:
                    raise
                continue
            yield from frames
        if num_bad and self._num_samples == 0:
            raise InputError("audio_corrupt", f"audio {quoted(self._path)} is damaged", "Copy or export it again.")

    def _fill_gap(self, frame: av.AudioFrame) -> None:
        """Append silence if the frame comes later than the end of the one before."""
        if self.start_s is None:
            self.start_s = frame.time or 0.0
        if frame.time is not None and self._end_s is not None:
            gap_s = frame.time - self._end_s
            if MIN_GAP_S <= gap_s <= MAX_GAP_S:
                self._resample(None)
                self._resampler = _resampler()
                self._append(np.zeros(round(gap_s * SAMPLE_RATE_HZ), np.float32))
        duration_s = frame.samples / frame.sample_rate
        start_s = frame.time if frame.time is not None else self._end_s
        self._end_s = None if start_s is None else start_s + duration_s

    def _resample(self, frame: av.AudioFrame | None) -> None:
        """Append a frame, or with None what the resampler still holds."""
        try:
            resampled = self._resampler.resample(frame)
        except ValueError as error:
            raise InputError(
                "audio_corrupt",
                f"audio {quoted(self._path)} changes its format midway ({error})",
                "Export it again, as WAV.",
            ) from error
        for block in resampled:
            self._append(_mono(block))

    def _append(self, samples: Waveform) -> None:
        self._blocks.append(samples)
        self._num_samples += len(samples)
        if self._num_samples > self._limits.audio_s * SAMPLE_RATE_HZ:
            raise too_long(self._path, "audio", self._num_samples / SAMPLE_RATE_HZ, self._limits.audio_s)


def _resampler() -> av.AudioResampler:
    return av.AudioResampler(format="fltp", rate=SAMPLE_RATE_HZ)


def _mono(block: av.AudioFrame) -> Waveform:
    """Mix planar channels to one: their mean, or with a center channel that one and half of left and right.

    swresample's own mono of two float channels is 3 dB louder than either.
    """
    channels = block.to_ndarray()
    names = [channel.name for channel in block.layout.channels]
    if "FC" not in names or len(names) < 3:
        kept = [index for index, name in enumerate(names) if name != "LFE"] or slice(None)
        return channels[kept].mean(axis=0, dtype=np.float32)
    weights = np.array([CHANNEL_WEIGHTS.get(name, SURROUND_WEIGHT) for name in names], np.float32)
    return (weights @ channels).astype(np.float32)


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
    """Scale a waveform into full scale; raise InputError if it is silent or not finite."""
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
            "Check the microphone, or make it louder.",
        )
    return waveform / max(peak, 1.0)
