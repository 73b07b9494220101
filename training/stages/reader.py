"""The reader that evaluation measures with: frames of random people to the parameters that drew them.

More than half of the faces come from the corpus, several frames of a clip at once on somebody else's face; the others are random
(`emotivetalk.corpus.faces`). All are spoilt a little, as autoencoders and codecs spoil pictures, so that the reader serves for generated
frames as for true ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from emotivetalk.corpus.avatar import Identity
from emotivetalk.corpus.drawing import draw_clip
from emotivetalk.corpus.faces import sample_faces
from emotivetalk.corpus.parameters import EXPRESSION, LIP, WANDERING
from emotivetalk.corpus.records import Clip, read_corpus
from emotivetalk.corpus.renderer import render
from emotivetalk.corpus.synthesize import FIRST_HELD_OUT_IDENTITY
from emotivetalk.evaluation.reader import Reader, mouth_opening
from emotivetalk.models.encoders import MOTION_SIZE
from emotivetalk.training.data.augment import jitter_color
from emotivetalk.training.data.degrade import spoil
from emotivetalk.training.data.ground_truth import require_truth
from emotivetalk.training.stages.stage import Stage, StageConfig, StepLoss
from emotivetalk.training.stages.validation import correlations

NO_EMOTION = -100
"""The emotion of a random face: cross-entropy leaves it out."""

_UNITS_SEED, _UNITS_FACES = 5, 2048
_WANDER_CLIPS = 256
_SMILE, _BLINK = EXPRESSION.index("smile"), EXPRESSION.index("blink")
_WANDERING = [EXPRESSION.index(name) for name in WANDERING]


class ReaderConfig(StageConfig):
    """The `stage:` section.

    Args:
        corpus_share: of the samples, the others are random faces.
        frames_per_person: pictures in a sample: of one person, under one light, spoilt alike.
        course_weight: of the error in how a clip's frames differ from each other. Within a clip an expression
            wanders little beside what it spans over all faces; without this its course is lost among the errors about the face.
    """

    corpus: Path
    channels: tuple[int, int, int] = (48, 96, 128)
    hidden_dim: int = 256
    corpus_share: float = 0.6
    opening_weight: float = 4.0
    emotion_weight: float = 0.3
    frames_per_person: int = Field(4, ge=1)
    course_weight: float = Field(0.2, ge=0)
    validation_clips: int = 32


@dataclass(frozen=True)
class ReaderBatch:
    """Spoilt pictures, and the lip, expression and pose that drew them in one row; those of a sample in a row."""

    images: Float[Tensor, "pictures 3 size size"]
    parameters: Float[Tensor, "pictures 24"]
    emotion: Int[Tensor, " pictures"]
    intensity: Float[Tensor, " pictures"]


class ReaderLoss(nn.Module):
    """Squared errors of all parameters in units of their spread, of their course, of the mouth's opening, and emotion's cross-entropy.

    Args:
        wander: the parameters' spread within clips, the unit of their course.
    """

    wander: Float[Tensor, " parameters"]

    def __init__(self, config: ReaderConfig, wander: Float[Tensor, " parameters"]) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("wander", wander)
        self.reader = Reader(config.channels, config.hidden_dim)
        self.reader.to(memory_format=torch.channels_last)
        faces = sample_faces(_UNITS_FACES, np.random.default_rng(_UNITS_SEED))
        self.reader.set_units(torch.cat([faces.lip, faces.expression, faces.pose], 1))

    def forward(self, batch: ReaderBatch) -> StepLoss:
        read = self.reader(batch.images.contiguous(memory_format=torch.channels_last))
        error = torch.cat([read.lip, read.expression, read.pose], 1) - batch.parameters
        parameters = (error / self.reader.spread).square().mean()
        from_clips = batch.emotion != NO_EMOTION
        of_one = error.unflatten(0, (-1, self.config.frames_per_person))
        strays = ((of_one - of_one.mean(1, keepdim=True)) / self.wander).flatten(0, 1).square().mean(1)
        course = (strays * from_clips).sum() / from_clips.sum().clamp(min=1)
        opening = F.mse_loss(read.opening, mouth_opening(batch.parameters[:, : len(LIP)]))
        # Weak expressions say little of their emotion.
        weight = (0.3 + 0.7 * batch.intensity) * from_clips
        wrong = F.cross_entropy(read.emotion, batch.emotion, reduction="none", ignore_index=NO_EMOTION)
        emotion = (wrong * weight).sum() / weight.sum().clamp(min=1)
        config = self.config
        total = parameters + config.course_weight * course + config.opening_weight * opening
        total = total + config.emotion_weight * emotion
        return StepLoss(total, {"parameters": parameters, "course": course, "opening": opening, "emotion": emotion})


class ReaderStage(Stage[ReaderBatch]):
    """Trains `Reader`; every sample is a new person, below the identities that are held out."""

    name = "reader"
    config_class = ReaderConfig

    def __init__(self, config: ReaderConfig) -> None:
        self.config = config
        self.corpus = read_corpus(config.corpus, "train")
        require_truth(self.corpus, self.name, "learns the true motion of lips, face and head, which nobody knows there")
        self.module = ReaderLoss(config, _wander(self.corpus))
        self._held_out: list[tuple[Clip, Tensor]] | None = None

    def batch(self, seeds: Sequence[int]) -> ReaderBatch:
        samples = [self._sample(np.random.default_rng(seed)) for seed in seeds]
        return ReaderBatch(*(torch.cat(columns) for columns in zip(*samples, strict=True)))

    def _sample(self, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Some pictures of one person; see `ReaderBatch`."""
        num = self.config.frames_per_person
        lip, expression, pose, emotion, intensity = self._faces(num, generator)
        person = Identity.sample(1, int(generator.integers(FIRST_HELD_OUT_IDENTITY)))
        images = render(Identity.concatenate([person] * num), lip, expression, pose, MOTION_SIZE).images * 2 - 1
        spoilt = spoil(jitter_color(images, generator), generator)
        return spoilt, torch.cat([lip, expression, pose], 1), emotion, torch.full((num,), intensity)

    def _faces(self, num: int, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
        if generator.random() >= self.config.corpus_share:
            faces = sample_faces(num, generator)
            return faces.lip, faces.expression, faces.pose, torch.full((num,), NO_EMOTION), 0.0
        clip = self.corpus[int(generator.integers(len(self.corpus)))]
        frames = generator.integers(clip.num_frames, size=num)
        lip, expression, pose = (torch.from_numpy(t[frames]) for t in (clip.lip, clip.expression, clip.pose))
        return lip, expression, pose, torch.from_numpy(clip.emotion_per_frame[frames]).long(), clip.intensity

    def validate(self, module: nn.Module) -> dict[str, float]:
        """On true frames of held-out people: r of single parameters, and the emotion of frames and clips (8-way).

        `course` is the mean r within clips of brows, lids, smile, sneer and gaze.
        """
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
        lip, face, pose = (torch.cat(columns) for columns in zip(*truth, strict=True))
        lips = correlations(torch.cat([r.lip for r in readings]), lip)
        faces = correlations(torch.cat([r.expression for r in readings]), face)
        poses = correlations(torch.cat([r.pose for r in readings]), pose)
        courses = [
            correlations(r.expression, true[1])[column]
            for r, true in zip(readings, truth, strict=True)
            for column in _WANDERING
        ]
        opening = torch.cat([r.opening for r in readings])[:, None]
        emotion = torch.tensor([clip.emotion for clip, _ in self._held_out])
        logits = torch.stack([r.emotion for r in readings])
        return {
            "opening": correlations(opening, mouth_opening(lip)[:, None])[0],
            **dict(zip(LIP, lips, strict=True)),
            "course": float(np.mean(courses)),
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


def _wander(corpus: Sequence[Clip]) -> Float[Tensor, " parameters"]:
    """How far lips, expression and pose stray from their mean within a clip: root mean squares over some of the clips."""
    clips = (corpus[index] for index in range(0, len(corpus), max(1, len(corpus) // _WANDER_CLIPS)))
    tracks = (np.concatenate([clip.lip, clip.expression, clip.pose], 1) for clip in clips)
    return torch.from_numpy(np.sqrt(np.mean([track.var(0) for track in tracks], 0))).float().clamp(min=1e-3)
