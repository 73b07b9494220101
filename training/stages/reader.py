"""Training of the reader, evaluation's estimator of the parameters with which a face was drawn.

More than half of the samples are frames of a clip of the corpus drawn on a random person, an avatar or a photograph; the
others are random faces (`emotivetalk.corpus.faces`). All pictures are slightly degraded, as autoencoders and codecs do, so that the reader works on
generated frames as well as on true ones.
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

from emotivetalk.corpus.faces import sample_faces
from emotivetalk.corpus.parameters import EXPRESSION, LIP, POSE, WANDERING
from emotivetalk.corpus.person import Avatar, Person
from emotivetalk.corpus.photo_people import FIRST_PHOTOGRAPH_IDENTITY, open_people
from emotivetalk.corpus.records import Clip, read_corpus
from emotivetalk.corpus.synthesize import FIRST_HELD_OUT_IDENTITY
from emotivetalk.evaluation.reader import Reader, mouth_opening
from emotivetalk.models.encoders import MOTION_SIZE
from emotivetalk.training.checkpoints.initial_weights import load_initial_weights
from emotivetalk.training.data.augment import jitter_color
from emotivetalk.training.data.degrade import degrade
from emotivetalk.training.data.ground_truth import require_truth
from emotivetalk.training.stages.stage import Stage, StageConfig, StepLoss
from emotivetalk.training.stages.validation import correlations

UNKNOWN_EMOTION = -100
"""Emotion index of a random face, which cross-entropy ignores."""

_UNITS_SEED, _UNITS_FACES = 5, 2048
_SPREAD_CLIPS = 256
_VALIDATION_STRIDE = 2
_REPORTED_EXPRESSIONS = ("smile", "blink", "brow_in", "brow_out", "gaze_x")
_REPORTED_POSES = ("rot", "scale", "yaw", "pitch")
_FRAMES_AT_ONCE = 16


class ReaderConfig(StageConfig):
    """The `stage:` section of the YAML.

    Args:
        corpus: folder of a synthetic corpus.
        photographs: folder of portraits (`corpus/portraits.py`) that the share `photograph_share` of people comes from.
        initial: folder of the reader that training starts from (null: random weights).
        channels, hidden_dim: see `emotivetalk.evaluation.reader.Reader`.
        corpus_share: share of samples from the corpus; the others are random faces.
        opening_weight: weight of the squared error of the mouth's opening.
        emotion_weight: weight of the emotion's cross-entropy.
        frames_per_person: pictures in a sample, of one person, in one light, degraded alike.
        course_weight: weight of the error in how the frames of a clip differ from each other. Within a clip an expression
            varies little compared with its range over all faces, so errors in its course would hardly count otherwise.
        validation_clips: number of held-out clips.
    """

    corpus: Path
    photographs: Path | None = None
    photograph_share: float = Field(0.5, ge=0, le=1)
    initial: Path | None = None
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
    """Degraded pictures and the parameters that they were drawn with; the pictures of a sample are consecutive."""

    images: Float[Tensor, "pictures 3 size size"]
    parameters: Float[Tensor, "pictures parameters"]
    """Lip, expression and pose, concatenated."""
    emotion: Int[Tensor, " pictures"]
    intensity: Float[Tensor, " pictures"]


class ReaderLoss(nn.Module):
    """The reader and its loss: squared errors of parameters, their course and the mouth's opening, and emotion's cross-entropy.

    Args:
        config: the stage's settings.
        wander: deviation of each parameter within clips, the unit of errors in the course.
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
        if config.initial is not None:
            load_initial_weights(self.reader, config.initial)

    def forward(self, batch: ReaderBatch) -> StepLoss:
        read = self.reader(batch.images.contiguous(memory_format=torch.channels_last))
        error = torch.cat([read.lip, read.expression, read.pose], 1) - batch.parameters
        parameters = (error / self.reader.spread).square().mean()
        is_from_clip = batch.emotion != UNKNOWN_EMOTION
        by_person = error.unflatten(0, (-1, self.config.frames_per_person))
        deviation = ((by_person - by_person.mean(1, keepdim=True)) / self.wander).flatten(0, 1).square().mean(1)
        course = (deviation * is_from_clip).sum() / is_from_clip.sum().clamp(min=1)
        opening = F.mse_loss(read.opening, mouth_opening(batch.parameters[:, : len(LIP)]))
        # Weak expressions say little about their emotion.
        weight = (0.3 + 0.7 * batch.intensity) * is_from_clip
        entropy = F.cross_entropy(read.emotion, batch.emotion, reduction="none", ignore_index=UNKNOWN_EMOTION)
        emotion = (entropy * weight).sum() / weight.sum().clamp(min=1)
        config = self.config
        total = parameters + config.course_weight * course + config.opening_weight * opening
        total = total + config.emotion_weight * emotion
        return StepLoss(total, {"parameters": parameters, "course": course, "opening": opening, "emotion": emotion})


class ReaderStage(Stage[ReaderBatch]):
    """Training of `Reader`; every sample is a random person, none of the held-out ones."""

    name = "reader"
    config_class = ReaderConfig

    def __init__(self, config: ReaderConfig) -> None:
        self.config = config
        self.corpus = read_corpus(config.corpus, "train")
        require_truth(self.corpus, self.name, "learns the true motion of lips, face and head, which is unknown there")
        self.module = ReaderLoss(config, _spread_within_clips(self.corpus))
        self._held_out: dict[str, list[tuple[Clip, Tensor]]] | None = None

    def batch(self, seeds: Sequence[int]) -> ReaderBatch:
        samples = [self._sample(np.random.default_rng(seed)) for seed in seeds]
        return ReaderBatch(*(torch.cat(columns) for columns in zip(*samples, strict=True)))

    def _sample(self, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw the pictures of one person; the result has the fields of `ReaderBatch`."""
        num = self.config.frames_per_person
        lip, expression, pose, emotion, intensity = self._choose_faces(num, generator)
        images = self._choose_person(generator).frames(lip, expression, pose, MOTION_SIZE).images * 2 - 1
        degraded = degrade(jitter_color(images, generator), generator)
        return degraded, torch.cat([lip, expression, pose], 1), emotion, torch.full((num,), intensity)

    def _choose_person(self, generator: np.random.Generator) -> Person:
        number = int(generator.integers(FIRST_HELD_OUT_IDENTITY))
        config = self.config
        if config.photographs is not None and generator.random() < config.photograph_share:
            return open_people(config.photographs).person(FIRST_PHOTOGRAPH_IDENTITY + number)
        return Avatar.sample(number)

    def _choose_faces(self, num: int, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
        """Choose lip, expression, pose and emotion of `num` faces, and their intensity."""
        if generator.random() >= self.config.corpus_share:
            faces = sample_faces(num, generator)
            return faces.lip, faces.expression, faces.pose, torch.full((num,), UNKNOWN_EMOTION), 0.0
        clip = self.corpus[int(generator.integers(len(self.corpus)))]
        frames = generator.integers(clip.num_frames, size=num)
        lip, expression, pose = (torch.from_numpy(t[frames]) for t in (clip.lip, clip.expression, clip.pose))
        return lip, expression, pose, torch.from_numpy(clip.emotion_per_frame[frames]).long(), clip.intensity

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Measure the reader on undegraded frames of held-out people.

        emotion_frame, emotion_clip: share of correct emotions, by frame and by clip.
        course: mean r within clips of the expression parameters in `WANDERING`. All others: r of a parameter over all frames.
        With `photographs`, the same clips are also drawn with held-out photographs and measured as `photograph_opening`
        and so on.
        """
        if self._held_out is None:
            self._held_out = self._draw_held_out()
        return {
            f"{kind}{name}": value
            for kind, clips in self._held_out.items()
            for name, value in _metrics(module.reader, clips).items()
        }

    def _draw_held_out(self) -> dict[str, list[tuple[Clip, Tensor]]]:
        """Draw held-out clips with avatars (""), and with photographs ("photograph_") if there are any."""
        corpus, num = read_corpus(self.config.corpus, "held_out"), self.config.validation_clips
        # The clips of an identity follow each other, one for each emotion; an odd stride reaches all emotions.
        stride = max(1, len(corpus) // num) | 1
        clips = [corpus[i * stride % len(corpus)] for i in range(num)]
        drawn = {"": [(clip, _draw(clip, Avatar.sample(_held_out_avatar(clip, k)))) for k, clip in enumerate(clips)]}
        if self.config.photographs is not None:
            people = open_people(self.config.photographs)
            first = FIRST_PHOTOGRAPH_IDENTITY + FIRST_HELD_OUT_IDENTITY
            drawn["photograph_"] = [(clip, _draw(clip, people.person(first + k))) for k, clip in enumerate(clips)]
        return drawn

    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write nothing: this stage makes no pictures."""

    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Write the reader into the folder itself, in half precision; it is not part of a pipeline."""
        module.reader.half().save_pretrained(checkpoint)
        module.reader.float()


def _held_out_avatar(clip: Clip, k: int) -> int:
    """Return the clip's own identity, or a held-out avatar in the place of a photograph."""
    seed = clip.identity_seed
    return FIRST_HELD_OUT_IDENTITY + k if seed is None or seed >= FIRST_PHOTOGRAPH_IDENTITY else seed


def _draw(clip: Clip, person: Person) -> Float[Tensor, "frames 3 size size"]:
    """Draw every second frame of a clip, RGB in -1..1."""
    tracks = (torch.from_numpy(t[::_VALIDATION_STRIDE].copy()) for t in (clip.lip, clip.expression, clip.pose))
    parts = zip(*(track.split(_FRAMES_AT_ONCE) for track in tracks), strict=True)
    return torch.cat([person.frames(*part, MOTION_SIZE).images for part in parts]) * 2 - 1


def _metrics(reader: Reader, clips: Sequence[tuple[Clip, Tensor]]) -> dict[str, float]:
    readings = [reader(images) for _, images in clips]

    def correlate(names: Sequence[str], read: Sequence[Tensor], true: Sequence[Tensor]) -> dict[str, float]:
        return dict(zip(names, correlations(torch.cat([*read]), torch.cat([*true])), strict=True))

    def truth(tracks: list[np.ndarray]) -> list[Tensor]:
        return [torch.from_numpy(track[::_VALIDATION_STRIDE].copy()) for track in tracks]

    true_lip = truth([clip.lip for clip, _ in clips])
    true_expression = truth([clip.expression for clip, _ in clips])
    expression = correlate(EXPRESSION, [r.expression for r in readings], true_expression)
    pose = correlate(POSE, [r.pose for r in readings], truth([clip.pose for clip, _ in clips]))
    within_clips = [
        correlate(EXPRESSION, [r.expression], [true]) for r, true in zip(readings, true_expression, strict=True)
    ]
    opening = torch.cat([r.opening for r in readings])[:, None]
    emotion = torch.tensor([clip.emotion for clip, _ in clips])
    hits = [(r.emotion.argmax(-1) == target).float().mean() for r, target in zip(readings, emotion, strict=True)]
    clip_emotions = torch.tensor([r.clip_emotion for r in readings])
    return {
        "opening": correlations(opening, mouth_opening(torch.cat(true_lip))[:, None])[0],
        **correlate(LIP, [r.lip for r in readings], true_lip),
        "course": float(np.mean([r[name] for r in within_clips for name in WANDERING])),
        **{name: expression[name] for name in _REPORTED_EXPRESSIONS},
        **{name: pose[name] for name in _REPORTED_POSES},
        "emotion_frame": float(torch.stack(hits).mean()),
        "emotion_clip": float((clip_emotions == emotion).float().mean()),
    }


def _spread_within_clips(corpus: Sequence[Clip]) -> Float[Tensor, " parameters"]:
    """Compute the deviation of lip, expression and pose within a clip, as the root mean square over some clips."""
    clips = (corpus[index] for index in range(0, len(corpus), max(1, len(corpus) // _SPREAD_CLIPS)))
    tracks = (np.concatenate([clip.lip, clip.expression, clip.pose], 1) for clip in clips)
    return torch.from_numpy(np.sqrt(np.mean([track.var(0) for track in tracks], 0))).float().clamp(min=1e-3)
