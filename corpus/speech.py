"""Speech with exact phoneme timings from two free synthesizers: espeak-ng (C library) and flite (command).

Ours: the lips of the synthetic corpus must match the sound, so the speech comes from synthesizers that report the time of
each phoneme. An engine is loaded on first use; if it is missing, the error names its package.
"""

import ctypes
import multiprocessing
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Int
from scipy.io import wavfile
from scipy.signal import resample_poly

from emotivetalk.corpus.voices import Prosody, Voice
from emotivetalk.errors import EmotiveTalkError
from emotivetalk.timebase import SAMPLE_RATE_HZ


@dataclass(frozen=True)
class Phoneme:
    """A phoneme in its engine's notation, with its start time. It lasts until the next one starts."""

    start_s: float
    symbol: str


@dataclass(frozen=True)
class Utterance:
    """Synthesized speech: mono 16 kHz in [-1, 1], and its phonemes in order."""

    waveform: Float[np.ndarray, "samples"]
    phonemes: tuple[Phoneme, ...]
    text: str
    voice: Voice

    @property
    def duration_s(self) -> float:
        return len(self.waveform) / SAMPLE_RATE_HZ


_Speech: TypeAlias = tuple[Float[np.ndarray, "samples"], tuple[Phoneme, ...]]  # at 16 kHz


def speak(text: str, voice: Voice, prosody: Prosody) -> Utterance:
    """Synthesize `text`.

    Raises:
        EmotiveTalkError: the engine is not installed, or has no such voice.
    """
    engine = _espeak() if voice.engine == "espeak" else _flite()
    waveform, phonemes = engine.say(text, voice, prosody)
    return Utterance(np.clip(waveform, -1, 1).astype(np.float32), phonemes, text, voice)


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """espeak_EVENT of espeak-ng's speak_lib.h."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _EspeakOutput(NamedTuple):
    """Samples at espeak-ng's own rate, and each phoneme with the sample at which it was reported."""

    samples: Int[np.ndarray, "samples"]
    phonemes: list[tuple[int, str]]


_EVENTS_END, _EVENT_PHONEME = 0, 7
_OUTPUT_SYNCHRONOUS, _WITH_PHONEME_EVENTS, _UTF8 = 2, 1, 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4


class _Espeak:
    """espeak-ng. Every utterance is synthesized in a forked process.

    The library keeps state between utterances that cannot be reset (phases of the voice and of its flutter), so a clip
    would depend on earlier ones. A fork always starts from the state after loading.
    """

    STOP_CONSONANTS = ("p", "b", "t", "d", "k", "g")
    MAX_CLOSURE_S = 0.1
    SILENCE_AMPLITUDE = 3e-4

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libespeak-ng.so.1")
        except OSError as error:
            raise _missing("espeak", "the library libespeak-ng.so.1", "libespeak-ng1") from error
        self._initialize(None)

    def _initialize(self, folder: Path | None) -> None:
        """Load the voice data from a folder, or the data that espeak-ng came with."""
        path = str(folder).encode() if folder else None
        self._native_rate_hz = self._library.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, path, _WITH_PHONEME_EVENTS)
        if self._native_rate_hz <= 0:
            raise _missing("espeak", "the voice data of espeak-ng", "espeak-ng-data")

    def _initialize_with(self, definition: str, variant: str, folder: Path) -> None:
        """Load espeak-ng's data through links in `folder`, with this variant as the only one."""
        data_path = ctypes.c_char_p()
        self._library.espeak_Info(ctypes.byref(data_path))
        data = folder / "espeak-ng-data"
        variants = data / "voices" / "!v"
        variants.mkdir(parents=True)
        (variants / variant).write_text(definition)
        for entry in Path((data_path.value or b"").decode()).iterdir():
            if entry.name != "voices":
                (data / entry.name).symlink_to(entry)
        self._initialize(folder)

    def say(self, text: str, voice: Voice, prosody: Prosody) -> _Speech:
        processes = multiprocessing.get_context("fork")
        receiver, sender = processes.Pipe(duplex=False)
        with receiver:
            with sender:
                process = processes.Process(target=self._say, args=(text, voice, prosody, receiver, sender))
                process.start()
            try:
                output: _EspeakOutput | None = receiver.recv()
            except EOFError as error:
                raise _failed("espeak", text, voice, "libespeak-ng1") from error
            finally:
                process.join()
        if output is None:
            raise _no_voice("espeak-ng", voice)
        waveform = output.samples.astype(np.float32) / 32768
        phonemes = tuple(
            Phoneme(sample / self._native_rate_hz, symbol)
            for sample, symbol in self._with_closures(waveform, output.phonemes)
        )
        return resample_poly(waveform, SAMPLE_RATE_HZ // 50, self._native_rate_hz // 50), phonemes

    def _say(self, text: str, voice: Voice, prosody: Prosody, receiver: Connection, sender: Connection) -> None:
        """Send the library's output, or None for an unknown voice; runs in the forked process."""
        receiver.close()  # with its own reader open, this process would block when the parent is gone
        with tempfile.TemporaryDirectory() as folder:
            if voice.definition:
                self._initialize_with(voice.definition, voice.variant, Path(folder))
            with suppress(BrokenPipeError):
                sender.send(self._synthesize(text, voice, prosody))

    def _synthesize(self, text: str, voice: Voice, prosody: Prosody) -> _EspeakOutput | None:
        pieces, phonemes = [np.zeros(0, np.int16)], []

        @_Callback
        def receive(samples: Any, num_samples: int, events: Any) -> int:  # ctypes pointers
            if num_samples > 0 and samples:
                pieces.append(np.ctypeslib.as_array(samples, (num_samples,)).copy())
            for event in _until_end(events):
                if event.type == _EVENT_PHONEME:
                    phonemes.append((event.sample, event.id.string.decode("utf-8", "replace")))
            return 0

        if self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            return None
        settings = {
            _RATE: prosody.rate_wpm,
            _VOLUME: prosody.volume,
            _PITCH: prosody.pitch,
            _RANGE: prosody.pitch_range,
        }
        for parameter, value in settings.items():
            self._library.espeak_SetParameter(parameter, round(value), 0)
        self._library.espeak_SetSynthCallback(receive)
        encoded = text.encode()
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _UTF8, None, None)
        return _EspeakOutput(np.concatenate(pieces), phonemes)

    def _with_closures(
        self, waveform: Float[np.ndarray, "samples"], phonemes: list[tuple[int, str]]
    ) -> list[tuple[int, str]]:
        """Move the start of each stop consonant back to the start of its closure.

        espeak-ng reports a stop at its burst, so the silence of the closure belongs to the phoneme before. Without the
        correction, which uses the waveform, lips would close one or two frames late.
        """
        loud = np.abs(waveform) > self.SILENCE_AMPLITUDE
        silent_since = np.maximum.accumulate(np.where(loud, np.arange(1, len(loud) + 1), 0))
        max_samples = round(self.MAX_CLOSURE_S * self._native_rate_hz)
        corrected, previous = [], 0
        for sample, symbol in phonemes:
            if symbol.startswith(self.STOP_CONSONANTS) and 0 < sample <= len(loud):
                sample = max(previous, min(sample, int(silent_since[sample - 1])), sample - max_samples)
            corrected.append((sample, symbol))
            previous = sample
        return corrected


def _until_end(events: Any) -> Iterator[_Event]:
    index = 0
    while events[index].type != _EVENTS_END:
        yield events[index]
        index += 1


class _Flite:
    """flite, with more natural voices. They cannot shout or whisper, so volume is a gain."""

    PITCH_HZ: ClassVar[dict[str, float]] = {"awb": 130.0, "kal16": 105.0, "rms": 105.0, "slt": 170.0}
    TIMEOUT_S = 60.0

    def __init__(self) -> None:
        try:
            subprocess.run(["flite", "--version"], capture_output=True, timeout=self.TIMEOUT_S, check=False)
        except FileNotFoundError as error:
            raise _missing("flite", "the command flite", "flite") from error

    def say(self, text: str, voice: Voice, prosody: Prosody) -> _Speech:
        if voice.name not in self.PITCH_HZ:
            raise _no_voice("flite", voice)
        pitch_hz = self.PITCH_HZ[voice.name] * 2 ** ((prosody.pitch - 50) / 70)
        settings = {
            "duration_stretch": 172 / prosody.rate_wpm,
            "int_f0_target_mean": pitch_hz,
            "int_f0_target_stddev": pitch_hz * prosody.pitch_range / 400,
        }
        arguments = [part for name, value in settings.items() for part in ("--setf", f"{name}={value:.3f}")]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "speech.wav")
            command = ["flite", "-voice", voice.name, *arguments, "-psdur", "-t", text, "-o", str(path)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=self.TIMEOUT_S, check=True)
            except subprocess.SubprocessError as error:
                raise _failed("flite", text, voice, "flite") from error
            rate_hz, samples = wavfile.read(path)
        waveform = samples.astype(np.float32) / 32768 * (prosody.volume / 90) ** 0.7
        segments = [segment.rsplit(":", 1) for segment in done.stdout.split()]
        starts_s = [0.0, *(float(end_s) for _, end_s in segments)]
        phonemes = tuple(Phoneme(start_s, symbol) for start_s, (symbol, _) in zip(starts_s, segments))
        if rate_hz != SAMPLE_RATE_HZ:
            waveform = resample_poly(waveform, SAMPLE_RATE_HZ, rate_hz)
        return waveform, phonemes


@cache
def _espeak() -> _Espeak:
    return _Espeak()


@cache
def _flite() -> _Flite:
    return _Flite()


def _missing(engine: str, what: str, package: str) -> EmotiveTalkError:
    return EmotiveTalkError(
        code=f"{engine}_missing",
        message=f"{what} was not found; the synthetic corpus needs it for speech",
        remedy=f"Install the Debian package {package} (apt-get install {package})",
    )


def _failed(engine: str, text: str, voice: Voice, package: str) -> EmotiveTalkError:
    return EmotiveTalkError(
        code=f"{engine}_failed",
        message=f"{engine} could not synthesize {text!r} with the voice {voice.name!r}",
        remedy=f"Try another version of the Debian package {package}",
    )


def _no_voice(engine: str, voice: Voice) -> EmotiveTalkError:
    return EmotiveTalkError(
        code="voice_missing",
        message=f"{engine} has no voice {voice.name!r}",
        remedy="Install the engine's full voice data, or use a voice listed in corpus/voices.py",
    )
