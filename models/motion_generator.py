"""V-AID at work: speech and an emotion to the lip and expression latents of a clip of any length, block by block.

A block is a segment of Di-CTE's long sequence (`models/long_video.py`), so blocks follow each other: the first
expressions of one are pinned to the last of the one before. A block is a function of the role, its own stretch of the
speech and the block before: it can be made in any process, and be made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.models.dicte import DiCTEConditions
from emotivetalk.models.diffusion import denoise, guide, sigma_schedule, svd_scheduler
from emotivetalk.models.emotion import (
    EmotionImage,
    EmotionLabel,
    EmotionMapping,
    EmotionSource,
    EmotionSpeech,
    EmotionText,
    EmotionTrack,
    EmotionVideo,
    MeaninglessTextError,
)
from emotivetalk.models.encoders import ConvAudioEncoder, ExpressionEncoder, Wav2Vec2AudioEncoder
from emotivetalk.models.long_video import frame_noise, run_segment
from emotivetalk.models.long_video_plan import LongVideoConfig, LongVideoPlan
from emotivetalk.models.sentence_encoder import SentenceEncoder
from emotivetalk.models.vaid import VAID
from emotivetalk.timebase import SAMPLES_PER_FRAME

BLOCK_CHUNKS = 8
"""Of Di-CTE's chunks in a block: the starter's blocks are 20 s long."""
TONE_WINDOW_FRAMES = 150
"""The emotion of the speech itself is judged over six seconds, and follows it."""
SEEN_AT_ONCE = 8
MIN_MEANING = 0.25
"""A text less likely than this to ask for any emotion is refused."""


@runtime_checkable
class Samples(Protocol):
    """Mono speech at 16 kHz in -1..1: a tensor, or anything that reads the stretch it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, stretch: slice, /) -> Float[Tensor, " samples"]: ...


@dataclass(frozen=True)
class MotionConditions:
    """What a portrait and an emotion settle before any speech is heard.

    keys: the mapped utterance sources: one, or one for each key of a track (the portrait's own expression where the key
        asks for it); of a video, the expressions of its frames.
    """

    expression_reference: Float[Tensor, " dim_expression"]
    identity: Float[Tensor, "1 dim_identity"]
    emotion: EmotionSource
    keys: Float[Tensor, "keys dim_expression"]


@dataclass(frozen=True)
class MotionBlock:
    """Latents of some consecutive frames of the clip."""

    frames: range
    lip: Float[Tensor, "frames dim_lip"]
    expression: Float[Tensor, "frames dim_expression"]


def join(blocks: Sequence[MotionBlock], frames: range) -> MotionBlock:
    """These frames, from consecutive blocks that have them all."""
    parts = []
    for block in blocks:
        start, stop = max(frames.start, block.frames.start), min(frames.stop, block.frames.stop)
        if start < stop:
            rows = slice(start - block.frames.start, stop - block.frames.start)
            parts.append((block.lip[rows], block.expression[rows]))
    lip, expression = (torch.cat(column) for column in zip(*parts, strict=True))
    assert len(lip) == len(frames)
    return MotionBlock(frames, lip, expression)


def expression_plan_config(chunk_frames: int) -> LongVideoConfig:
    """How Di-CTE's sequences are divided, if it was trained on such chunks."""
    return LongVideoConfig(
        chunk_frames, BLOCK_CHUNKS, pinned_frames=chunk_frames // 4, shift_stride=chunk_frames // 3 | 1
    )


class MotionGenerator:
    """The networks of V-AID with what they need around them; see `EmotiveTalkPipeline` for the parameters."""

    def __init__(
        self,
        audio_encoder: ConvAudioEncoder | Wav2Vec2AudioEncoder,
        expression_encoder: ExpressionEncoder,
        emotion_mapping: EmotionMapping,
        vaid: VAID,
        num_steps: int,
        chunk_frames: int,
        guidance: float = 1.0,
        guidance_below: float | None = None,
    ) -> None:
        self.audio_encoder, self.expression_encoder = audio_encoder, expression_encoder
        self.emotion_mapping, self.vaid = emotion_mapping, vaid
        self.num_steps, self.guidance, self.guidance_below = num_steps, guidance, guidance_below
        self.long_video = expression_plan_config(chunk_frames)
        self._sentence_encoder: SentenceEncoder | None = None

    @property
    def device(self) -> torch.device:
        return self.vaid.device

    def plan(self, num_frames: int, long_video: LongVideoConfig | None = None) -> LongVideoPlan:
        """Di-CTE's plan; its segments are the blocks."""
        return LongVideoPlan(long_video or self.long_video, num_frames, self.num_steps)

    @torch.no_grad()
    def prepare(self, portrait: Float[Tensor, "3 height width"], emotion: EmotionSource) -> MotionConditions:
        """The portrait's own expression and identity, and the emotion in expression space.

        Raises:
            ValueError: values that are not finite; MeaninglessTextError and SentenceEncoderError are such.
        """
        if not torch.isfinite(portrait).all():
            raise ValueError("the portrait must be finite; it has NaN or infinite values")
        picture = portrait.to(self.device)[None]
        reference = self.expression_encoder(picture.to(self.expression_encoder.dtype))[0].float()
        identity = self.vaid.dicte.identity_encoder(picture)
        return MotionConditions(reference, identity, emotion, self._keys(emotion, reference))

    @torch.no_grad()
    def generate_motion(
        self,
        role: MotionConditions,
        speech: Samples,
        index: int,
        before: MotionBlock | None,
        *,
        seed: int = 0,
        emotion_strength: float = 1.0,
        long_video: LongVideoConfig | None = None,
    ) -> MotionBlock:
        """Block `index` of the clip; `before` is the block before it, None for the first.

        Args:
            long_video: how to divide the clip, if not as the sequences that Di-CTE was trained on want it.

        Raises:
            ValueError: the speech is empty or not finite.
        """
        if len(speech) == 0:
            raise ValueError("the waveform is empty; give at least one sample")
        num_frames = -(-len(speech) // SAMPLES_PER_FRAME)
        segment = self.plan(num_frames, long_video).segment(index)
        made = segment.result.frames
        near = self.vaid.projector.context_frames
        heard = range(max(0, segment.frames.start - near), min(num_frames, segment.frames.stop + near))
        features = self._audio_features(speech, heard)
        lip = self.vaid.projector(features[None])[0][made.start - heard.start : made.stop - heard.start]
        if isinstance(role.emotion, EmotionVideo):
            expression = _back_and_forth(role.keys, made)
            return MotionBlock(made, lip.float(), expression.float())
        seen = features[segment.frames.start - heard.start : segment.frames.stop - heard.start]
        predict = partial(
            self._predict,
            role,
            seen,
            self._utterance(role, speech, segment.frames, num_frames),
            segment.frames.start,
            self._strength(role, emotion_strength, segment.frames, num_frames),
        )
        sigmas = sigma_schedule(svd_scheduler(0.05, 20.0), self.num_steps).to(self.device)

        def noise(frames: range) -> Tensor:
            return frame_noise(seed, frames.start, len(frames), role.expression_reference.shape, "dicte").to(
                self.device
            )

        tail = None if before is None else before.expression
        expression = run_segment(segment, tail, predict, sigmas, noise, batch_calls=BLOCK_CHUNKS).frames
        return MotionBlock(made, lip.float(), expression.float())

    def blocks(
        self, role: MotionConditions, speech: Samples, *, seed: int = 0, emotion_strength: float = 1.0
    ) -> Iterator[MotionBlock]:
        """All blocks of the clip in order, each made when it is asked for."""
        before = None
        for index in range(self.plan(-(-len(speech) // SAMPLES_PER_FRAME)).num_segments):
            before = self.generate_motion(role, speech, index, before, seed=seed, emotion_strength=emotion_strength)
            yield before

    def _keys(self, emotion: EmotionSource, reference: Float[Tensor, " dim"]) -> Float[Tensor, "keys dim"]:
        if isinstance(emotion, EmotionVideo):
            parts = emotion.frames.to(self.device).split(SEEN_AT_ONCE)
            return torch.cat([self.expression_encoder(part) for part in parts])
        if isinstance(emotion, EmotionTrack):
            return torch.stack([reference if key.source is None else self._mapped(key.source) for key in emotion.keys])
        if emotion is None or isinstance(emotion, EmotionSpeech):
            return reference.new_empty(0, len(reference))
        return self._mapped(emotion)[None]

    def _mapped(self, emotion: EmotionLabel | EmotionText | EmotionImage) -> Float[Tensor, " dim"]:
        if isinstance(emotion, EmotionLabel):
            return self.emotion_mapping.label(emotion.emotion, emotion.intensity)
        if isinstance(emotion, EmotionText):
            if self._sentence_encoder is None:
                self._sentence_encoder = SentenceEncoder()
            embedding = self._sentence_encoder([emotion.text]).to(self.device)
            if self.emotion_mapping.meaning(embedding)[0] < MIN_MEANING:
                raise MeaninglessTextError(emotion.text)
            return self.emotion_mapping.text(embedding)[0]
        return self.expression_encoder(emotion.image.to(self.device)[None])[0]

    def _audio_features(self, speech: Samples, frames: range) -> Float[Tensor, "frames dim_audio"]:
        """Of these frames, heard with enough before and after that no seam can be found between blocks."""
        context = self.audio_encoder.context_frames
        first, last = max(0, frames.start - context), frames.stop + context
        waveform = speech[first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME].to(self.device)
        if not torch.isfinite(waveform).all():
            raise ValueError("the waveform must be finite; it has NaN or infinite values")
        heard = self.audio_encoder(waveform[None])[0]
        return heard[frames.start - first : frames.stop - first]

    def _utterance(
        self, role: MotionConditions, speech: Samples, frames: range, num_frames: int
    ) -> Float[Tensor, "frames dim"] | None:
        """The mapped utterance source of each frame; None is the portrait's own expression."""
        if role.emotion is None:
            return None
        if isinstance(role.emotion, EmotionSpeech):
            return self._tone_of_voice(speech, frames, num_frames)
        if isinstance(role.emotion, EmotionTrack):
            track = self.emotion_mapping.track(role.emotion, role.keys, num_frames)
            return track[frames.start : frames.stop].to(self.device)
        return role.keys.expand(len(frames), -1)

    def _strength(
        self, role: MotionConditions, strength: float, frames: range, num_frames: int
    ) -> float | Float[Tensor, " frames"]:
        """Of the emotion, in each frame: less of it, down to none, where a track turns to the portrait's own expression."""
        if not isinstance(role.emotion, EmotionTrack):
            return strength
        own = [index for index, key in enumerate(role.emotion.keys) if key.source is None]
        if not own:
            return strength
        share = role.emotion.weights(num_frames)[frames.start : frames.stop, own].sum(1)
        return (strength * (1 - share)).to(self.device)

    def _tone_of_voice(self, speech: Samples, frames: range, num_frames: int) -> Float[Tensor, "frames dim"]:
        """The speech's own emotion, window by window, blended along the frames between the windows' middles."""
        num_windows = max(1, round(num_frames / TONE_WINDOW_FRAMES))
        place = (torch.arange(frames.start, frames.stop) + 0.5) * num_windows / num_frames - 0.5
        place = place.clamp(0, num_windows - 1)
        left = place.floor().long()
        right = (left + 1).clamp(max=num_windows - 1)
        first, last = int(left[0]), int(right[-1])
        edges = [num_frames * i // num_windows * SAMPLES_PER_FRAME for i in range(first, last + 2)]
        windows = [speech[start:stop].to(self.device) for start, stop in zip(edges, edges[1:])]
        heard = torch.cat([self.emotion_mapping.speech(window[None]) for window in windows])
        share = (place - left)[:, None].to(heard)
        return heard[left - first] * (1 - share) + heard[right - first] * share

    def _predict(
        self,
        role: MotionConditions,
        features: Float[Tensor, "seen dim_audio"],
        utterance: Float[Tensor, "seen dim"] | None,
        origin: int,
        strength: float | Float[Tensor, " seen"],
        x: Tensor,
        sigma: Tensor,
        ranges: Sequence[range],
    ) -> Tensor:
        """Di-CTE's estimate of the clean expressions of several chunks; what is seen begins at frame `origin`."""
        num, dicte = len(ranges), self.vaid.dicte
        chosen = role.expression_reference.expand(len(features), -1) if utterance is None else utterance

        def stacked(rows: Tensor) -> Tensor:
            return torch.stack([rows[r.start - origin : r.stop - origin] for r in ranges])

        conditions = DiCTEConditions(
            audio_features=stacked(features),
            identity=role.identity.expand(num, -1),
            expression_reference=role.expression_reference.expand(num, -1),
            utterance=stacked(chosen),
            has_utterance=torch.full((num,), utterance is not None, device=x.device),
        )

        def evaluate(given: DiCTEConditions) -> Tensor:
            return denoise(lambda scaled, timestep: dicte(scaled, timestep, given), x, sigma.expand(num))

        if utterance is None:
            return evaluate(conditions)
        if self.guidance_below is None or float(sigma) <= self.guidance_below:
            strength = strength * self.guidance
        if isinstance(strength, Tensor):
            own, asked = evaluate(conditions.unconditional()), evaluate(conditions)
            return own + stacked(strength[:, None]) * (asked - own)
        return guide(partial(evaluate, conditions.unconditional()), partial(evaluate, conditions), strength)


def _back_and_forth(seen: Float[Tensor, "seen dim"], frames: range) -> Float[Tensor, "frames dim"]:
    """A video's expressions frame by frame; one that is too short is played back and forth."""
    index = torch.arange(frames.start, frames.stop, device=seen.device) % max(1, 2 * len(seen) - 2)
    return seen[torch.where(index < len(seen), index, 2 * len(seen) - 2 - index)]
