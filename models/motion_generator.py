"""Generate motion with V-AID: speech and an emotion to the lip and expression latents of a clip, block by block.

A block is a segment of Di-CTE's long sequence (`models/long_video.py`): its first expressions are pinned to the last ones of
the previous block. A block is a pure function of the conditions, its part of the speech and the previous block, so any
process can generate it, again if needed.
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
from emotivetalk.models.encoders import AudioEncoderNetwork, ExpressionEncoder
from emotivetalk.models.long_video import frame_noise, run_segment
from emotivetalk.models.long_video_plan import LongVideoConfig, LongVideoPlan
from emotivetalk.models.sentence_encoder import SentenceEncoder
from emotivetalk.models.vaid import VAID
from emotivetalk.timebase import SAMPLES_PER_FRAME

BLOCK_CHUNKS = 8
"""Di-CTE chunks per block; the starter's blocks are 20 s long."""
TONE_WINDOW_FRAMES = 150
"""Length of the windows, six seconds, over which the emotion of the speech itself is estimated."""
FRAMES_AT_ONCE = 8
MIN_MEANING = 0.25
"""Minimum probability that a text describes an emotion; below it the text is rejected."""


@runtime_checkable
class Samples(Protocol):
    """Mono speech at 16 kHz in -1..1: a tensor, or an object that reads a slice on demand."""

    def __len__(self) -> int: ...

    def __getitem__(self, stretch: slice, /) -> Float[Tensor, " samples"]: ...


@dataclass(frozen=True)
class MotionConditions:
    """Conditions of V-AID that follow from the portrait and the emotion alone.

    Attributes:
        keys: the mapped utterance source. For a track, one for each key (the portrait's expression for keys without an
            emotion). For a video, the expressions of its frames.
    """

    expression_reference: Float[Tensor, " dim_expression"]
    identity: Float[Tensor, "1 dim_identity"]
    emotion: EmotionSource
    keys: Float[Tensor, "keys dim_expression"]


@dataclass(frozen=True)
class MotionBlock:
    """Lip and expression latents of consecutive frames."""

    frames: range
    lip: Float[Tensor, "frames dim_lip"]
    expression: Float[Tensor, "frames dim_expression"]


def join(blocks: Sequence[MotionBlock], frames: range) -> MotionBlock:
    """Return these frames from consecutive blocks that contain them."""
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
    """Return how to divide Di-CTE's sequences, for a network trained on chunks of `chunk_frames`."""
    return LongVideoConfig(
        chunk_frames, BLOCK_CHUNKS, pinned_frames=chunk_frames // 4, shift_stride=chunk_frames // 3 | 1
    )


class MotionGenerator:
    """V-AID with its encoders and its sampler; see `EmotiveTalkPipeline` for the parameters."""

    def __init__(
        self,
        audio_encoder: AudioEncoderNetwork,
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
        """Return Di-CTE's plan. Its segments are the blocks."""
        return LongVideoPlan(long_video or self.long_video, num_frames, self.num_steps)

    @torch.no_grad()
    def prepare(self, portrait: Float[Tensor, "3 height width"], emotion: EmotionSource) -> MotionConditions:
        """Compute the portrait's expression and identity, and map the emotion to expression space.

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
        conditions: MotionConditions,
        speech: Samples,
        index: int,
        before: MotionBlock | None,
        *,
        seed: int = 0,
        emotion_strength: float = 1.0,
        long_video: LongVideoConfig | None = None,
    ) -> MotionBlock:
        """Generate block `index` of the clip. `before` is the previous block, None for the first.

        Args:
            long_video: how to divide the clip; None follows the sequence length that Di-CTE was trained on.

        Raises:
            ValueError: the speech is empty or not finite.
        """
        if len(speech) == 0:
            raise ValueError("the waveform is empty; give at least one sample")
        num_frames = -(-len(speech) // SAMPLES_PER_FRAME)
        segment = self.plan(num_frames, long_video).segment(index)
        made = segment.result.frames
        context = self.vaid.projector.context_frames
        audible = range(max(0, segment.frames.start - context), min(num_frames, segment.frames.stop + context))
        features = self._audio_features(speech, audible)
        lip = self.vaid.projector(features[None])[0][made.start - audible.start : made.stop - audible.start]
        if isinstance(conditions.emotion, EmotionVideo):
            expression = _back_and_forth(conditions.keys, made)
            return MotionBlock(made, lip.float(), expression.float())
        denoised_features = features[segment.frames.start - audible.start : segment.frames.stop - audible.start]
        predict = partial(
            self._predict,
            conditions,
            denoised_features,
            self._utterance(conditions, speech, segment.frames, num_frames),
            segment.frames.start,
            self._strength(conditions, emotion_strength, segment.frames, num_frames),
        )
        sigmas = sigma_schedule(svd_scheduler(0.05, 20.0), self.num_steps).to(self.device)

        def noise(frames: range) -> Tensor:
            return frame_noise(seed, frames.start, len(frames), conditions.expression_reference.shape, "dicte").to(
                self.device
            )

        tail = None if before is None else before.expression
        expression = run_segment(segment, tail, predict, sigmas, noise, batch_calls=BLOCK_CHUNKS).frames
        return MotionBlock(made, lip.float(), expression.float())

    def blocks(
        self, conditions: MotionConditions, speech: Samples, *, seed: int = 0, emotion_strength: float = 1.0
    ) -> Iterator[MotionBlock]:
        """Generate the blocks of the clip in order, on demand."""
        before = None
        for index in range(self.plan(-(-len(speech) // SAMPLES_PER_FRAME)).num_segments):
            before = self.generate_motion(
                conditions, speech, index, before, seed=seed, emotion_strength=emotion_strength
            )
            yield before

    def _keys(self, emotion: EmotionSource, reference: Float[Tensor, " dim"]) -> Float[Tensor, "keys dim"]:
        if isinstance(emotion, EmotionVideo):
            parts = emotion.frames.to(self.device).split(FRAMES_AT_ONCE)
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
        """Encode the speech of these frames, with enough context that blocks join without a seam."""
        context = self.audio_encoder.context_frames
        first, last = max(0, frames.start - context), frames.stop + context
        waveform = speech[first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME].to(self.device)
        if not torch.isfinite(waveform).all():
            raise ValueError("the waveform must be finite; it has NaN or infinite values")
        features = self.audio_encoder(waveform[None])[0]
        return features[frames.start - first : frames.stop - first]

    def _utterance(
        self, conditions: MotionConditions, speech: Samples, frames: range, num_frames: int
    ) -> Float[Tensor, "frames dim"] | None:
        """Return the mapped utterance source of each frame; None stands for the portrait's own expression."""
        if conditions.emotion is None:
            return None
        if isinstance(conditions.emotion, EmotionSpeech):
            return self._tone_of_voice(speech, frames, num_frames)
        if isinstance(conditions.emotion, EmotionTrack):
            track = self.emotion_mapping.track(conditions.emotion, conditions.keys, num_frames)
            return track[frames.start : frames.stop].to(self.device)
        return conditions.keys.expand(len(frames), -1)

    def _strength(
        self, conditions: MotionConditions, strength: float, frames: range, num_frames: int
    ) -> float | Float[Tensor, " frames"]:
        """Return the emotion's strength in each frame. It fades where a track turns to the portrait's own expression."""
        if not isinstance(conditions.emotion, EmotionTrack):
            return strength
        own = [index for index, key in enumerate(conditions.emotion.keys) if key.source is None]
        if not own:
            return strength
        share = conditions.emotion.weights(num_frames)[frames.start : frames.stop, own].sum(1)
        return (strength * (1 - share)).to(self.device)

    def _tone_of_voice(self, speech: Samples, frames: range, num_frames: int) -> Float[Tensor, "frames dim"]:
        """Estimate the speech's own emotion in windows; interpolate linearly between the windows' centres."""
        num_windows = max(1, round(num_frames / TONE_WINDOW_FRAMES))
        place = (torch.arange(frames.start, frames.stop) + 0.5) * num_windows / num_frames - 0.5
        place = place.clamp(0, num_windows - 1)
        left = place.floor().long()
        right = (left + 1).clamp(max=num_windows - 1)
        first, last = int(left[0]), int(right[-1])
        edges = [num_frames * i // num_windows * SAMPLES_PER_FRAME for i in range(first, last + 2)]
        windows = [speech[start:stop].to(self.device) for start, stop in zip(edges, edges[1:])]
        tones = torch.cat([self.emotion_mapping.speech(window[None]) for window in windows])
        share = (place - left)[:, None].to(tones)
        return tones[left - first] * (1 - share) + tones[right - first] * share

    def _predict(
        self,
        motion: MotionConditions,
        features: Float[Tensor, "frames dim_audio"],
        utterance: Float[Tensor, "frames dim"] | None,
        origin: int,
        strength: float | Float[Tensor, " frames"],
        x: Tensor,
        sigma: Tensor,
        ranges: Sequence[range],
    ) -> Tensor:
        """Estimate the clean expressions of several chunks. `features` and `utterance` begin at frame `origin`."""
        num, dicte = len(ranges), self.vaid.dicte
        utterance_or_own = motion.expression_reference.expand(len(features), -1) if utterance is None else utterance

        def stacked(rows: Tensor) -> Tensor:
            return torch.stack([rows[r.start - origin : r.stop - origin] for r in ranges])

        conditions = DiCTEConditions(
            audio_features=stacked(features),
            identity=motion.identity.expand(num, -1),
            expression_reference=motion.expression_reference.expand(num, -1),
            utterance=stacked(utterance_or_own),
            has_utterance=torch.full((num,), utterance is not None, device=x.device),
        )

        def evaluate(conditions: DiCTEConditions) -> Tensor:
            return denoise(lambda scaled, timestep: dicte(scaled, timestep, conditions), x, sigma.expand(num))

        if utterance is None:
            return evaluate(conditions)
        if self.guidance_below is None or float(sigma) <= self.guidance_below:
            strength = strength * self.guidance
        if isinstance(strength, Tensor):
            unconditional, conditional = evaluate(conditions.unconditional()), evaluate(conditions)
            return unconditional + stacked(strength[:, None]) * (conditional - unconditional)
        return guide(partial(evaluate, conditions.unconditional()), partial(evaluate, conditions), strength)


def _back_and_forth(video: Float[Tensor, "video_frames dim"], frames: range) -> Float[Tensor, "frames dim"]:
    """Repeat a video's expressions for these frames: forwards and backwards if it is too short."""
    index = torch.arange(frames.start, frames.stop, device=video.device) % max(1, 2 * len(video) - 2)
    return video[torch.where(index < len(video), index, 2 * len(video) - 2 - index)]
