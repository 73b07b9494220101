import dataclasses
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from emotivetalk.corpus.motion_tracks import speech_energy
from emotivetalk.corpus.parameters import LIP
from emotivetalk.corpus.records import Clip, read_corpus
from emotivetalk.corpus.sentences import half_of
from emotivetalk.corpus.synthesize import (
    CHANGE_SHARE,
    FIRST_HELD_OUT_IDENTITY,
    INTENSITIES,
    orders,
    synthesize,
    synthesize_clip,
)
from emotivetalk.corpus.voices import VOICES
from tests.corpus.speakers import needs_espeak, needs_flite


def same(first: Clip, second: Clip) -> bool:
    return all(np.array_equal(getattr(first, f.name), getattr(second, f.name)) for f in dataclasses.fields(Clip))


def test_emotions_are_balanced_and_identities_are_varied():
    specs = list(orders(240, 6, num_held_out=32))
    train = [o for o in specs if o.split == "train"]
    assert Counter(o.split for o in specs) == {"train": 1440, "held_out": 256, "foreign": 32}
    combinations = Counter((o.emotion, o.intensity) for o in train)
    assert len(combinations) == 24 and set(combinations.values()) == {60}
    for identity in {o.identity_seed for o in specs if o.split != "foreign"}:
        clips = [o for o in specs if o.identity_seed == identity and o.split != "foreign"]
        assert len({o.emotion for o in clips}) >= 6
        assert {o.intensity for o in clips} == set(INTENSITIES)


def test_held_out_identities_are_never_trained():
    specs = list(orders(100, 2, num_held_out=10, seed=3))
    assert all((o.identity_seed >= FIRST_HELD_OUT_IDENTITY) == (o.split != "train") for o in specs)
    assert not {o.identity_seed for o in specs} & {o.identity_seed for o in orders(100, 2, num_held_out=10, seed=4)}
    assert len({(o.split, o.identity_seed, o.seed) for o in specs}) == len(specs)


@needs_espeak
@needs_flite
def test_clip_is_a_pure_function_of_its_arguments():
    first = synthesize_clip(11, "train", 5, emotion=4, intensity=1.0)
    synthesize_clip(12, "held_out", FIRST_HELD_OUT_IDENTITY, emotion=6, intensity=1.0, num_frames=20)
    assert same(first, synthesize_clip(11, "train", 5, emotion=4, intensity=1.0))
    assert not np.array_equal(first.lip, synthesize_clip(12, "train", 5, emotion=4, intensity=1.0).lip)


@needs_espeak
@needs_flite
def test_jaw_opens_with_the_sound_and_without_delay():
    clips = [synthesize_clip(n, "train", n, emotion=n % 8, intensity=2 / 3) for n in range(16)]
    correlations = []
    for clip in clips:
        jaw, energy = clip.lip[:, LIP.index("jaw")], speech_energy(clip.waveform, clip.num_frames)
        shifted = [np.corrcoef(jaw[3:-3], energy[3 + lag : len(energy) - 3 + lag])[0, 1] for lag in range(-3, 4)]
        correlations.append(shifted)
        assert clip.num_frames == 64 and len(clip.waveform) == 64 * 640
        assert {half_of(text) for text in re.split(r"(?<=[.?!]) ", clip.text)} == {"train"}
    mean = np.mean(correlations, axis=0)
    assert mean.argmax() == 3 and mean[3] > 0.45


@needs_espeak
@needs_flite
def test_only_some_training_clips_change_their_emotion():
    clips = [synthesize_clip(n, "train", 2, emotion=5, intensity=1.0, num_frames=50) for n in range(60)]
    changed = [clip for clip in clips if clip.changes_emotion]
    assert 0.03 < len(changed) / 60 < 2.2 * CHANGE_SHARE
    for clip in changed:
        emotions, first = np.unique(clip.emotion_per_frame, return_index=True)
        assert len(emotions) == 2 and 5 <= first.max() <= 36
        assert clip.emotion == np.bincount(clip.emotion_per_frame).argmax()
    held_out = synthesize_clip(0, "held_out", FIRST_HELD_OUT_IDENTITY, emotion=5, intensity=1.0)
    assert not held_out.changes_emotion
    assert held_out.voice in {voice.name for voice in VOICES["held_out"]}


@needs_espeak
def test_a_minute_is_filled_with_speech():
    clip = synthesize_clip(0, "held_out", FIRST_HELD_OUT_IDENTITY + 1, emotion=5, intensity=1.0, num_frames=1500)
    energy = speech_energy(clip.waveform, 1500)
    assert clip.num_frames == 1500 and len(clip.text.split(".")) > 5
    assert np.mean(energy.reshape(30, 50).max(1) > 0.01) == 1  # no two seconds are silent


@pytest.mark.parametrize("wrong", [{"emotion": 8}, {"intensity": 1.5}, {"num_frames": 0}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match=r"emotion .* intensity .* num_frames"):
        synthesize_clip(0, "train", 0, **({"emotion": 0, "intensity": 1.0} | wrong))


@needs_espeak
@needs_flite
@pytest.mark.slow
def test_corpus_does_not_depend_on_the_worker(tmp_path: Path):
    calls: list[tuple[int, int]] = []
    synthesize(tmp_path, 2, 3, num_frames=16, num_held_out=1, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (15, 15)
    for split, number in (("train", 6), ("held_out", 8), ("foreign", 1)):
        corpus = read_corpus(tmp_path, split)
        assert len(corpus) == number
    order = list(orders(2, 3, 16, 1))[4]
    assert same(read_corpus(tmp_path, "train")[4], synthesize_clip(*order))
