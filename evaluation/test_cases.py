"""What a checkpoint is asked to do when it is measured, and what it should have done (ours).

Each scene is made of held-out clips: somebody's portrait, speech, an emotion that neither of them shows, and the face
that the renderer would have drawn. So emotion is always measured by swapping it, never by reconstruction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.corpus.avatar import Identity
from emotivetalk.corpus.drawing import draw_clip
from emotivetalk.corpus.held_out_prompts import HELD_OUT
from emotivetalk.corpus.records import Clip, read_corpus
from emotivetalk.corpus.renderer import render
from emotivetalk.errors import InputError
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

LEVELS = (1 / 3, 2 / 3, 1.0)
"""The corpus's intensities, MEAD's three."""

_SOURCE_SIZE = 128  # of pictures that are emotion sources: the expression encoder sees no larger ones
_DRAWN_AT_ONCE = 16
_NEUTRAL = EMOTIONS.index("neutral")

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class TestCase:
    """One video to make. wanted: the emotion's index. level: its intensity, 0..1. shown: the portrait's emotion.

    `lip`, `expression` and `pose` are the truth: the speech's own lips, and a performance of the wanted emotion.
    """

    identity_seed: int
    portrait: Float[Tensor, "3 size size"]
    waveform: Float[Tensor, " samples"]
    emotion: EmotionSource
    wanted: int
    level: float
    shown: int
    lip: Float[Tensor, "frames 6"]
    expression: Float[Tensor, "frames 12"]
    pose: Float[Tensor, "frames 6"]

    @property
    def num_frames(self) -> int:
        return len(self.lip)


def true_frames(case: TestCase, size: int) -> Iterator[Float[Tensor, "frames 3 size size"]]:
    """The frames that the renderer draws of a scene, RGB in 0..1, a few at a time."""
    person = Identity.sample(1, case.identity_seed)
    tracks = (track.split(_DRAWN_AT_ONCE) for track in (case.lip, case.expression, case.pose))
    for lip, expression, pose in zip(*tracks, strict=True):
        yield render(person[[0] * len(lip)], lip, expression, pose, size).images


class CaseBuilder:
    """Makes scenes from a corpus's held-out people.

    Args:
        folder: the corpus.
        size: of portraits, pixels.
        num_frames: of each scene; longer clips are cut.

    Raises:
        InputError: no corpus, no held-out split, or one of real video, which cannot be drawn.
    """

    def __init__(self, folder: Path, size: int, num_frames: int) -> None:
        self._folder, self._size, self._num_frames = folder, size, num_frames
        self.clips = read_corpus(folder, "held_out")
        self._people = sorted(self.clips.by_identity)
        if not self._people:
            raise InputError(
                code="corpus_not_synthetic",
                message=f"{folder} holds out no avatars, and only they can be measured against the renderer",
                remedy="Give a corpus from `emotivetalk synthesize`",
            )
        self._heads = {person: self._clips_of(person) for person in self._people}
        strongest = max(clip.intensity for clip in self.clips)
        self._performances = [
            [c for c in self.clips if c.emotion == emotion and c.intensity >= strongest - 1e-3]
            for emotion in range(len(EMOTIONS))
        ]
        self._emotions = [emotion for emotion, found in enumerate(self._performances) if found]

    def speech_alone(self, num: int) -> list[TestCase]:
        """Speech drives the lips of a face that keeps the portrait's own expression."""
        return [self._case(self._speaker(k, k % len(EMOTIONS)), k, None, None) for k in range(num)]

    def foreign_speech(self, num: int) -> list[TestCase]:
        """The same with a synthesiser's voice that training never heard; no scenes where the corpus has no such split."""
        if not any(self._folder.glob("foreign-*.parquet")):
            return []
        foreign = read_corpus(self._folder, "foreign")
        heard = [clip for clip in _spread(foreign, num) if clip.identity_seed in self._heads]
        return [self._case(clip, k, None, None) for k, clip in enumerate(heard)]

    def by_label(self, num: int) -> list[TestCase]:
        """Each emotion in turn, at full intensity, on somebody who shows and whose voice has another one."""
        return [self._swapped(k, lambda clip, _: EmotionLabel(EMOTIONS[clip.emotion], 1.0)) for k in range(num)]

    def by_image(self, num: int) -> list[TestCase]:
        """The emotion of one picture of somebody else."""

        def source(clip: Clip, k: int) -> EmotionImage:
            return EmotionImage(self._faces_of_another(clip, k, [clip.num_frames // 2])[0])

        return [self._swapped(k, source) for k in range(num)]

    def by_video(self, num: int) -> list[TestCase]:
        """The expressions of a video of somebody else."""

        def source(clip: Clip, k: int) -> EmotionVideo:
            return EmotionVideo(self._faces_of_another(clip, k, list(range(min(clip.num_frames, self._num_frames)))))

        return [self._swapped(k, source) for k in range(num)]

    def by_text(self, num: int) -> list[TestCase]:
        """Wordings that training never saw: of each emotion's, evenly from the first, a word, to the last, a scene."""
        some = -(-num // len(self._emotions))
        unseen = [_spread([p.text for p in HELD_OUT if p.emotion == name], some) for name in EMOTIONS]

        def source(clip: Clip, k: int) -> EmotionText:
            texts = unseen[clip.emotion]
            return EmotionText(texts[k // len(self._emotions) % len(texts)])

        return [self._swapped(k, source) for k in range(num)]

    def by_speech(self, num: int) -> list[TestCase]:
        """The emotion is in the voice and nowhere else."""
        cases = []
        for k in range(num):
            voices = self._performances[self._emotions[k % len(self._emotions)]]
            clip = voices[(k // len(self._emotions)) % len(voices)]
            cases.append(self._case(clip, k, EmotionSpeech(), clip))
        return cases

    def by_level(self, num: int) -> list[list[TestCase]]:
        """Groups that differ in the commanded intensity alone; emotions in turn but neutral, which has none."""
        groups = []
        emotions = [emotion for emotion in self._emotions if emotion != _NEUTRAL]
        for k in range(num):
            motion = self._performances[emotions[k % len(emotions)]]
            wanted = motion[k // len(emotions) % len(motion)]
            name = EMOTIONS[wanted.emotion]
            full = self._case(self._speaker(k, wanted.emotion + 3), k, EmotionLabel(name, 1.0), wanted)
            groups.append(
                [
                    replace(full, emotion=EmotionLabel(name, level), level=level, expression=full.expression * level)
                    for level in LEVELS
                ]
            )
        return groups

    def own_motions(self, num: int, *, whole: bool = False) -> list[TestCase]:
        """Clips as they are, people and emotions in turn: speech, lips, expressions and the label belong together.

        Args:
            num: how many.
            whole: the whole clips, not cut to the scenes' length.
        """
        chosen = [self._speaker(k, k) for k in range(num)]
        return [
            self._case(clip, k, EmotionLabel(EMOTIONS[clip.emotion], min(1.0, clip.intensity)), clip, whole=whole)
            for k, clip in enumerate(chosen)
        ]

    def by_track(self, num: int, num_keys: int, key_frames: int) -> list[TestCase]:
        """Emotions that change every `key_frames`, each faded in over half a second as the track says."""
        cases = []
        for k in range(num):
            spoken = self.long_case(num_keys * key_frames, person=k)
            order = [self._emotions[(k + 3 * i) % len(self._emotions)] for i in range(num_keys)]
            keys = [EmotionKey(i * key_frames / FRAME_RATE_HZ, EmotionLabel(EMOTIONS[e])) for i, e in enumerate(order)]
            track = EmotionTrack(tuple(keys))
            weights = track.weights(spoken.num_frames)
            expression = torch.zeros_like(spoken.expression)
            for i, emotion in enumerate(order):
                motion = self._performances[emotion][k % len(self._performances[emotion])].expression
                since = torch.arange(spoken.num_frames) - i * key_frames
                rows = torch.from_numpy(motion.copy())[since.clamp(0, len(motion) - 1)]
                expression += weights[:, i, None] * rows
            cases.append(replace(spoken, emotion=track, wanted=order[-1], expression=expression))
        return cases

    def long_case(self, num_frames: int, person: int = 0) -> TestCase:
        """The person-th one's sentences one after the other, again and again if need be."""
        clips = self._heads[self._people[person % len(self._people)]]
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

    def _clips_of(self, person: int) -> list[Clip]:
        return [self.clips[position] for position in self.clips.by_identity[person]]

    def _speaker(self, k: int, emotion: int) -> Clip:
        """A clip of the k-th person, by preference of this emotion; k + k // 8, so that everybody gets every emotion."""
        clips = self._heads[self._people[(k + k // len(EMOTIONS)) % len(self._people)]]
        return next((clip for clip in clips if clip.emotion == emotion % len(EMOTIONS)), clips[k % len(clips)])

    def _swapped(self, k: int, source: Callable[[Clip, int], EmotionSource]) -> TestCase:
        emotion = self._emotions[k % len(self._emotions)]
        motion = self._performances[emotion]
        wanted = motion[k // len(self._emotions) % len(motion)]
        # The voice's emotion is 1 to 7 places further on, so all pairs come about.
        voice = self._speaker(k, emotion + 1 + k // len(EMOTIONS) % (len(EMOTIONS) - 1))
        return self._case(voice, k, source(wanted, k), wanted, portrait_of=voice.emotion)

    def _case(
        self,
        voice: Clip,
        k: int,
        emotion: EmotionSource,
        wanted: Clip | None,
        portrait_of: int | None = None,
        whole: bool = False,
    ) -> TestCase:
        """Voice and lips of one clip, the performance of `wanted` (of the portrait's clip, if None), and a portrait.

        The portrait is of a clip of another emotion than the wanted one, or of `portrait_of`; there the mouth is nearly
        shut and the eyes are open, as portraits are chosen.
        """
        assert voice.identity_seed is not None
        heads = self._heads[voice.identity_seed]
        others = [c for c in heads if c.emotion != (voice if wanted is None else wanted).emotion] or heads
        chosen = next((c for c in others if c.emotion == portrait_of), others[k % len(others)])
        shut = chosen.lip[:, 0] + chosen.expression[:, 5]
        portrait = draw_clip(chosen, [int(shut.argmin())], self._size).images[0] * 2 - 1
        motion = chosen if wanted is None else wanted
        most = max(voice.num_frames, motion.num_frames) if whole else self._num_frames
        num = min(most, voice.num_frames, motion.num_frames)
        lip, expression, pose = (
            torch.from_numpy(track[:num].copy()) for track in (voice.lip, motion.expression, motion.pose)
        )
        return TestCase(
            voice.identity_seed,
            portrait,
            torch.from_numpy(voice.waveform[: num * SAMPLES_PER_FRAME].copy()),
            emotion,
            motion.emotion,
            1.0,
            chosen.emotion,
            lip,
            expression,
            pose,
        )

    def _faces_of_another(self, clip: Clip, k: int, frames: Sequence[int]) -> Float[Tensor, "frames 3 size size"]:
        others = [person for person in self._people if person != clip.identity_seed] or self._people
        return draw_clip(clip, frames, _SOURCE_SIZE, others[(5 * k + 3) % len(others)]).images * 2 - 1


def _spread(some: Sequence[T], num: int) -> list[T]:
    """As many as there are, at most `num`, evenly from first to last."""
    return [some[int(i)] for i in np.linspace(0, len(some) - 1, min(num, len(some))).round()]
