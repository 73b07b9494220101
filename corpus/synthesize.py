"""The synthetic corpus: avatars and people in photographs, each with a voice, that speak sentences with emotion.

Identities, voices, sentences and some words are held out together. Splits:

- `train`: identity seeds below 2**20; the training voices of `corpus/voices.py`; the training half of the sentences.
  In 15 % of the clips the emotion changes within the clip.
- `held_out`: identity seeds from 2**20; every 9th espeak-ng variant; the held-out half of the sentences.
- `foreign`: the identities and the half of `held_out`, with the voice slt of flite, another synthesizer.

People in photographs have seeds from `FIRST_PHOTOGRAPH_IDENTITY` on, split at the same distances.

A clip is a pure function of its arguments; it depends neither on the number of workers nor on other clips.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from emotivetalk.corpus.motion_tracks import (
    EmotionTransition,
    emotion_per_frame,
    emotion_weights,
    expression_track,
    pose_track,
    speech_energy,
    z_score,
)
from emotivetalk.corpus.photo_people import FIRST_PHOTOGRAPH_IDENTITY, PhotoPeople
from emotivetalk.corpus.records import Clip, Split, to_float, to_int16, write_shards
from emotivetalk.corpus.sentences import Half, sentence
from emotivetalk.corpus.speech import Phoneme, speak
from emotivetalk.corpus.visemes import jaw_gain, lip_track
from emotivetalk.corpus.voices import Voice, colour, prosody_of, voice_of
from emotivetalk.errors import InputError
from emotivetalk.media.processes import end_with_parent
from emotivetalk.models.emotion import EMOTIONS
from emotivetalk.timebase import FRAME_RATE_HZ, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

INTENSITIES = (1 / 3, 2 / 3, 1.0)  # MEAD's three levels
CHANGE_SHARE = 0.15
HELD_OUT_CLIPS = len(EMOTIONS)  # per held-out identity: one of each emotion
FIRST_HELD_OUT_IDENTITY = 2**20
_IDENTITIES_PER_SEED = 4096
_NUM_WORKERS = 2
_CLIPS_PER_TASK = 8


class ClipOrder(NamedTuple):
    """The arguments of `synthesize_clip`, in their order."""

    seed: int
    split: Split
    identity_seed: int
    emotion: int
    intensity: float
    num_frames: int


@dataclass(frozen=True)
class _Speech:
    """Speech of a clip, and the transitions of its emotion."""

    waveform: Float[np.ndarray, "samples"]
    phonemes: tuple[Phoneme, ...]
    sentences: tuple[tuple[float, str], ...]  # start in seconds, text
    changes: tuple[EmotionTransition, ...]


def synthesize_clip(
    seed: int, split: Split, identity_seed: int, emotion: int, intensity: float, num_frames: int = 64
) -> Clip:
    """Synthesize one clip. The identity determines the voice, the seed the sentences and the motion.

    Args:
        emotion: index into EMOTIONS, 0 to 7.
        intensity: 0..1; the corpus uses 1/3, 2/3 and 1.
        num_frames: length at 25 frames a second, filled with sentences.

    Raises:
        ValueError: the emotion, intensity or length is out of range.
        EmotiveTalkError: a speech synthesizer is not installed.
    """
    if not 0 <= emotion < len(EMOTIONS) or not 0 <= intensity <= 1 or num_frames < 1:
        raise ValueError(f"emotion {emotion} (0..7), intensity {intensity} (0..1) or num_frames {num_frames} (>= 1)")
    rng = np.random.default_rng([seed, identity_seed])
    voice = voice_of(identity_seed, split)
    speech = _speech(split, voice, identity_seed, EmotionTransition(0, emotion, intensity), num_frames, rng)
    noise = rng.normal(size=num_frames * SAMPLES_PER_FRAME) * 10 ** rng.uniform(-4.0, -2.6)
    waveform = to_float(to_int16(speech.waveform + noise))

    weights = emotion_weights(speech.changes, num_frames)
    energy = speech_energy(waveform, num_frames)
    emotions = emotion_per_frame(speech.changes, num_frames)
    texts = [text for start_s, text in speech.sentences if start_s * FRAME_RATE_HZ < num_frames]
    return Clip(
        clip_id=f"{split}-{identity_seed}-{seed}",
        split=split,
        identity_seed=identity_seed,
        speaker=f"{'avatar' if identity_seed < FIRST_PHOTOGRAPH_IDENTITY else 'photograph'}-{identity_seed}",
        text=" ".join(texts),
        engine=voice.engine,
        voice=voice.name,
        emotion=int(np.bincount(emotions).argmax()),
        emotion_per_frame=emotions,
        intensity=float(np.float32(intensity)),
        waveform=waveform,
        lip=lip_track(speech.phonemes, voice.engine, num_frames, jaw_gain(weights, z_score(energy))),
        expression=expression_track(weights, energy, rng),
        pose=pose_track(weights, energy, rng),
        seed=seed,
    )


def _speech(
    split: Split, voice: Voice, identity_seed: int, start: EmotionTransition, num_frames: int, rng: np.random.Generator
) -> _Speech:
    """Synthesize sentences that fill the clip. The emotion may change between two sentences, in voice and face alike."""
    half: Half = "train" if split == "train" else "held_out"
    clip_s = num_frames / FRAME_RATE_HZ

    def say(state: EmotionTransition, wanted_s: float, short: bool) -> _Speech:
        return _say(half, voice, identity_seed, state, wanted_s, short, rng)

    if split == "train" and rng.random() < CHANGE_SHARE:
        opening = say(start, clip_s * rng.uniform(0.15, 0.4), short=clip_s < 4)
        opening = _cut(opening, 0.0, min(len(opening.waveform) / SAMPLE_RATE_HZ, 0.7 * clip_s))
        frame = len(opening.waveform) // SAMPLES_PER_FRAME
        other = (start.emotion + int(rng.integers(1, len(EMOTIONS)))) % len(EMOTIONS)
        change = EmotionTransition(frame, other, start.intensity, build_s=float(rng.uniform(0.4, 0.8)))
        return _cut(_join(opening, say(change, clip_s, short=False)), 0.0, clip_s)
    whole = say(start, clip_s + float(rng.uniform(-0.4, 1.0)), short=clip_s < 1)
    spare_s = max(len(whole.waveform) / SAMPLE_RATE_HZ - clip_s, 0)
    from_the_start = rng.random() < 0.5
    return _cut(whole, 0.0 if from_the_start else float(rng.uniform(0, spare_s)), clip_s)


def _say(
    half: Half,
    voice: Voice,
    identity_seed: int,
    state: EmotionTransition,
    wanted_s: float,
    short: bool,
    rng: np.random.Generator,
) -> _Speech:
    """Synthesize sentences in one emotion until they last at least `wanted_s` seconds."""
    pieces, phonemes, sentences, spoken_s = [np.zeros(0, np.float32)], [], [], 0.0
    while spoken_s < wanted_s or not sentences:
        text = sentence(rng, half, short)
        prosody = prosody_of(state.emotion, state.intensity, identity_seed, rng)
        utterance = speak(text, voice, prosody)
        pieces.append(colour(utterance.waveform, state.emotion, state.intensity))
        phonemes += [Phoneme(spoken_s + phoneme.start_s, phoneme.symbol) for phoneme in utterance.phonemes]
        sentences.append((spoken_s, text))
        spoken_s += utterance.duration_s
    return _Speech(np.concatenate(pieces), tuple(phonemes), tuple(sentences), (state,))


def _join(first: _Speech, second: _Speech) -> _Speech:
    """Append the second to the first. The second's transitions already count from the start of the first."""
    offset_s = len(first.waveform) / SAMPLE_RATE_HZ
    return _Speech(
        np.concatenate([first.waveform, second.waveform]),
        first.phonemes + tuple(Phoneme(p.start_s + offset_s, p.symbol) for p in second.phonemes),
        first.sentences + tuple((start_s + offset_s, text) for start_s, text in second.sentences),
        first.changes + second.changes,
    )


def _cut(speech: _Speech, start_s: float, length_s: float) -> _Speech:
    """Cut a part of the speech with fades of 5 ms; pad it with silence after the end."""
    start, length = round(start_s * SAMPLE_RATE_HZ), round(length_s * SAMPLE_RATE_HZ)
    waveform = speech.waveform[start : start + length].copy()
    fade = np.linspace(0, 1, SAMPLE_RATE_HZ // 200, dtype=np.float32)[: len(waveform)]
    waveform[: len(fade)] *= fade
    waveform[len(waveform) - len(fade) :] *= fade[::-1]
    return _Speech(
        np.pad(waveform, (0, length - len(waveform))),
        tuple(Phoneme(p.start_s - start_s, p.symbol) for p in speech.phonemes if p.start_s < start_s + length_s),
        tuple((begin_s - start_s, text) for begin_s, text in speech.sentences if begin_s < start_s + length_s),
        speech.changes,
    )


def orders(
    num_identities: int,
    clips_per_identity: int,
    num_frames: int = 64,
    num_held_out: int = 32,
    seed: int = 0,
    photograph_share: float = 0.0,
) -> Iterator[ClipOrder]:
    """List the clips of a corpus: training clips, then eight clips and one foreign clip per held-out identity.

    Emotions and intensities alternate, so all 24 combinations are equally frequent, and the clips of an identity have
    min(clips_per_identity, 8) different emotions. Avatars and photographs are interleaved by `photograph_share`.
    """
    held_out = [FIRST_HELD_OUT_IDENTITY + identity for identity in _identities(num_held_out, seed, photograph_share)]
    identities = _identities(num_identities, seed, photograph_share)
    yield from _orders("train", identities, clips_per_identity, num_frames, seed)
    yield from _orders("held_out", held_out, HELD_OUT_CLIPS, num_frames, seed)
    yield from _orders("foreign", held_out, 1, num_frames, seed)


def _identities(number: int, seed: int, photograph_share: float = 0.0) -> list[int]:
    """Return the seeds of `number` people; avatars and photographs each count from the corpus's first seed."""
    if not 0 <= photograph_share <= 1:
        raise ValueError(f"photograph_share is {photograph_share}; give a value in 0..1")
    if not 0 <= number <= _IDENTITIES_PER_SEED:
        raise ValueError(f"{number} identities are out of range; give 0 to {_IDENTITIES_PER_SEED}, and use more seeds")
    if not 0 <= seed < FIRST_HELD_OUT_IDENTITY // _IDENTITIES_PER_SEED:
        raise ValueError(f"seed {seed} is outside 0..{FIRST_HELD_OUT_IDENTITY // _IDENTITIES_PER_SEED - 1}")
    first = seed * _IDENTITIES_PER_SEED
    identities, photographs = [], 0
    for count in range(number):
        if int((count + 1) * photograph_share + 1e-9) > photographs:
            identities.append(FIRST_PHOTOGRAPH_IDENTITY + first + photographs)
            photographs += 1
        else:
            identities.append(first + count - photographs)
    return identities


def _orders(
    split: Split, identities: Sequence[int], clips_per_identity: int, num_frames: int, seed: int
) -> Iterator[ClipOrder]:
    for number, identity_seed in enumerate(identities):
        for clip in range(clips_per_identity):
            count = number * clips_per_identity + clip
            intensity = INTENSITIES[(count + number // 4) % len(INTENSITIES)]
            clip_seed = seed * 2**20 + clip
            yield ClipOrder(clip_seed, split, identity_seed, count % len(EMOTIONS), intensity, num_frames)


def synthesize(
    folder: Path,
    num_identities: int,
    clips_per_identity: int,
    num_frames: int = 64,
    num_held_out: int = 32,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    photographs: PhotoPeople | None = None,
    photograph_share: float = 0.5,
) -> tuple[Path, ...]:
    """Write a corpus of all three splits with two processes, and return the paths of its shards.

    Args:
        progress: called with (clips done, clips in total).
        photographs: people in photographs; `photograph_share` of all people come from here. None gives avatars alone.

    Raises:
        InputError: `folder` already holds a corpus, or more people are to be held out than there are portraits.
        EmotiveTalkError: a speech synthesizer is not installed.
    """
    share = 0.0 if photographs is None else photograph_share
    wanted = tuple(orders(num_identities, clips_per_identity, num_frames, num_held_out, seed, share))
    if photographs is not None:
        in_photographs = {order.identity_seed for order in wanted if order.identity_seed >= FIRST_PHOTOGRAPH_IDENTITY}
        num_held_out_photographs = sum(s >= FIRST_PHOTOGRAPH_IDENTITY + FIRST_HELD_OUT_IDENTITY for s in in_photographs)
        if num_held_out_photographs > photographs.num_held_out():
            raise InputError(
                "too_few_held_out",
                f"{num_held_out_photographs} people in photographs are to be held out, and {photographs.folder} has "
                f"{photographs.num_held_out()} held-out portraits",
                "Hold out fewer people with --held-out, or a smaller share of photographs with --photograph-share.",
            )
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.glob("*.parquet")):
            photographs.write_listing(folder, sorted(in_photographs))

    def counted(clips: Iterator[Clip]) -> Iterator[Clip]:
        for done, clip in enumerate(clips, start=1):
            yield clip
            if progress:
                progress(done, len(wanted))

    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(_NUM_WORKERS, context, initializer=end_with_parent) as workers:
        clips = workers.map(synthesize_clip, *zip(*wanted, strict=True), chunksize=_CLIPS_PER_TASK)
        return write_shards(counted(clips), folder)
