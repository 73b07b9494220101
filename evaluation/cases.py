"""Evaluation cases: the inputs of one video, and the frames that an ideal model would generate (ours).

A case combines held-out clips: a portrait, speech, an emotion that neither of them shows, and the expressions that the
renderer draws for that emotion. Emotion is therefore measured by swapping it, not by reconstruction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.corpus.drawing import draw_clip
from emotivetalk.corpus.held_out_prompts import HELD_OUT
from emotivetalk.corpus.parameters import EXPRESSION, LIP
from emotivetalk.corpus.photo_people import FIRST_PHOTOGRAPH_IDENTITY, person_of
from emotivetalk.corpus.records import Clip, read_corpus
from emotivetalk.errors import InputError
from emotivetalk.evaluation.kinds import KINDS, Kind
from emotivetalk.models.emotion import (
    EMOTIONS,
    EmotionImage,
    EmotionKey,
    EmotionLabel,
    EmotionSource,
    EmotionSpeech,
    EmotionText,
    EmotionTrack,
    EmotionVideo,
)
from emotivetalk.timebase import FRAME_RATE_HZ, SAMPLES_PER_FRAME

INTENSITY_LEVELS = (1 / 3, 2 / 3, 1.0)
"""Intensities of the corpus; MEAD has the same three levels."""

_SOURCE_SIZE = 128  # pixels; the expression encoder scales larger pictures down to this
_FRAMES_PER_RENDER = 16
_NEUTRAL = EMOTIONS.index("neutral")
_JAW, _BLINK = LIP.index("jaw"), EXPRESSION.index("blink")

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class EvaluationCase:
    """Inputs of one video, and its ground truth.

    Attributes:
        identity_seed: person in the portrait.
        portrait: RGB in -1..1.
        waveform: 16 kHz speech.
        emotion: source of the emotion, as the pipeline takes it.
        target_emotion: index of the emotion that the video should show.
        intensity: its intensity, 0..1.
        portrait_emotion: index of the emotion in the portrait.
        lip: true lip parameters of the speech.
        expression: true expression parameters of the target emotion.
        pose: true pose parameters.
    """

    identity_seed: int
    portrait: Float[Tensor, "3 size size"]
    waveform: Float[Tensor, " samples"]
    emotion: EmotionSource
    target_emotion: int
    intensity: float
    portrait_emotion: int
    lip: Float[Tensor, "frames 6"]
    expression: Float[Tensor, "frames 12"]
    pose: Float[Tensor, "frames 6"]
    photographs: Path | None = None

    @property
    def num_frames(self) -> int:
        return len(self.lip)


def kind_of(identity_seed: int) -> Kind:
    """Return the kind of the person with this seed."""
    return "avatars" if identity_seed < FIRST_PHOTOGRAPH_IDENTITY else "photographs"


def choose_kinds(corpus: Path, wanted: Iterable[Kind] = ()) -> tuple[Kind, ...]:
    """Return the wanted kinds, or all kinds that are held out in a corpus.

    Raises:
        InputError: `corpus` is no corpus, has no held-out people with known parameters, or lacks a wanted kind.
    """
    found = {kind_of(seed) for seed in read_corpus(corpus, "held_out").by_identity}
    if not found:
        raise InputError(
            code="corpus_not_synthetic",
            message=f"{corpus} has no held-out people of known parameters; evaluation needs the renderer's ground truth",
            remedy="Give a corpus from `emotivetalk synthesize`",
        )
    wanted = tuple(wanted)
    missing = [kind for kind in wanted if kind not in found]
    if missing:
        raise InputError(
            "corpus_kind_missing",
            f"{corpus} has no held-out {missing[0]}",
            "Leave out --kind, or make a corpus with `emotivetalk synthesize --photographs FOLDER`.",
        )
    return tuple(kind for kind in KINDS if kind in (wanted or found))


def true_frames(case: EvaluationCase, size: int) -> Iterator[Float[Tensor, "frames 3 size size"]]:
    """Render the true frames of a case, RGB in 0..1, up to 16 at a time."""
    person = person_of(case.identity_seed, case.photographs)
    tracks = (track.split(_FRAMES_PER_RENDER) for track in (case.lip, case.expression, case.pose))
    for lip, expression, pose in zip(*tracks, strict=True):
        yield person.frames(lip, expression, pose, size).images


class CaseBuilder:
    """Builder of evaluation cases from the held-out people of a corpus.

    Args:
        folder: synthetic corpus.
        size: side of the portraits in pixels.
        num_frames: length of a case; longer clips are cut.
        kind: kind of people to choose from.

    Attributes:
        clips: held-out clips of this kind of people.
        clips_by_person: the same clips by identity seed.

    Raises:
        InputError: the folder holds no corpus, no held-out split, or no people of this kind with known parameters.
    """

    def __init__(self, folder: Path, size: int, num_frames: int, kind: Kind = "avatars") -> None:
        self._folder, self._size, self._num_frames = folder, size, num_frames
        corpus = read_corpus(folder, "held_out")
        self._people = sorted(person for person in corpus.by_identity if kind_of(person) == kind)
        if not self._people:
            raise InputError(
                code="corpus_not_synthetic",
                message=f"{folder} has no held-out {kind}; evaluation needs the renderer's ground truth",
                remedy="Give a corpus from `emotivetalk synthesize`",
            )
        self.clips = [clip for clip in corpus if clip.identity_seed in self._people]
        self.clips_by_person = {
            person: [corpus[position] for position in corpus.by_identity[person]] for person in self._people
        }
        # Motion is nobody's own, so targets come from people of all kinds: both kinds show the same, at full intensity.
        self._strongest_clips = [
            _strongest([clip for clip in corpus if clip.emotion == emotion]) for emotion in range(len(EMOTIONS))
        ]
        self._emotions = [emotion for emotion, clips in enumerate(self._strongest_clips) if clips]

    def speech_alone(self, num: int) -> list[EvaluationCase]:
        """Build cases without an emotion source: speech drives the lips, the portrait's expression stays."""
        return [self._case(self._voice_clip(k, k % len(EMOTIONS)), k, None, None) for k in range(num)]

    def foreign_speech(self, num: int) -> list[EvaluationCase]:
        """Build the same cases with a synthesizer that training did not use; none if the corpus has no foreign split."""
        if not any(self._folder.glob("foreign-*.parquet")):
            return []
        foreign = [c for c in read_corpus(self._folder, "foreign") if c.identity_seed in self.clips_by_person]
        return [self._case(clip, k, None, None) for k, clip in enumerate(_spread(foreign, num))]

    def by_label(self, num: int) -> list[EvaluationCase]:
        """Build cases with each emotion in turn as a label at full intensity; portrait and voice have another one."""
        return [self._swapped(k, lambda clip, _: EmotionLabel(EMOTIONS[clip.emotion], 1.0)) for k in range(num)]

    def by_image(self, num: int) -> list[EvaluationCase]:
        """Build cases whose emotion comes from one picture of another person."""

        def source(clip: Clip, k: int) -> EmotionImage:
            return EmotionImage(self._frames_of_other_person(clip, k, [clip.num_frames // 2])[0])

        return [self._swapped(k, source) for k in range(num)]

    def by_video(self, num: int) -> list[EvaluationCase]:
        """Build cases whose emotion comes from a video of another person."""

        def source(clip: Clip, k: int) -> EmotionVideo:
            frames = range(min(clip.num_frames, self._num_frames))
            return EmotionVideo(self._frames_of_other_person(clip, k, list(frames)))

        return [self._swapped(k, source) for k in range(num)]

    def by_text(self, num: int) -> list[EvaluationCase]:
        """Build cases with held-out prompts, spread over each emotion's list from words to described situations."""
        per_emotion = -(-num // len(self._emotions))
        prompts = [_spread([p.text for p in HELD_OUT if p.emotion == name], per_emotion) for name in EMOTIONS]

        def source(clip: Clip, k: int) -> EmotionText:
            texts = prompts[clip.emotion]
            return EmotionText(texts[k // len(self._emotions) % len(texts)])

        return [self._swapped(k, source) for k in range(num)]

    def by_speech(self, num: int) -> list[EvaluationCase]:
        """Build cases whose emotion comes from the voice alone."""
        cases = []
        for k in range(num):
            emotion = self._emotions[k % len(self._emotions)]
            clips = _strongest([clip for clip in self.clips if clip.emotion == emotion])
            clip = clips[(k // len(self._emotions)) % len(clips)]
            cases.append(self._case(clip, k, EmotionSpeech(), clip))
        return cases

    def by_level(self, num: int) -> list[list[EvaluationCase]]:
        """Build groups of cases that differ only in intensity; each group has one of the emotions except neutral."""
        groups = []
        emotions = [emotion for emotion in self._emotions if emotion != _NEUTRAL]
        for k in range(num):
            clips = self._strongest_clips[emotions[k % len(emotions)]]
            target = clips[k // len(emotions) % len(clips)]
            name = EMOTIONS[target.emotion]
            full = self._case(self._voice_clip(k, target.emotion + 3), k, EmotionLabel(name, 1.0), target)
            groups.append(
                [
                    replace(
                        full, emotion=EmotionLabel(name, level), intensity=level, expression=full.expression * level
                    )
                    for level in INTENSITY_LEVELS
                ]
            )
        return groups

    def own_motions(self, num: int, *, whole: bool = False) -> list[EvaluationCase]:
        """Build cases whose speech, lips, expressions and label all come from one clip.

        Args:
            num: number of cases.
            whole: keep whole clips instead of cutting them to the length of a case.
        """
        clips = [self._voice_clip(k, k) for k in range(num)]
        return [
            self._case(clip, k, EmotionLabel(EMOTIONS[clip.emotion], min(1.0, clip.intensity)), clip, whole=whole)
            for k, clip in enumerate(clips)
        ]

    def by_track(self, num: int, num_keys: int, key_frames: int) -> list[EvaluationCase]:
        """Build cases with an emotion track that changes every `key_frames` frames."""
        cases = []
        for k in range(num):
            spoken = self.long_case(num_keys * key_frames, person=k)
            order = [self._emotions[(k + 3 * i) % len(self._emotions)] for i in range(num_keys)]
            keys = [EmotionKey(i * key_frames / FRAME_RATE_HZ, EmotionLabel(EMOTIONS[e])) for i, e in enumerate(order)]
            track = EmotionTrack(tuple(keys))
            weights = track.weights(spoken.num_frames)
            expression = torch.zeros_like(spoken.expression)
            for i, emotion in enumerate(order):
                clips = self._strongest_clips[emotion]
                motion = clips[k % len(clips)].expression
                frames_since_key = torch.arange(spoken.num_frames) - i * key_frames
                rows = torch.from_numpy(motion.copy())[frames_since_key.clamp(0, len(motion) - 1)]
                expression += weights[:, i, None] * rows
            cases.append(replace(spoken, emotion=track, target_emotion=order[-1], expression=expression))
        return cases

    def long_case(self, num_frames: int, person: int = 0) -> EvaluationCase:
        """Concatenate the clips of the person with this index, repeated as needed, into one case."""
        clips = self.clips_by_person[self._people[person % len(self._people)]]
        cycle = [clips[k % len(clips)] for k in range(-(-num_frames // min(c.num_frames for c in clips)))]
        first = self._case(cycle[0], 0, None, None)

        def joined(name: str) -> Tensor:
            return torch.from_numpy(np.concatenate([getattr(clip, name) for clip in cycle]))

        return replace(
            first,
            waveform=joined("waveform")[: num_frames * SAMPLES_PER_FRAME],
            lip=joined("lip")[:num_frames],
            expression=joined("expression")[:num_frames],
            pose=joined("pose")[:num_frames],
        )

    def _voice_clip(self, k: int, emotion: int) -> Clip:
        """Choose a clip of the k-th person, with this emotion if there is one.

        The index k + k // 8 gives every person every emotion in the course of many cases.
        """
        clips = self.clips_by_person[self._people[(k + k // len(EMOTIONS)) % len(self._people)]]
        return next((clip for clip in clips if clip.emotion == emotion % len(EMOTIONS)), clips[k % len(clips)])

    def _swapped(self, k: int, source: Callable[[Clip, int], EmotionSource]) -> EvaluationCase:
        """Build a case whose voice and portrait have another emotion than its target."""
        clips = self._strongest_clips[self._emotions[k % len(self._emotions)]]
        target = clips[k // len(self._emotions) % len(clips)]
        # The voice's emotion is 1 to 7 positions after the target's, so every pair occurs.
        voice = self._voice_clip(k, target.emotion + 1 + k // len(EMOTIONS) % (len(EMOTIONS) - 1))
        return self._case(voice, k, source(target, k), target, portrait_emotion=voice.emotion)

    def _case(
        self,
        voice: Clip,
        k: int,
        emotion: EmotionSource,
        target: Clip | None,
        portrait_emotion: int | None = None,
        whole: bool = False,
    ) -> EvaluationCase:
        """Combine speech and lips of `voice`, expressions and pose of `target`, and a portrait of the speaker.

        The portrait comes from another clip than the target's emotion, by preference one with `portrait_emotion`, at the
        frame with the mouth most closed and the eyes most open. Without a target, the portrait's clip is the target.
        """
        assert voice.identity_seed is not None
        clips = self.clips_by_person[voice.identity_seed]
        others = [c for c in clips if c.emotion != (voice if target is None else target).emotion] or clips
        portrait_clip = next((c for c in others if c.emotion == portrait_emotion), others[k % len(others)])
        distance_from_rest = portrait_clip.lip[:, _JAW] + portrait_clip.expression[:, _BLINK]
        portrait = draw_clip(portrait_clip, [int(distance_from_rest.argmin())], self._size).images[0] * 2 - 1
        motion = portrait_clip if target is None else target
        max_frames = max(voice.num_frames, motion.num_frames) if whole else self._num_frames
        num = min(max_frames, voice.num_frames, motion.num_frames)
        lip, expression, pose = (
            torch.from_numpy(track[:num].copy()) for track in (voice.lip, motion.expression, motion.pose)
        )
        return EvaluationCase(
            identity_seed=voice.identity_seed,
            portrait=portrait,
            waveform=torch.from_numpy(voice.waveform[: num * SAMPLES_PER_FRAME].copy()),
            emotion=emotion,
            target_emotion=motion.emotion,
            intensity=1.0,
            portrait_emotion=portrait_clip.emotion,
            lip=lip,
            expression=expression,
            pose=pose,
            photographs=voice.photographs,
        )

    def _frames_of_other_person(self, clip: Clip, k: int, frames: Sequence[int]) -> Float[Tensor, "frames 3 size size"]:
        others = [person for person in self._people if person != clip.identity_seed] or self._people
        return draw_clip(clip, frames, _SOURCE_SIZE, others[(5 * k + 3) % len(others)]).images * 2 - 1


def _strongest(clips: Sequence[Clip]) -> list[Clip]:
    """Choose the clips of the greatest intensity; with few people an emotion may not occur at full intensity."""
    strongest = max((clip.intensity for clip in clips), default=0.0)
    return [clip for clip in clips if clip.intensity >= strongest - 1e-3]


def _spread(items: Sequence[T], num: int) -> list[T]:
    """Choose at most `num` items, evenly spaced from first to last."""
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, min(num, len(items))).round()]
