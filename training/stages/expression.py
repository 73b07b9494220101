"""Stage 0, second half: the expression encoder, by emotion labels and by pairs of faces.

A pair shows the same expression and head pose on two people whose lips do different things. What its two pictures have
in common is what the latents keep: not who it is, and not what the lips say. Telling pairs apart needs no more than the
conspicuous: without being asked for, nods and the distance to the camera are not learned. So the parameters that the
faces were drawn with are read from the latents, linearly, too (ours).
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
from emotivetalk.corpus.parameters import EXPRESSION, POSE
from emotivetalk.corpus.photo_people import another
from emotivetalk.corpus.records import Clip, read_corpus
from emotivetalk.models.emotion import EMOTIONS
from emotivetalk.models.encoders import MOTION_SIZE, ExpressionEncoder
from emotivetalk.training.checkpoints.initial_weights import begin_from
from emotivetalk.training.data.augment import jitter_color
from emotivetalk.training.data.ground_truth import require_truth, statistics
from emotivetalk.training.stages.contrastive import infonce
from emotivetalk.training.stages.stage import Stage, StageConfig, StepLoss
from emotivetalk.training.stages.validation import correlations, ridge

_MOUTH_ROWS, _MOUTH_COLUMNS = slice(68, 112), slice(40, 88)
_SAVE_SEED = 77


class ExpressionConfig(StageConfig):
    """The `stage:` section.

    initial: a checkpoint folder whose encoder training begins from, rather than from random weights.
    frames_per_sample: of a clip, each with its pair.
    truth_weight: of the error, in standard deviations, with which the parameters of expression and pose are read.
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
    """Pairs of faces: `one[i]` and `other[i]` share expression and pose, whose parameters `truth` has, standardised."""

    one: Float[Tensor, "batch frames 3 size size"]
    other: Float[Tensor, "batch frames 3 size size"]
    emotion: Int[Tensor, "batch frames"]
    intensity: Float[Tensor, " batch"]
    truth: Float[Tensor, "batch frames parameters"]


class ExpressionLoss(nn.Module):
    """The encoder, three heads that only training needs, and the loss."""

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
        # A weak expression says little of its emotion, so it weighs less; neutral faces have no other intensity.
        weight = 0.3 + 0.7 * intensity + 0.5 * (emotion == 0)
        label = (F.cross_entropy(self.emotion(latents), emotion, reduction="none") * weight).sum() / weight.sum()
        strength = F.mse_loss(self.intensity(latents)[:, 0].float(), intensity)
        one, other = latents.float().chunk(2)
        pair, match = infonce(one, other), F.mse_loss(one, other)
        truth = F.mse_loss(self.truth(latents).float(), batch.truth.flatten(0, 1).repeat(2, 1))
        total = label + self.config.intensity_weight * strength + pair + self.config.match_weight * match
        total = total + self.config.truth_weight * truth
        return StepLoss(total, {"emotion": label, "intensity": strength, "pair": pair, "match": match, "truth": truth})


class ExpressionStage(Stage[ExpressionBatch]):
    """Trains `ExpressionEncoder`; at the end, `keep` narrows it to what pairs agree on."""

    name = "expression"
    config_class = ExpressionConfig

    def __init__(self, config: ExpressionConfig) -> None:
        self.config = config
        self.module = ExpressionLoss(config)
        if config.initial is not None:
            begin_from(self.module.encoder, config.initial / "expression_encoder")
        self.corpus = read_corpus(config.corpus, "train")
        require_truth(self.corpus, self.name, "learns from two people who do exactly the same, who have to be drawn")
        self._mean, self._std = statistics(self.corpus, _parameters)
        self._held_out: list[tuple[Clip, Tensor]] | None = None

    def batch(self, seeds: Sequence[int]) -> ExpressionBatch:
        rows = [self._sample(np.random.default_rng(seed)) for seed in seeds]
        return ExpressionBatch(*(torch.stack(column) for column in zip(*rows, strict=True)))

    def _sample(self, generator: np.random.Generator) -> tuple[Tensor, ...]:
        clip = self.corpus[int(generator.integers(len(self.corpus)))]
        index = generator.choice(clip.num_frames, self.config.frames_per_sample, replace=False)
        one = draw_clip(clip, index.tolist(), MOTION_SIZE).images * 2 - 1
        lip = sample_faces(len(index), generator).lip
        somebody = another(clip.identity_seed, generator)
        other = draw_clip(clip, index.tolist(), MOTION_SIZE, somebody, lip).images * 2 - 1
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
        """Emotion of a frame and of a clip (8-way), parameters read linearly (r), and how much of the jaw leaks in."""
        if self._held_out is None:
            corpus = read_corpus(self.config.corpus, "held_out")
            clips = [corpus[i] for i in np.linspace(0, len(corpus) - 1, self.config.validation_clips).astype(int)]
            self._held_out = [
                (clip, draw_clip(clip, range(0, clip.num_frames, 4), MOTION_SIZE).images * 2 - 1) for clip in clips
            ]
        held_out = self._held_out
        latents = torch.stack([module.encoder.hidden(images) for _, images in held_out])
        emotion = torch.tensor([clip.emotion for clip, _ in held_out])
        logits = module.emotion(latents)
        half = len(latents) // 2

        def tracks(name: str) -> Tensor:
            return torch.stack([torch.from_numpy(getattr(clip, name)[::4]) for clip, _ in held_out])

        def read(name: str) -> list[float]:
            truth = tracks(name)
            readout = ridge(latents[:half].flatten(0, 1), truth[:half].flatten(0, 1))
            return correlations(readout(latents[half:].flatten(0, 1)), truth[half:].flatten(0, 1))

        face, pose, lip = read("expression"), read("pose"), read("lip")
        return {
            "emotion_frame": float((logits.argmax(-1) == emotion[:, None]).float().mean()),
            "emotion_clip": float((logits.mean(1).argmax(-1) == emotion).float().mean()),
            "brow_in": face[0],
            "blink": face[5],
            "smile": face[6],
            "gaze_x": face[10],
            "roll": pose[2],
            "yaw": pose[4],
            "pitch": pose[5],
            "up": pose[1],
            "scale": pose[3],
            "jaw_leak": lip[0],
        }

    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        """Nothing to look at: the latents show in what the later stages draw."""

    @torch.no_grad()
    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Narrows the latents to the directions that pairs agree on, and writes `expression_encoder/`."""
        seeds = np.random.default_rng(_SAVE_SEED).integers(2**62, size=(40, 16))
        ones, others = [], []
        for row in seeds:
            batch = self.batch(row.tolist())
            ones.append(module.encoder.hidden(batch.one.flatten(0, 1)))
            others.append(module.encoder.hidden(batch.other.flatten(0, 1)))
        module.encoder.keep(torch.cat(ones), torch.cat(others))
        module.encoder.save_pretrained(checkpoint / "expression_encoder")


def _parameters(clip: Clip) -> Float[np.ndarray, "frames 18"]:
    """Of a drawn clip: expression, then pose."""
    return np.concatenate([clip.expression, clip.pose], 1)
