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
from tests.processes import ends

PLAIN = Prosody(172, 50, 45, 90)
AMERICAN = Voice("espeak", "en-us", "en-us")
BOB = "Bob's puppy, Peter, baked a happy apple pie. Copy a paper map."


def loudness(utterance: Utterance, kinds: set[str]) -> float:
    """Mean energy in dB of all phonemes of some visemes."""
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
def test_phonemes_are_where_the_sound_is(voice, rate_wpm):
    said = speak(BOB, voice, Prosody(rate_wpm, 50, 45, 90))
    assert said.waveform.dtype == np.float32 and 2 < said.duration_s < 8
    starts_s = [p.start_s for p in said.phonemes]
    assert starts_s == sorted(starts_s) and starts_s[-1] <= said.duration_s
    assert visemes_of(said.phonemes[-1].symbol, voice.engine) == ("rest",)
    assert loudness(said, VOWELS) > loudness(said, {"MBP", "KG"}) + 6
    assert loudness(said, VOWELS) > loudness(said, {"rest"}) + 20


@needs_espeak
def test_a_stop_starts_at_its_closure_not_at_its_burst():
    said = speak("Copy a paper map. Happy apple.", AMERICAN, PLAIN)
    stops = [p.start_s for p in said.phonemes if p.symbol == "p"]
    quiet = [np.abs(said.waveform[round((s + 0.005) * 16_000) : round((s + 0.025) * 16_000)]).max() for s in stops]
    assert len(stops) >= 5 and np.median(quiet) < 1e-3


@needs_espeak
def test_same_words_same_sound_whatever_was_said_before():
    first = speak(BOB, AMERICAN, PLAIN)
    speak("Go away", Voice("espeak", "en+m3", "en", "m3"), Prosody(250, 80, 90, 150))
    again = speak(BOB, AMERICAN, PLAIN)
    assert np.array_equal(first.waveform, again.waveform) and first.phonemes == again.phonemes


@needs_espeak
def test_a_throat_of_ones_own_is_heard_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speech.tempfile, "tempdir", str(tmp_path))
    people = [voice for voice in map(partial(voice_of, split="train"), range(40)) if voice.throat][:3]
    own = [speak(BOB, voice, PLAIN) for voice in people]
    plain = [speak(BOB, replace(voice, name=voice.accent, variant="", throat=""), PLAIN) for voice in people]
    for one, other in zip(own, plain, strict=True):
        assert [p.symbol for p in one.phonemes] == [p.symbol for p in other.phonemes]  # says the same
        num = min(len(one.waveform), len(other.waveform))
        assert np.corrcoef(one.waveform[:num], other.waveform[:num])[0, 1] < 0.9  # in another voice
    assert np.array_equal(speak(BOB, people[0], PLAIN).waveform, own[0].waveform)
    assert not list(tmp_path.iterdir())


@needs_espeak
def test_prosody_is_heard():
    fast, slow = (speak(BOB, AMERICAN, Prosody(rate, 50, 45, 90)).duration_s for rate in (240, 120))
    loud, soft = (np.abs(speak(BOB, AMERICAN, Prosody(172, 50, 45, v)).waveform).mean() for v in (150, 50))
    assert slow > 1.5 * fast and loud > 1.5 * soft


@needs_flite
def test_flite_prosody_is_heard():
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


KILLED_WHILE_IT_LISTENS = """
import multiprocessing, os, signal
from multiprocessing.connection import Connection
from emotivetalk.corpus.speech import speak
from emotivetalk.corpus.voices import Prosody, Voice

def die(connection):
    print(multiprocessing.active_children()[0].pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

Connection.recv = die
speak("What is said here is longer than a pipe is wide. " * 4, Voice("espeak", "en-us", "en-us"), Prosody(172, 50, 45, 90))
"""


@needs_espeak
def test_the_process_that_speaks_does_not_outlive_a_killed_listener(tmp_path: Path):
    (tmp_path / "program.py").write_text(KILLED_WHILE_IT_LISTENS)
    command, environment = [sys.executable, str(tmp_path / "program.py")], {**os.environ, "PYTHONPATH": os.getcwd()}
    with (tmp_path / "printed").open("w") as printed:  # not a pipe, which would stay open with the process that stays
        assert subprocess.run(command, stdout=printed, env=environment, timeout=120).returncode == -signal.SIGKILL
    assert ends(int((tmp_path / "printed").read_text()))
