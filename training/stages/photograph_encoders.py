"""Stage 0, on photographs: further training of the lip and expression encoders, which keeps their latent spaces (ours).

Encoders trained on avatars misread photographs. A sample is an avatar and a person in a photograph, drawn with the same
parameters. Both pictures are trained towards the latents that the initial encoders compute from the avatar. So a V-AID,
an emotion mapping and an ETHD that were trained on the initial latents remain valid, and the same command gives the same
expression on either kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from emotivetalk.corpus.faces import sample_faces
from emotivetalk.corpus.parameters import EXPRESSION, LIP, POSE
from emotivetalk.corpus.person import Avatar, Person
from emotivetalk.corpus.photo_people import FIRST_PHOTOGRAPH_IDENTITY, open_people
from emotivetalk.corpus.synthesize import FIRST_HELD_OUT_IDENTITY
from emotivetalk.models.encoders import MOTION_SIZE, ExpressionEncoder, LipEncoder
from emotivetalk.models.precision import mixed_precision
from emotivetalk.training.checkpoints.frozen_networks import frozen
from emotivetalk.training.checkpoints.initial_weights import load_initial_weights
from emotivetalk.training.data.augment import jitter_color
from emotivetalk.training.stages.stage import Stage, StageConfig, StepLoss
from emotivetalk.training.stages.validation import correlations, ridge

_REPORTED = {
    **{name: LIP.index(name) for name in ("jaw", "wide", "press", "tuck")},
    **{name: len(LIP) + EXPRESSION.index(name) for name in ("brow_in", "blink", "smile", "gaze_x")},
    **{
        metric: len(LIP) + len(EXPRESSION) + POSE.index(name)
        for metric, name in {"roll": "rot", "yaw": "yaw", "up": "ty"}.items()
    },
}
"""Columns of the parameters that validation reports, by the name of the metric."""
_HELD_OUT_SEED = 10**9
_READOUT_SEED = 2 * 10**9


class PhotographEncodersConfig(StageConfig):
    """The `stage:` section of the YAML.

    Args:
        photographs: folder of portraits (`corpus/portraits.py`).
        checkpoint: folder with the `lip_encoder/` and `expression_encoder/` whose latents of avatars are the targets.
        initial: folder with the encoders that training starts from (null: those of `checkpoint`).
        frames_per_sample: frames of each pair of people.
        validation_samples: number of held-out people of each kind.
    """

    photographs: Path
    checkpoint: Path
    initial: Path | None = None
    frames_per_sample: int = Field(default=12, ge=1)
    validation_samples: int = Field(default=48, ge=2)


@dataclass(frozen=True)
class PhotographEncodersBatch:
    """Pairs of pictures with the same parameters, in -1..1, and the initial encoders' latents of the avatars."""

    avatars: Float[Tensor, "batch frames 3 size size"]
    photographs: Float[Tensor, "batch frames 3 size size"]
    lip: Float[Tensor, "batch frames dim_lip"]
    expression: Float[Tensor, "batch frames dim_expression"]
    parameters: Float[Tensor, "batch frames parameters"]


class PhotographEncodersLoss(nn.Module):
    """Both encoders and the squared distances of their latents of both pictures from the initial ones of the avatar."""

    def __init__(self, lip_encoder: LipEncoder, expression_encoder: ExpressionEncoder) -> None:
        super().__init__()
        self.lip_encoder = lip_encoder.to(memory_format=torch.channels_last)
        self.expression_encoder = expression_encoder.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> PhotographEncodersLoss:
        """Switch modes, but keep the latents' standardisation fixed, which V-AID and ETHD rely on."""
        super().train(mode)
        self.lip_encoder.standardize.eval()
        self.expression_encoder.standardize.eval()
        return self

    def forward(self, batch: PhotographEncodersBatch) -> StepLoss:
        images = torch.cat([batch.avatars, batch.photographs]).flatten(0, 1)
        images = images.contiguous(memory_format=torch.channels_last)
        terms = {}
        for name, encoder, target in (
            ("lip", self.lip_encoder, batch.lip),
            ("expression", self.expression_encoder, batch.expression),
        ):
            avatars, photographs = encoder(images).float().chunk(2)
            terms[f"{name}_avatars"] = F.mse_loss(avatars, target.flatten(0, 1))
            terms[f"{name}_photographs"] = F.mse_loss(photographs, target.flatten(0, 1))
        return StepLoss(torch.stack(list(terms.values())).sum(), terms)


class PhotographEncodersStage(Stage[PhotographEncodersBatch]):
    """Further training of `LipEncoder` and `ExpressionEncoder` on pairs of an avatar and a photograph."""

    name = "photograph_encoders"
    config_class = PhotographEncodersConfig

    def __init__(self, config: PhotographEncodersConfig) -> None:
        self.config = config
        self._initial_lip = frozen(config.checkpoint, "lip_encoder")
        self._initial_expression = frozen(config.checkpoint, "expression_encoder")
        self._people = open_people(config.photographs)
        lip = LipEncoder.from_config(self._initial_lip.config)
        expression = ExpressionEncoder.from_config(self._initial_expression.config)
        initial = config.initial or config.checkpoint
        load_initial_weights(lip, initial / "lip_encoder")
        load_initial_weights(expression, initial / "expression_encoder")
        self.module = PhotographEncodersLoss(lip, expression)
        self._held_out: PhotographEncodersBatch | None = None

    def batch(self, seeds: Sequence[int]) -> PhotographEncodersBatch:
        return self._batch(seeds, 0, augment=True)

    def _batch(self, seeds: Sequence[int], first: int, augment: bool) -> PhotographEncodersBatch:
        """Draw pairs of people whose seeds count from `first` within their kind."""
        rows = [self._sample(np.random.default_rng(seed), first, augment) for seed in seeds]
        return PhotographEncodersBatch(*(torch.stack(column) for column in zip(*rows, strict=True)))

    @torch.no_grad()
    def _sample(self, generator: np.random.Generator, first: int, augment: bool) -> tuple[Tensor, ...]:
        faces = sample_faces(self.config.frames_per_sample, generator)
        number = first + int(generator.integers(FIRST_HELD_OUT_IDENTITY))
        people: tuple[Person, ...] = (
            Avatar.sample(number),
            self._people.person(FIRST_PHOTOGRAPH_IDENTITY + number),
        )
        avatar, photograph = (
            person.frames(faces.lip, faces.expression, faces.pose, MOTION_SIZE).images * 2 - 1 for person in people
        )
        with mixed_precision(avatar.device):
            lip, expression = self._initial_lip(avatar).float(), self._initial_expression(avatar).float()
        if augment:
            avatar, photograph = jitter_color(avatar, generator), jitter_color(photograph, generator)
        return avatar, photograph, lip, expression, torch.cat([faces.lip, faces.expression, faces.pose], 1)

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """Measure held-out people of both kinds.

        lip, expression: squared error of the latents. All others: r of parameters, read from the latents by a ridge regression that
        is fitted on the initial encoders' latents of avatars. `photograph_` precedes the figures of photographs.
        """
        if self._held_out is None:
            seeds = range(_HELD_OUT_SEED, _HELD_OUT_SEED + self.config.validation_samples)
            self._held_out = self._batch(seeds, FIRST_HELD_OUT_IDENTITY, augment=False)
            seeds = range(_READOUT_SEED, _READOUT_SEED + self.config.validation_samples)
            fitted = self._batch(seeds, 0, augment=False)
            latents = torch.cat([fitted.lip, fitted.expression], -1).flatten(0, 1)
            self._readout = ridge(latents, fitted.parameters.flatten(0, 1))
        batch, metrics = self._held_out, {}
        truth = batch.parameters.flatten(0, 1)
        for kind, pictures in (("", batch.avatars), ("photograph_", batch.photographs)):
            images = pictures.flatten(0, 1).contiguous(memory_format=torch.channels_last)
            lip = torch.cat([module.lip_encoder(part).float() for part in images.split(64)])
            expression = torch.cat([module.expression_encoder(part).float() for part in images.split(64)])
            metrics[f"{kind}lip"] = float(F.mse_loss(lip, batch.lip.flatten(0, 1)))
            metrics[f"{kind}expression"] = float(F.mse_loss(expression, batch.expression.flatten(0, 1)))
            r = correlations(self._readout(torch.cat([lip, expression], -1)), truth)
            metrics |= {f"{kind}{name}": r[column] for name, column in _REPORTED.items()}
        return metrics

    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write nothing: this stage makes no pictures."""

    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Write `lip_encoder/` and `expression_encoder/`."""
        module.lip_encoder.save_pretrained(checkpoint / "lip_encoder")
        module.expression_encoder.save_pretrained(checkpoint / "expression_encoder")
