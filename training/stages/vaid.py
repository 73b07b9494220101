"""Stage 1: training of V-AID, the audio-lip projector and Di-CTE, guided by the frozen visual encoders (Figure 2a).

Pull: `lip_audio` to `lip_visual`, and Di-CTE's denoised sequence to `expression_visual`. Push: `lip_audio` and
`expression_audio` apart. The portrait is a frame of another clip of the same person, mostly in another emotion; from the
same clip, it would reveal the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from emotivetalk.corpus.drawing import draw_clip
from emotivetalk.corpus.records import Corpus, read_corpus
from emotivetalk.models.dicte import DiCTEConditions
from emotivetalk.models.diffusion import (
    denoising_loss,
    noisy,
    predict_v,
    sample,
    sigma_schedule,
    svd_scheduler,
    v_target,
    x0_from_v,
)
from emotivetalk.models.emotion import EMOTIONS, EmotionMapping
from emotivetalk.models.encoders import MOTION_SIZE
from emotivetalk.models.vaid import VAID
from emotivetalk.training.checkpoints.frozen_networks import frozen
from emotivetalk.training.checkpoints.initial_weights import load_initial_weights
from emotivetalk.training.data.augmented_features import encode_inputs, encoder_input
from emotivetalk.training.data.ground_truth import true_lips
from emotivetalk.training.data.latents import MotionLatents, motion_latents
from emotivetalk.training.data.modelled_latents import LatentSource, training_latents
from emotivetalk.training.data.portraits import PortraitClips
from emotivetalk.training.data.prototypes import emotion_levels, intensity_level
from emotivetalk.training.stages.contrastive import pull, push
from emotivetalk.training.stages.stage import Stage, StageConfig, StepLoss
from emotivetalk.training.stages.validation import lip_metrics

_VALIDATION_SIGMAS, _VALIDATION_STEPS = (0.05, 20.0), 12
_FADE_FRAMES = 13
"""Frames over which the prototypes of a clip whose emotion changes are cross-faded: about half a second."""


class VAIDConfig(StageConfig):
    """The `stage:` section of the YAML.

    Args:
        corpus: folder of the corpus.
        checkpoint: folder with the frozen audio, lip and expression encoders.
        cache: folder for cached latents.
        initial: checkpoint folder with the V-AID that training starts from (null: random weights).
        train_projector: false trains Di-CTE only and keeps the projector of `initial`.
        dim, num_blocks, num_heads: see `emotivetalk.models.vaid.VAID`.
        sigma_mean, sigma_std: mean and deviation of the noise level's logarithm.
        motion: source of the motion latents (`emotivetalk.training.data.modelled_latents.LatentSource`).
        window: frames per window in the lips' InfoNCE.
        feature_dropout: dropout rate of the audio features that the projector reads.
        match_weight, push_weight: weights of the lips' mean squared error and of the push loss.
        own, prototype, somebody: shares of samples whose condition is the portrait's own expression (switch off), a
            prototype, or one frame of a similar clip; the rest use the mean of a similar clip.
        prototype_noise: deviation of noise on prototypes.
        validation_clips: number of held-out clips.
    """

    corpus: Path
    checkpoint: Path
    cache: Path
    initial: Path | None = None
    train_projector: bool = True
    dim: int = 128
    num_blocks: int = 4
    num_heads: int = 4
    sigma_mean: float = -0.3
    sigma_std: float = 1.2
    motion: LatentSource = "seen"
    window: int = Field(default=1, ge=1)
    feature_dropout: float = Field(default=0.0, ge=0, lt=1)
    match_weight: float = 4.0
    push_weight: float = 0.1
    own: float = 0.25
    prototype: float = 0.30
    somebody: float = 0.25
    prototype_noise: float = 0.15
    validation_clips: int = 64

    @model_validator(mode="after")
    def _check_projector(self) -> Self:
        if not self.train_projector and self.initial is None:
            raise ValueError("train_projector is false: initial must name the checkpoint whose projector is kept")
        return self


@dataclass(frozen=True)
class VAIDBatch:
    """Clips of equal length: audio features, the latents of the visual encoders, and Di-CTE's conditions and noise."""

    audio_features: Float[Tensor, "batch frames dim_audio"]
    lip_visual: Float[Tensor, "batch frames dim_lip"]
    expression_visual: Float[Tensor, "batch frames dim_expression"]
    reference_image: Float[Tensor, "batch 3 size size"]
    expression_reference: Float[Tensor, "batch dim_expression"]
    utterance: Float[Tensor, "batch frames dim_expression"]
    has_utterance: Bool[Tensor, " batch"]
    sigma: Float[Tensor, " batch"]
    noise: Float[Tensor, "batch frames dim_expression"]


class VAIDLoss(nn.Module):
    """V-AID and its pull and push losses."""

    def __init__(self, config: VAIDConfig, dim_audio: int, dim_lip: int, dim_expression: int) -> None:
        super().__init__()
        self.config = config
        self.vaid = VAID(dim_audio, dim_lip, dim_expression, config.dim, config.num_blocks, config.num_heads)
        self.vaid.projector.requires_grad_(config.train_projector)

    def forward(self, batch: VAIDBatch) -> StepLoss:
        features = F.dropout(batch.audio_features, self.config.feature_dropout, self.training)
        lip_audio = self.vaid.projector(features).float()
        contrast, match = pull(lip_audio, batch.lip_visual, self.config.window)

        target = batch.expression_visual
        x = noisy(target, batch.noise, batch.sigma)
        conditions = self.conditions(batch)
        v = predict_v(lambda scaled, timestep: self.vaid.dicte(scaled, timestep, conditions), x, batch.sigma).float()
        denoising = denoising_loss(v, v_target(target, batch.noise, batch.sigma), torch.ones_like(batch.sigma))
        expression_audio = x0_from_v(x, v, batch.sigma)
        correlation = push(lip_audio, expression_audio)
        total = contrast + self.config.match_weight * match + denoising + self.config.push_weight * correlation
        terms = {"lip_infonce": contrast, "lip_match": match, "expression": denoising, "push": correlation}
        return StepLoss(total, terms)

    def conditions(self, batch: VAIDBatch) -> DiCTEConditions:
        return DiCTEConditions(
            audio_features=batch.audio_features,
            identity=self.vaid.dicte.identity_encoder(batch.reference_image),
            expression_reference=batch.expression_reference,
            utterance=batch.utterance,
            has_utterance=batch.has_utterance,
        )


class VAIDStage(Stage[VAIDBatch]):
    """Training of `VAID` on cached motion latents."""

    name = "vaid"
    config_class = VAIDConfig

    def __init__(self, config: VAIDConfig) -> None:
        self.config = config
        self.audio_encoder = frozen(config.checkpoint, "audio_encoder")
        self.mapping = frozen(config.checkpoint, "emotion_mapping")
        self.train_clips = _Clips(config, "train", self.mapping)
        self._held_out: _Clips | None = None
        dims = self.train_clips.motion
        self.module = VAIDLoss(config, self.audio_encoder.dim, dims.lip.shape[-1], dims.expression.shape[-1])
        if config.initial is not None:
            load_initial_weights(self.module.vaid, config.initial / "vaid")

    def batch(self, seeds: Sequence[int]) -> VAIDBatch:
        return self._batch(self.train_clips, [np.random.default_rng(seed) for seed in seeds], None)

    @torch.no_grad()
    def _batch(self, clips: _Clips, generators: list[np.random.Generator], index: list[int] | None) -> VAIDBatch:
        """Make a batch of random clips with augmented speech, or of the clips `index` with their own speech."""
        inputs, rows = [], []
        for position, generator in enumerate(generators):
            clip = int(generator.integers(len(clips.corpus))) if index is None else index[position]
            waveform = torch.from_numpy(clips.corpus[clip].waveform)
            inputs.append(encoder_input(self.audio_encoder, waveform, generator if index is None else None))
            rows.append(self._sample(clips, clip, generator))
        columns = [torch.stack(column) for column in zip(*rows, strict=True)]
        return VAIDBatch(encode_inputs(self.audio_encoder, torch.stack(inputs)), *columns)

    def _sample(self, clips: _Clips, clip: int, generator: np.random.Generator) -> tuple[Tensor, ...]:
        config, motion = self.config, clips.motion
        expression = motion.expression[clip]
        portrait = clips.portraits.choose_other(clip, generator)
        frame = int(generator.integers(expression.shape[0]))
        image = draw_clip(clips.corpus[portrait], [frame], MOTION_SIZE).images[0] * 2 - 1
        draw = generator.random()
        utterance = clips.prototype_track(clip)
        if draw < config.own + config.prototype or clips.corpus[clip].changes_emotion:
            jitter = generator.standard_normal(expression.shape[1]).astype(np.float32)
            utterance = utterance + config.prototype_noise * torch.from_numpy(jitter)
        else:
            similar = motion.expression[clips.choose_similar(clip, generator)]
            if draw < config.own + config.prototype + config.somebody:
                condition = similar[int(generator.integers(expression.shape[0]))]
            else:
                condition = similar.mean(0)
            utterance = condition.expand_as(expression)
        sigma = float(np.exp(config.sigma_mean + config.sigma_std * generator.standard_normal()))
        noise = torch.from_numpy(generator.standard_normal(tuple(expression.shape), np.float32))
        return (
            motion.lip[clip],
            expression,
            image,
            motion.expression[portrait, frame],
            utterance,
            torch.tensor(bool(draw >= config.own)),
            torch.tensor(sigma),
            noise,
        )

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """Measure the lips by `lip_metrics`, and Di-CTE on sequences sampled for other emotions than the clips' own.

        emotion_swap: share of sampled clips whose mean is nearest to the prototype of the requested emotion.
        velocity, variance: ratio of the sampled latents' to the true ones'; 1 is right.
        class_spread: deviation of the prototypes between emotions.
        """
        if self._held_out is None:
            self._held_out = _Clips(self.config, "held_out", self.mapping)
        clips = self._held_out
        index = np.linspace(0, len(clips.corpus) - 1, self.config.validation_clips).astype(int).tolist()
        batch = self._batch(clips, [np.random.default_rng(i) for i in index], index)
        lip_audio = module.vaid.projector(batch.audio_features)

        requested = torch.arange(len(index)) % len(EMOTIONS)
        labels = torch.stack([self.mapping.label(EMOTIONS[emotion], 1.0) for emotion in requested])
        swapped = replace(
            module.conditions(batch),
            utterance=labels[:, None].expand_as(batch.expression_visual),
            has_utterance=torch.ones_like(batch.has_utterance),
        )
        sigmas = sigma_schedule(svd_scheduler(*_VALIDATION_SIGMAS), _VALIDATION_STEPS)
        sampled = sample(lambda x, timestep: module.vaid.dicte(x, timestep, swapped), batch.noise, sigmas)
        centers = self.mapping.prototypes[:, 1:].mean(1)
        nearest = torch.cdist(sampled.mean(1), self.mapping.prototypes[:, -1]).argmin(1)
        true = batch.expression_visual
        return {
            **lip_metrics(lip_audio, batch.lip_visual, true_lips(clips.corpus, index)),
            "emotion_swap": float((nearest == requested).float().mean()),
            "velocity": float(sampled.diff(dim=1).std() / true.diff(dim=1).std()),
            "variance": float(sampled.std(1).mean() / true.std(1).mean()),
            "class_spread": float(centers.std(0).mean()),
        }

    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write nothing: motion becomes visible through ETHD only."""

    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Write `vaid/`."""
        module.vaid.save_pretrained(checkpoint / "vaid")


class _Clips:
    """Clips of a split with their motion latents, and the choice of related clips."""

    def __init__(self, config: VAIDConfig, split: str, mapping: EmotionMapping) -> None:
        self.corpus: Corpus = read_corpus(config.corpus, split)
        self.motion: MotionLatents = (
            training_latents(config.motion, config.corpus, config.checkpoint, config.cache)
            if split == "train"
            else motion_latents(config.corpus, split, config.checkpoint, config.cache)
        )
        self.mapping = mapping
        self.portraits = PortraitClips(self.corpus)
        self.levels = emotion_levels(self.corpus)

    def choose_similar(self, clip: int, generator: np.random.Generator) -> int:
        """Choose a clip of the same emotion and intensity, of any person."""
        record = self.corpus[clip]
        return int(generator.choice(self.levels[record.emotion, intensity_level(record.intensity)]))

    def prototype_track(self, clip: int) -> Float[Tensor, "frames dim_expression"]:
        """Return the prototype of each frame's emotion, cross-faded over `_FADE_FRAMES` where the emotion changes."""
        record = self.corpus[clip]
        emotion = torch.from_numpy(record.emotion_per_frame.astype(np.int64))
        track = self.mapping.prototypes[emotion, intensity_level(record.intensity)]
        if not record.changes_emotion:
            return track
        padded = F.pad(track.T[None], (_FADE_FRAMES // 2, _FADE_FRAMES // 2), mode="replicate")
        return F.avg_pool1d(padded, _FADE_FRAMES, 1)[0].T
