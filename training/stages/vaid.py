"""Stage 1: V-AID. The audio-lip projector and Di-CTE, guided by what the frozen encoders see (Figure 2a).

Pull: `lip_audio` to `lip_visual`, and Di-CTE's denoised sequence to `expression_visual`. Push: `lip_audio` and
`expression_audio` apart. The portrait comes from another clip of the same person, mostly in another emotion: taken from
the same clip, it would give the answer away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
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
from emotivetalk.training.checkpoints.initial_weights import begin_from
from emotivetalk.training.data import augmented_features as hearing
from emotivetalk.training.data.ground_truth import true_lips
from emotivetalk.training.data.latents import MotionLatents, motion_latents
from emotivetalk.training.data.modelled_latents import Motion, training_latents
from emotivetalk.training.data.prototypes import emotion_levels
from emotivetalk.training.stages.contrastive import pull, push
from emotivetalk.training.stages.stage import Stage, StageConfig, StepLoss
from emotivetalk.training.stages.validation import lips_heard


class VAIDConfig(StageConfig):
    """The `stage:` section.

    checkpoint: the folder with the frozen audio, lip and expression encoders.
    initial: a checkpoint folder whose V-AID training begins from, rather than from random weights.
    motion: what is seen in every frame of the training clips, or what is modelled from a few (`training/data/modelled_latents.py`).
    window: of the lips' InfoNCE, in frames. feature_dropout: of the audio features that the projector is given.
    own, prototype, somebody: shares of samples whose condition is the portrait's own expression (the switch off), a
        class prototype, one frame of somebody else; the rest take the mean of another clip.
    """

    corpus: Path
    checkpoint: Path
    cache: Path
    initial: Path | None = None
    dim: int = 128
    num_blocks: int = 4
    num_heads: int = 4
    sigma_mean: float = -0.3
    sigma_std: float = 1.2
    motion: Motion = "seen"
    window: int = Field(default=1, ge=1)
    feature_dropout: float = Field(default=0.0, ge=0, lt=1)
    match_weight: float = 4.0
    push_weight: float = 0.1
    own: float = 0.25
    prototype: float = 0.30
    somebody: float = 0.25
    prototype_noise: float = 0.15
    validation_clips: int = 64


@dataclass(frozen=True)
class VAIDBatch:
    """Clips of equal length with what vision says of them, and how Di-CTE's targets are noised."""

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

    def forward(self, batch: VAIDBatch) -> StepLoss:
        heard = F.dropout(batch.audio_features, self.config.feature_dropout, self.training)
        lip_audio = self.vaid.projector(heard).float()
        contrast, match = pull(lip_audio, batch.lip_visual, self.config.window)

        target = batch.expression_visual
        x = noisy(target, batch.noise, batch.sigma)
        conditions = self.conditions(batch)
        v = predict_v(lambda scaled, timestep: self.vaid.dicte(scaled, timestep, conditions), x, batch.sigma).float()
        denoising = denoising_loss(v, v_target(target, batch.noise, batch.sigma), torch.ones_like(batch.sigma))
        apart = push(lip_audio, x0_from_v(x, v, batch.sigma))
        total = contrast + self.config.match_weight * match + denoising + self.config.push_weight * apart
        return StepLoss(total, {"lip_infonce": contrast, "lip_match": match, "expression": denoising, "push": apart})

    def conditions(self, batch: VAIDBatch) -> DiCTEConditions:
        return DiCTEConditions(
            audio_features=batch.audio_features,
            identity=self.vaid.dicte.identity_encoder(batch.reference_image),
            expression_reference=batch.expression_reference,
            utterance=batch.utterance,
            has_utterance=batch.has_utterance,
        )


class VAIDStage(Stage[VAIDBatch]):
    """Trains `VAID` on motion latents that were computed once."""

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
            begin_from(self.module.vaid, config.initial / "vaid")

    def batch(self, seeds: Sequence[int]) -> VAIDBatch:
        return self._batch(self.train_clips, [np.random.default_rng(seed) for seed in seeds], None)

    @torch.no_grad()
    def _batch(self, clips: _Clips, generators: list[np.random.Generator], index: list[int] | None) -> VAIDBatch:
        heard, rows = [], []
        for position, generator in enumerate(generators):
            clip = int(generator.integers(len(clips.corpus))) if index is None else index[position]
            waveform = torch.from_numpy(clips.corpus[clip].waveform)
            heard.append(hearing.prepared(self.audio_encoder, waveform, generator if index is None else None))
            rows.append(self._sample(clips, clip, generator))
        columns = [torch.stack(column) for column in zip(*rows, strict=True)]
        return VAIDBatch(hearing.features(self.audio_encoder, torch.stack(heard)), *columns)

    def _sample(self, clips: _Clips, clip: int, generator: np.random.Generator) -> tuple[Tensor, ...]:
        config, motion = self.config, clips.motion
        expression = motion.expression[clip]
        portrait, frame = clips.another(clip, generator), int(generator.integers(expression.shape[0]))
        image = draw_clip(clips.corpus[portrait], [frame], MOTION_SIZE).images[0] * 2 - 1
        draw = generator.random()
        utterance = clips.prototype_track(clip)
        if draw < config.own + config.prototype or clips.corpus[clip].changes_emotion:
            jitter = generator.standard_normal(expression.shape[1]).astype(np.float32)
            utterance = utterance + config.prototype_noise * torch.from_numpy(jitter)
        else:
            alike = clips.alike(clip, generator)
            if draw < config.own + config.prototype + config.somebody:
                one = motion.expression[alike, int(generator.integers(expression.shape[0]))]
            else:
                one = motion.expression[alike].mean(0)
            utterance = one.expand_as(expression)
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
        """The lips by a linear read-out trained on visual latents, where the truth is known; Di-CTE by sampling with emotions swapped by label.

        emotion_swap: the commanded emotion is the nearest class mean of the sampled clip's mean latents, 8-way;
        velocity, variance: of the sampled latents over the true ones', 1 is right.
        """
        if self._held_out is None:
            self._held_out = _Clips(self.config, "held_out", self.mapping)
        clips = self._held_out
        index = np.linspace(0, len(clips.corpus) - 1, self.config.validation_clips).astype(int).tolist()
        batch = self._batch(clips, [np.random.default_rng(i) for i in index], index)
        heard = module.vaid.projector(batch.audio_features)

        commanded = torch.arange(len(index)) % len(EMOTIONS)
        wanted = torch.stack([self.mapping.label(EMOTIONS[c], 1.0) for c in commanded])
        conditions = module.conditions(batch)
        swapped = DiCTEConditions(
            conditions.audio_features,
            conditions.identity,
            conditions.expression_reference,
            wanted[:, None].expand_as(batch.expression_visual),
            torch.ones_like(batch.has_utterance),
        )
        sigmas = sigma_schedule(svd_scheduler(0.05, 20.0), 12)
        x = sample(lambda s, t: module.vaid.dicte(s, t, swapped), batch.noise, sigmas)
        centers = self.mapping.prototypes[:, 1:].mean(1)
        nearest = torch.cdist(x.mean(1), self.mapping.prototypes[:, -1]).argmin(1)
        true = batch.expression_visual
        return {
            **lips_heard(heard, batch.lip_visual, true_lips(clips.corpus, index)),
            "emotion_swap": float((nearest == commanded).float().mean()),
            "velocity": float(x.diff(dim=1).std() / true.diff(dim=1).std()),
            "variance": float(x.std(1).mean() / true.std(1).mean()),
            "class_spread": float(centers.std(0).mean()),
        }

    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        """Nothing to look at before ETHD can draw it."""

    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Writes `vaid/`."""
        module.vaid.save_pretrained(checkpoint / "vaid")


class _Clips:
    """A split with its motion latents and the ways one clip finds others."""

    def __init__(self, config: VAIDConfig, split: str, mapping: EmotionMapping) -> None:
        self.corpus: Corpus = read_corpus(config.corpus, split)
        self.motion: MotionLatents = (
            training_latents(config.motion, config.corpus, config.checkpoint, config.cache)
            if split == "train"
            else motion_latents(config.corpus, split, config.checkpoint, config.cache)
        )
        self.mapping = mapping
        self.levels = emotion_levels(self.corpus)

    def another(self, clip: int, generator: np.random.Generator) -> int:
        """Another clip of the same person, in another emotion three times out of four."""
        same = [i for i in self.corpus.by_speaker[self.corpus[clip].speaker] if i != clip]
        other = [i for i in same if self.corpus[i].emotion != self.corpus[clip].emotion]
        pool = other if other and generator.random() < 0.75 else same
        return int(generator.choice(pool)) if pool else clip

    def alike(self, clip: int, generator: np.random.Generator) -> int:
        """A clip of the same emotion and intensity, mostly of somebody else."""
        return int(generator.choice(self.levels[self.corpus[clip].emotion, round(self.corpus[clip].intensity * 3)]))

    def prototype_track(self, clip: int) -> Float[Tensor, "frames dim_expression"]:
        """The prototype of each frame's emotion, cross-faded over about half a second where it changes."""
        record = self.corpus[clip]
        level = round(record.intensity * 3)
        track = self.mapping.prototypes[torch.from_numpy(record.emotion_per_frame.astype(np.int64)), level]
        if not record.changes_emotion:
            return track
        padded = F.pad(track.T[None], (6, 6), mode="replicate")
        return F.avg_pool1d(padded, 13, 1)[0].T
