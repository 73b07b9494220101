"""The reader that evaluation measures with: frames of random people to the parameters that drew them.

Half of the faces come from the corpus, on somebody else's face, and half are random (`corpus.faces`). All are spoilt a
little, as autoencoders and codecs spoil pictures, so that the reader serves for generated frames as for true ones.
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

from corpus.avatar import Identity
from corpus.drawing import draw_clip
from corpus.faces import sample_faces
from corpus.parameters import EXPRESSION, LIP
from corpus.records import Clip, read_corpus
from corpus.renderer import render
from corpus.synthesize import FIRST_HELD_OUT_IDENTITY
from evaluation.reader import Reader, mouth_opening
from models.encoders import MOTION_SIZE
from training.augment import jitter_color
from training.measure import correlations
from training.spoil import spoil
from training.stage import Stage, StageConfig, StepLoss
from training.truth import require_truth

NO_EMOTION = -100
"""The emotion of a random face: cross-entropy leaves it out."""

_UNITS_SEED, _UNITS_FACES = 5, 2048
_SMILE, _BLINK = EXPRESSION.index("smile"), EXPRESSION.index("blink")


class ReaderConfig(StageConfig):
    """The `stage:` section. corpus_share: of the samples, the others are random faces."""

    corpus: Path
    channels: tuple[int, int, int] = (48, 96, 128)
    hidden_dim: int = 256
    corpus_share: float = 0.6
    opening_weight: float = 4.0
    emotion_weight: float = 0.3
    validation_clips: int = 32


@dataclass(frozen=True)
class ReaderBatch:
    """Spoilt pictures, and the lip, expression and pose that drew them in one row."""

    images: Float[Tensor, "batch 3 size size"]
    parameters: Float[Tensor, "batch 24"]
    emotion: Int[Tensor, " batch"]
    intensity: Float[Tensor, " batch"]


class ReaderLoss(nn.Module):
    """Squared errors of all parameters in units of their spread, of the mouth's opening, and emotion's cross-entropy."""

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        self.config = config
        self.reader = Reader(config.channels, config.hidden_dim)
        self.reader.to(memory_format=torch.channels_last)
        faces = sample_faces(_UNITS_FACES, np.random.default_rng(_UNITS_SEED))
        self.reader.set_units(torch.cat([faces.lip, faces.expression, faces.pose], 1))

    def forward(self, batch: ReaderBatch) -> StepLoss:
        read = self.reader(batch.images.contiguous(memory_format=torch.channels_last))
        error = (torch.cat([read.lip, read.expression, read.pose], 1) - batch.parameters) / self.reader.spread
        parameters = error.square().mean()
        opening = F.mse_loss(read.opening, mouth_opening(batch.parameters[:, : len(LIP)]))
        # Weak expressions say little of their emotion.
        weight = (0.3 + 0.7 * batch.intensity) * (batch.emotion != NO_EMOTION)
        wrong = F.cross_entropy(read.emotion, batch.emotion, reduction="none", ignore_index=NO_EMOTION)
        emotion = (wrong * weight).sum() / weight.sum().clamp(min=1)
        total = parameters + self.config.opening_weight * opening + self.config.emotion_weight * emotion
        return StepLoss(total, {"parameters": parameters, "opening": opening, "emotion": emotion})


class ReaderStage(Stage[ReaderBatch]):
    """Trains `Reader`; every sample is a new person, below the identities that are held out."""

    name = "reader"
    config_class = ReaderConfig

    def __init__(self, config: ReaderConfig) -> None:
        self.config = config
        self.module = ReaderLoss(config)
        self.corpus = read_corpus(config.corpus, "train")
        require_truth(self.corpus, self.name, "learns the true motion of lips, face and head, which nobody knows there")
        self._held_out: list[tuple[Clip, Tensor]] | None = None

    def batch(self, seeds: Sequence[int]) -> ReaderBatch:
        generators = [np.random.default_rng(seed) for seed in seeds]
        faces = [self._face(generator) for generator in generators]
        people = Identity.concatenate(
            [Identity.sample(1, int(g.integers(FIRST_HELD_OUT_IDENTITY))) for g in generators]
        )
        lip, expression, pose = (torch.stack([face[i] for face in faces]) for i in range(3))
        images = render(people, lip, expression, pose, MOTION_SIZE).images * 2 - 1
        spoilt = [spoil(jitter_color(i[None], g), g)[0] for i, g in zip(images, generators, strict=True)]
        return ReaderBatch(
            torch.stack(spoilt),
            torch.cat([lip, expression, pose], 1),
            torch.tensor([face[3] for face in faces]),
            torch.tensor([face[4] for face in faces]),
        )

    def _face(self, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, int, float]:
        if generator.random() >= self.config.corpus_share:
            faces = sample_faces(1, generator)
            return faces.lip[0], faces.expression[0], faces.pose[0], NO_EMOTION, 0.0
        clip = self.corpus[int(generator.integers(len(self.corpus)))]
        frame = int(generator.integers(clip.num_frames))
        lip, expression, pose = (torch.from_numpy(t[frame].copy()) for t in (clip.lip, clip.expression, clip.pose))
        return lip, expression, pose, int(clip.emotion_per_frame[frame]), clip.intensity

    def validate(self, module: nn.Module) -> dict[str, float]:
        """On true frames of held-out people: r of single parameters, and the emotion of frames and clips (8-way)."""
        if self._held_out is None:
            corpus = read_corpus(self.config.corpus, "held_out")
            # An odd stride: identities have eight clips, one of each emotion.
            stride = max(1, len(corpus) // self.config.validation_clips) | 1
            clips = [corpus[i * stride % len(corpus)] for i in range(self.config.validation_clips)]
            self._held_out = [
                (clip, draw_clip(clip, range(0, clip.num_frames, 2), MOTION_SIZE).images) for clip in clips
            ]
        readings = [module.reader(images * 2 - 1) for _, images in self._held_out]
        truth = [[torch.from_numpy(t[::2].copy()) for t in (c.lip, c.expression, c.pose)] for c, _ in self._held_out]
        lip, face, pose = (torch.cat([clip[i] for clip in truth]) for i in range(3))
        lips = correlations(torch.cat([r.lip for r in readings]), lip)
        faces = correlations(torch.cat([r.expression for r in readings]), face)
        poses = correlations(torch.cat([r.pose for r in readings]), pose)
        opening = torch.cat([r.opening for r in readings])[:, None]
        emotion = torch.tensor([clip.emotion for clip, _ in self._held_out])
        logits = torch.stack([r.emotion for r in readings])
        return {
            "opening": correlations(opening, mouth_opening(lip)[:, None])[0],
            **dict(zip(LIP, lips, strict=True)),
            "smile": faces[_SMILE],
            "blink": faces[_BLINK],
            "brow_in": faces[0],
            "gaze_x": faces[10],
            "yaw": poses[4],
            "emotion_frame": float((logits.argmax(-1) == emotion[:, None]).float().mean()),
            "emotion_clip": float((logits.mean(1).argmax(-1) == emotion).float().mean()),
        }

    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        """Nothing to look at: the reader gives numbers."""

    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Writes the reader into the folder itself, in half precision: it is no part of the pipeline."""
        module.reader.half().save_pretrained(checkpoint)
        module.reader.float()
