"""Stage 0, second part: training of the expression encoder by emotion labels and by pairs of faces.

A pair shows the same expression and head pose on two people whose lips move differently. The latents keep what the two
pictures have in common, and so neither identity nor lip motion. Conspicuous features suffice to distinguish pairs, so nods
and the distance to the camera would not be learned. Therefore the loss also predicts the parameters that the faces were
drawn with, linearly from the latents (ours).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from emotivetalk.corpus.drawing import draw_clip
from emotivetalk.corpus.faces import sample_faces
from emotivetalk.corpus.parameters import EXPRESSION, LIP, POSE
from emotivetalk.corpus.photo_people import sample_identity_like
from emotivetalk.corpus.records import Clip, read_corpus
from emotivetalk.models.emotion import EMOTIONS, NEUTRAL
from emotivetalk.models.encoders import MOTION_SIZE, ExpressionEncoder
from emotivetalk.training.checkpoints.initial_weights import load_initial_weights
from emotivetalk.training.data.augment import jitter_color
from emotivetalk.training.data.ground_truth import parameter_statistics, require_truth
from emotivetalk.training.stages.contrastive import infonce
from emotivetalk.training.stages.stage import Stage, StageConfig, StepLoss
from emotivetalk.training.stages.validation import correlations, ridge

_MOUTH_ROWS, _MOUTH_COLUMNS = slice(68, 112), slice(40, 88)
"""The mouth in pictures of side `MOTION_SIZE`."""
_NARROWING_SEED, _NARROWING_BATCHES = 77, (40, 16)
_VALIDATION_STRIDE = 4
_REPORTED_EXPRESSIONS = ("brow_in", "blink", "smile", "gaze_x")
_REPORTED_POSES = {"roll": "rot", "yaw": "yaw", "pitch": "pitch", "up": "ty", "scale": "scale"}
"""Names of metrics and of the pose parameters they measure."""


class ExpressionConfig(StageConfig):
    """The `stage:` section of the YAML.

    Args:
        corpus: folder of a synthetic corpus.
        initial: checkpoint folder with the encoder that training starts from (null: random weights).
        dim_expression, hidden_dim, channels: see `ExpressionEncoder`.
        frames_per_sample: frames of a clip in a sample, each with its pair.
        mouth_hidden_share: share of pictures whose mouth is replaced by its mean colour.
        intensity_weight: weight of the squared error of the emotion's intensity.
        match_weight: weight of the squared distance between the latents of a pair.
        truth_weight: weight of the squared error, in standard deviations, of predicted expression and pose parameters.
        validation_clips: number of held-out clips.
    """

    corpus: Path
    initial: Path | None = None
    dim_expression: int = 20
    hidden_dim: int = 32
    channels: tuple[int, int, int] = (48, 72, 96)
    frames_per_sample: int = 3
    mouth_hidden_share: float = 0.3
    intensity_weight: float = 2.0
    match_weight: float = 0.5
    truth_weight: float = 3.0
    validation_clips: int = 48


@dataclass(frozen=True)
class ExpressionBatch:
    """Pairs of faces: `one[i]` and `other[i]` share expression and pose; `truth` has their standardised parameters."""

    one: Float[Tensor, "batch frames 3 size size"]
    other: Float[Tensor, "batch frames 3 size size"]
    emotion: Int[Tensor, "batch frames"]
    intensity: Float[Tensor, " batch"]
    truth: Float[Tensor, "batch frames parameters"]


class ExpressionLoss(nn.Module):
    """The encoder, three linear heads for training only, and the loss."""

    def __init__(self, config: ExpressionConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ExpressionEncoder(config.dim_expression, config.hidden_dim, config.channels)
        self.encoder.to(memory_format=torch.channels_last)
        self.emotion = nn.Linear(config.hidden_dim, len(EMOTIONS))
        self.intensity = nn.Linear(config.hidden_dim, 1)
        self.truth = nn.Linear(config.hidden_dim, len(EXPRESSION) + len(POSE))

    def forward(self, batch: ExpressionBatch) -> StepLoss:
        images = torch.cat([batch.one, batch.other]).flatten(0, 1)
        latents = self.encoder.hidden(images.contiguous(memory_format=torch.channels_last))
        emotion = batch.emotion.flatten().repeat(2)
        intensity = batch.intensity.repeat_interleave(batch.emotion.shape[1]).repeat(2)
        # A weak expression says little about its emotion, so it weighs less. Neutral faces have no intensity of their own.
        weight = 0.3 + 0.7 * intensity + 0.5 * (emotion == NEUTRAL)
        label = (F.cross_entropy(self.emotion(latents), emotion, reduction="none") * weight).sum() / weight.sum()
        strength = F.mse_loss(self.intensity(latents)[:, 0].float(), intensity)
        one, other = latents.float().chunk(2)
        pair, match = infonce(one, other), F.mse_loss(one, other)
        truth = F.mse_loss(self.truth(latents).float(), batch.truth.flatten(0, 1).repeat(2, 1))
        total = label + self.config.intensity_weight * strength + pair + self.config.match_weight * match
        total = total + self.config.truth_weight * truth
        return StepLoss(total, {"emotion": label, "intensity": strength, "pair": pair, "match": match, "truth": truth})


class ExpressionStage(Stage[ExpressionBatch]):
    """Training of `ExpressionEncoder`; saving narrows it to the directions on which pairs agree."""

    name = "expression"
    config_class = ExpressionConfig

    def __init__(self, config: ExpressionConfig) -> None:
        self.config = config
        self.module = ExpressionLoss(config)
        if config.initial is not None:
            load_initial_weights(self.module.encoder, config.initial / "expression_encoder")
        self.corpus = read_corpus(config.corpus, "train")
        require_truth(
            self.corpus, self.name, "learns from pairs of people with the same motion, which have to be drawn"
        )
        self._mean, self._std = parameter_statistics(self.corpus, _parameters)
        self._held_out: list[tuple[Clip, Tensor]] | None = None

    def batch(self, seeds: Sequence[int]) -> ExpressionBatch:
        rows = [self._sample(np.random.default_rng(seed)) for seed in seeds]
        return ExpressionBatch(*(torch.stack(column) for column in zip(*rows, strict=True)))

    def _sample(self, generator: np.random.Generator) -> tuple[Tensor, ...]:
        clip = self.corpus[int(generator.integers(len(self.corpus)))]
        index = generator.choice(clip.num_frames, self.config.frames_per_sample, replace=False)
        one = draw_clip(clip, index.tolist(), MOTION_SIZE).images * 2 - 1
        lip = sample_faces(len(index), generator).lip
        identity = sample_identity_like(clip.identity_seed, generator)
        other = draw_clip(clip, index.tolist(), MOTION_SIZE, identity, lip).images * 2 - 1
        emotion = torch.from_numpy(clip.emotion_per_frame[index].astype(np.int64))
        truth = torch.from_numpy(((_parameters(clip)[index] - self._mean) / self._std).astype(np.float32))
        one, other = self._augment(one, generator), self._augment(other, generator)
        return one, other, emotion, torch.tensor(clip.intensity), truth

    def _augment(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        images = jitter_color(images, generator)
        for frame in images:
            if generator.random() < self.config.mouth_hidden_share:
                mouth = frame[:, _MOUTH_ROWS, _MOUTH_COLUMNS]
                mouth.copy_(mouth.mean((1, 2), keepdim=True).expand_as(mouth))
        return images

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """Measure the encoder on held-out clips.

        emotion_frame, emotion_clip: share of correct emotions, by frame and by clip.
        jaw_leak: r of the jaw's opening, which should be low. All others: r of parameters predicted linearly from latents.
        """
        stride = _VALIDATION_STRIDE
        if self._held_out is None:
            corpus = read_corpus(self.config.corpus, "held_out")
            clips = [corpus[i] for i in np.linspace(0, len(corpus) - 1, self.config.validation_clips).astype(int)]
            self._held_out = [
                (clip, draw_clip(clip, range(0, clip.num_frames, stride), MOTION_SIZE).images * 2 - 1) for clip in clips
            ]
        held_out = self._held_out
        latents = torch.stack([module.encoder.hidden(images) for _, images in held_out])
        emotion = torch.tensor([clip.emotion for clip, _ in held_out])
        logits = module.emotion(latents)
        half = len(latents) // 2

        def correlate(names: Sequence[str], tracks: list[np.ndarray]) -> dict[str, float]:
            truth = torch.stack([torch.from_numpy(track[::stride]) for track in tracks])
            readout = ridge(latents[:half].flatten(0, 1), truth[:half].flatten(0, 1))
            r = correlations(readout(latents[half:].flatten(0, 1)), truth[half:].flatten(0, 1))
            return dict(zip(names, r, strict=True))

        expression = correlate(EXPRESSION, [clip.expression for clip, _ in held_out])
        pose = correlate(POSE, [clip.pose for clip, _ in held_out])
        lip = correlate(LIP, [clip.lip for clip, _ in held_out])
        return {
            "emotion_frame": float((logits.argmax(-1) == emotion[:, None]).float().mean()),
            "emotion_clip": float((logits.mean(1).argmax(-1) == emotion).float().mean()),
            **{name: expression[name] for name in _REPORTED_EXPRESSIONS},
            **{metric: pose[name] for metric, name in _REPORTED_POSES.items()},
            "jaw_leak": lip["jaw"],
        }

    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write nothing: this stage makes no pictures."""

    @torch.no_grad()
    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Narrow the latents to the directions on which pairs agree, and write `expression_encoder/`."""
        seeds = np.random.default_rng(_NARROWING_SEED).integers(2**62, size=_NARROWING_BATCHES)
        ones, others = [], []
        for row in seeds:
            batch = self.batch(row.tolist())
            ones.append(module.encoder.hidden(batch.one.flatten(0, 1)))
            others.append(module.encoder.hidden(batch.other.flatten(0, 1)))
        module.encoder.keep_shared_directions(torch.cat(ones), torch.cat(others))
        module.encoder.save_pretrained(checkpoint / "expression_encoder")


def _parameters(clip: Clip) -> Float[np.ndarray, "frames 18"]:
    """Concatenate the expression and pose parameters of a clip."""
    return np.concatenate([clip.expression, clip.pose], 1)
