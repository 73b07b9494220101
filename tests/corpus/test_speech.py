import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from emotivetalk.corpus import speech
from emotivetalk.corpus.speech import Utterance, speak
from emotivetalk.corpus.visemes import visemes_of
from emotivetalk.corpus.voices import FLITE_TRAINED, Prosody, Voice, voice_of
from emotivetalk.errors import EmotiveTalkError
from tests.corpus.speakers import needs_espeak, needs_flite
from tests.processes import is_running, wait_until

PLAIN = Prosody(172, 50, 45, 90)
AMERICAN = Voice("espeak", "en-us", "en-us")
BOB = "Bob's puppy, Peter, baked a happy apple pie. Copy a paper map."


def loudness(utterance: Utterance, kinds: set[str]) -> float:
    """Compute the mean energy in dB of all phonemes with these visemes."""
    ends_s = [*(p.start_s for p in utterance.phonemes[1:]), utterance.duration_s]
    spans = [
        utterance.waveform[round(p.start_s * 16_000) : round(end_s * 16_000)]
        for p, end_s in zip(utterance.phonemes, ends_s, strict=True)
        if visemes_of(p.symbol, utterance.voice.engine)[0] in kinds
    ]
    return 10 * np.log10(np.square(np.concatenate(spans)).mean() + 1e-9)


VOWELS = {"AA", "AE", "AH", "AO", "EH", "IH", "IY", "AX"}


@pytest.mark.parametrize(
    "voice",
    [
        pytest.param(AMERICAN, marks=needs_espeak),
        pytest.param(Voice("espeak", "en+f3", "en", "f3"), marks=needs_espeak),
        pytest.param(FLITE_TRAINED[0], marks=needs_flite),
        pytest.param(FLITE_TRAINED[1], marks=needs_flite),
    ],
    ids=lambda voice: voice.name,
)
@pytest.mark.parametrize("rate_wpm", [130, 210])
def test_phonemes_match_the_sound(voice, rate_wpm):
    utterance = speak(BOB, voice, Prosody(rate_wpm, 50, 45, 90))
    assert utterance.waveform.dtype == np.float32 and 2 < utterance.duration_s < 8
    starts_s = [p.start_s for p in utterance.phonemes]
    assert starts_s == sorted(starts_s) and starts_s[-1] <= utterance.duration_s
    assert visemes_of(utterance.phonemes[-1].symbol, voice.engine) == ("rest",)
    assert loudness(utterance, VOWELS) > loudness(utterance, {"MBP", "KG"}) + 6
    assert loudness(utterance, VOWELS) > loudness(utterance, {"rest"}) + 20


@needs_espeak
def test_a_stop_starts_at_its_closure_not_at_its_burst():
    utterance = speak("Copy a paper map. Happy apple.", AMERICAN, PLAIN)
    stops = [p.start_s for p in utterance.phonemes if p.symbol == "p"]
    quiet = [np.abs(utterance.waveform[round((s + 0.005) * 16_000) : round((s + 0.025) * 16_000)]).max() for s in stops]
    assert len(stops) >= 5 and np.median(quiet) < 1e-3


@needs_espeak
def test_speech_does_not_depend_on_earlier_utterances():
    first = speak(BOB, AMERICAN, PLAIN)
    speak("Go away", Voice("espeak", "en+m3", "en", "m3"), Prosody(250, 80, 90, 150))
    again = speak(BOB, AMERICAN, PLAIN)
    assert np.array_equal(first.waveform, again.waveform) and first.phonemes == again.phonemes


@needs_espeak
def test_a_random_variant_sounds_different_and_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speech.tempfile, "tempdir", str(tmp_path))
    people = [voice for voice in map(partial(voice_of, split="train"), range(40)) if voice.definition][:3]
    own = [speak(BOB, voice, PLAIN) for voice in people]
    plain = [speak(BOB, replace(voice, name=voice.accent, variant="", definition=""), PLAIN) for voice in people]
    for one, other in zip(own, plain, strict=True):
        assert [p.symbol for p in one.phonemes] == [p.symbol for p in other.phonemes]  # the same phonemes
        num = min(len(one.waveform), len(other.waveform))
        assert np.corrcoef(one.waveform[:num], other.waveform[:num])[0, 1] < 0.9  # with another sound
    assert np.array_equal(speak(BOB, people[0], PLAIN).waveform, own[0].waveform)
    assert not list(tmp_path.iterdir())


@needs_espeak
def test_prosody_changes_rate_and_volume():
    fast, slow = (speak(BOB, AMERICAN, Prosody(rate, 50, 45, 90)).duration_s for rate in (240, 120))
    loud, soft = (np.abs(speak(BOB, AMERICAN, Prosody(172, 50, 45, v)).waveform).mean() for v in (150, 50))
    assert slow > 1.5 * fast and loud > 1.5 * soft


@needs_flite
def test_flite_prosody_changes_the_rate():
    voice = FLITE_TRAINED[0]
    fast, slow = (speak(BOB, voice, Prosody(rate, 50, 45, 90)).duration_s for rate in (240, 120))
    assert slow > 1.4 * fast


@needs_espeak
def test_unknown_voice_is_an_error_not_another_voice():
    with pytest.raises(EmotiveTalkError, match="no voice 'en-nowhere'"):
        speak("Hello", Voice("espeak", "en-nowhere", "en-nowhere"), PLAIN)


def test_missing_engines_name_their_packages(monkeypatch: pytest.MonkeyPatch):
    def missing(*_, **__):
        raise FileNotFoundError("not there")

    monkeypatch.setattr(speech.ctypes, "CDLL", missing)
    monkeypatch.setattr(subprocess, "run", missing)
    with pytest.raises(EmotiveTalkError, match="apt-get install libespeak-ng1"):
        speech._Espeak()
    with pytest.raises(EmotiveTalkError, match="apt-get install flite"):
        speech._Flite()


KILLED_PARENT = """
import multiprocessing, os, signal
from multiprocessing.connection import Connection
from emotivetalk.corpus.speech import speak
from emotivetalk.corpus.voices import Prosody, Voice

def die(connection):
    print(multiprocessing.active_children()[0].pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

Connection.recv = die
speak("This text makes more samples than a pipe can hold. " * 4, Voice("espeak", "en-us", "en-us"), Prosody(172, 50, 45, 90))
"""


@needs_espeak
def test_the_synthesizing_process_ends_when_its_parent_is_killed(tmp_path: Path):
    (tmp_path / "program.py").write_text(KILLED_PARENT)
    command, environment = [sys.executable, str(tmp_path / "program.py")], {**os.environ, "PYTHONPATH": os.getcwd()}
    # A file, because a pipe would stay open with the remaining process.
    with (tmp_path / "printed").open("w") as printed:
        assert subprocess.run(command, stdout=printed, env=environment, timeout=120).returncode == -signal.SIGKILL
    wait_until(lambda: not is_running(int((tmp_path / "printed").read_text())), timeout_s=20)
