"""The first stage: the small autoencoder, on single frames of avatars rendered as they are asked for, or of a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLTemporalDecoder
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from emotivetalk.corpus.drawing import draw_clip
from emotivetalk.corpus.faces import sample_faces
from emotivetalk.corpus.person import Avatar, Person
from emotivetalk.corpus.photo_people import FIRST_PHOTOGRAPH_IDENTITY, open_people
from emotivetalk.corpus.records import Corpus, read_corpus
from emotivetalk.corpus.renderer import Frames
from emotivetalk.corpus.synthesize import FIRST_HELD_OUT_IDENTITY
from emotivetalk.media.preview import contact_sheet
from emotivetalk.models.autoencoder import PortraitAutoencoder
from emotivetalk.models.precision import mixed_precision
from emotivetalk.training.checkpoints.frozen_networks import frozen
from emotivetalk.training.checkpoints.initial_weights import begin_from
from emotivetalk.training.stages.stage import Stage, StageConfig, StepLoss

_DETAIL_CELL = 8  # pixels
HELD_OUT_SEED = 10**9
"""Validation draws its people and faces from this seed on; training seeds are hashes far from it."""


class AutoencoderConfig(StageConfig):
    """The `stage:` section of an autoencoder's YAML; weights multiply terms of the loss.

    corpus: take the people of a corpus (of real video, say) rather than to draw new ones.
    photographs: a folder of portraits (`corpus/portraits.py`): `photograph_share` of the new people are in photographs.
    initial: a checkpoint folder whose autoencoder training begins from, rather than from random weights. It may have fewer residual
        blocks: those that are new begin as the identity.
    train_encoder: false leaves the latents what they are in `initial`, so that an ETHD that was trained on them stays
        good: only the decoder goes on.
    nearness_weight: of how far the latents stray from those of `initial`, in units of their own deviation. What standardises them is
        kept, and an ETHD that was trained on them has little to learn anew; 0 for an encoder that is free.
    mouth_weight, eye_weight, face_weight: how much more a pixel counts in the mouth, in open eyes and in all of the face.
    energy_weight: of the error in how much fine detail there is in each place, be it where the truth has it or not. Absolute
        errors alone ask for the median of what a strand of hair might do, which is smooth.
    """

    corpus: Path | None = None
    photographs: Path | None = None
    photograph_share: float = Field(default=0.5, ge=0, le=1)
    initial: Path | None = None
    train_encoder: bool = True
    nearness_weight: float = 0.0
    size: int = 256
    latent_channels: int = 16
    block_out_channels: tuple[int, int, int] = (48, 96, 160)
    num_decoder_blocks: tuple[int, int, int] = (1, 2, 2)
    num_encoder_blocks: tuple[int, int, int] = (1, 1, 2)
    mouth_weight: float = 4.0
    eye_weight: float = 3.0
    face_weight: float = 0.0
    laplacian_weight: float = 0.7
    energy_weight: float = 0.0
    warp_weight: float = 0.1
    kl_weight: float = 2e-5
    validation_frames: int = 64

    @model_validator(mode="after")
    def _kept_encoder_is_known(self) -> Self:
        if self.initial is None and self.keeps_latents:
            cause = "nearness_weight is set" if self.nearness_weight else "train_encoder is false"
            raise ValueError(f"{cause}: initial must name the checkpoint whose latents are kept")
        return self

    @property
    def keeps_latents(self) -> bool:
        """Whether an ETHD of `initial` goes on with this autoencoder, so that the latents' standardisation stays."""
        return self.nearness_weight > 0 or not self.train_encoder


@dataclass(frozen=True)
class AutoencoderBatch:
    """Pairs of frames of one person each.

    mouth, eyes, face: where they are in `images`; a little beyond the mouth.
    known: what the encoder of `initial` made of `images`, if the latents are to stay near.
    """

    images: Float[Tensor, "batch 3 size size"]
    portraits: Float[Tensor, "batch 3 size size"]
    mouth: Float[Tensor, "batch 1 size size"]
    eyes: Float[Tensor, "batch 1 size size"]
    face: Float[Tensor, "batch 1 size size"]
    noise: Float[Tensor, "batch channels h w"]
    known: Float[Tensor, "batch channels h w"] | None = None


class AutoencoderLoss(nn.Module):
    """The autoencoder and its loss: weighted L1, Laplacian pyramid, energy of fine detail, the warped portrait's L1, a little KL."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.vae = PortraitAutoencoder(
            config.latent_channels,
            config.block_out_channels,
            config.num_decoder_blocks,
            config.num_encoder_blocks,
        )
        if config.initial is not None:
            initial = begin_from(self.vae, config.initial / "vae", may_lack=_is_of_a_block).config
            self.vae.register_to_config(latents_mean=initial["latents_mean"], latents_std=initial["latents_std"])
        self.vae.encoder.requires_grad_(config.train_encoder)
        self.vae.to(memory_format=torch.channels_last)

    def forward(self, batch: AutoencoderBatch) -> StepLoss:
        config = self.config
        weight = (
            1 + config.mouth_weight * batch.mouth + config.eye_weight * batch.eyes + config.face_weight * batch.face
        )
        distribution = self.vae.encode(batch.images)
        latents = distribution.mean + distribution.std * batch.noise
        decoded = self.vae.decode(latents, self.vae.portrait_features(batch.portraits))
        error = (decoded.images - batch.images).float()
        pixel = (error.abs() * weight).mean()
        laplacian = sum(
            (band.abs() * F.avg_pool2d(weight, 2**level)).mean() for level, band in enumerate(_pyramid(error, 3))
        )
        warp = (decoded.warped - batch.images).abs().mean()
        kl = distribution.kl().float().sum() / latents.numel()
        energy = (local_detail(decoded.images.float()) - local_detail(batch.images)).abs().mean()
        total = pixel + config.laplacian_weight * laplacian + config.energy_weight * energy
        total = total + config.warp_weight * warp + config.kl_weight * kl
        terms = {"pixel": pixel, "laplacian": laplacian, "energy": energy, "warp": warp, "kl": kl}
        if batch.known is not None:
            terms["nearness"] = self._strayed(distribution.mean.float(), batch.known)
            total = total + config.nearness_weight * terms["nearness"]
        return StepLoss(total, terms)

    def _strayed(self, mean: Float[Tensor, "batch channels h w"], known: Tensor) -> Float[Tensor, ""]:
        """The mean square of how far latents are from known ones, in deviations of each channel."""
        std = mean.new_tensor(self.vae.config["latents_std"]).view(1, -1, 1, 1)
        return ((mean - known) / std).square().mean()


class AutoencoderStage(Stage[AutoencoderBatch]):
    """Trains `PortraitAutoencoder`; every sample is a person in two poses and expressions, a new one if there is no corpus."""

    name = "autoencoder"
    config_class = AutoencoderConfig

    def __init__(self, config: AutoencoderConfig) -> None:
        self.config = config
        self.module = AutoencoderLoss(config)
        self.corpus = None if config.corpus is None else read_corpus(config.corpus, "train")
        self._initial = frozen(config.initial, "vae") if config.initial is not None and config.nearness_weight else None
        self._held_out: AutoencoderBatch | None = None

    def batch(self, seeds: Sequence[int]) -> AutoencoderBatch:
        return self._batch(seeds, self.corpus)

    def _batch(self, seeds: Sequence[int], corpus: Corpus | None, held_out: bool = False) -> AutoencoderBatch:
        frames, noise, mirrored = [], [], []
        for seed in seeds:
            generator = np.random.default_rng(seed)
            frames.append(
                _new_person(generator, self.config, held_out)
                if corpus is None
                else _known_person(generator, corpus, self.config.size)
            )
            cells = self.config.size // self.module.vae.spatial_compression
            noise.append(generator.standard_normal((self.config.latent_channels, cells, cells), np.float32))
            mirrored.append(bool(generator.random() < 0.5))
        flipped = [_mirror(f) if m else f for f, m in zip(frames, mirrored, strict=True)]
        pairs = torch.stack([f.images for f in flipped]) * 2 - 1
        mouth, eyes, face = (
            torch.cat([getattr(f, mask)[:1] for f in flipped]) for mask in ("mouth_mask", "eye_mask", "face_mask")
        )
        images = _last(pairs[:, 0])
        return AutoencoderBatch(
            images=images,
            portraits=_last(pairs[:, 1]),
            mouth=F.max_pool2d(mouth, 9, 1, 4),
            eyes=eyes,
            face=face,
            noise=torch.from_numpy(np.stack(noise)),
            known=None if self._initial is None else _latents(self._initial, images),
        )

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """PSNR in dB of the whole picture, of the mouth and of the eyes, and high-pass energy over the truth's."""
        batch = self._validation()
        images = torch.cat([_reconstruct(module.vae, batch, i).clamp(-1, 1) for i in range(0, len(batch.images), 8)])
        error = ((images - batch.images) / 2) ** 2
        return {
            "psnr": _psnr(error, torch.ones_like(batch.face)),
            "psnr_mouth": _psnr(error, batch.mouth),
            "psnr_eyes": _psnr(error, batch.eyes),
            "high_pass": float(_high_pass(images).square().mean() / _high_pass(batch.images).square().mean()),
        }

    @torch.no_grad()
    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        batch = self._validation()
        images = _reconstruct(module.vae, batch, 0)
        rows = torch.cat([batch.portraits[:8], batch.images[:8], images])
        pictures = ((rows + 1) * 127.5).clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy()
        contact_sheet(pictures, 8, ["portrait"] * 8 + ["truth"] * 8 + ["decoded"] * 8, folder / f"{step:06d}.png")

    @torch.no_grad()
    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Writes `vae/`; unless an ETHD's latents are kept, their mean and deviation are of 256 fresh training frames."""
        vae = module.vae
        if not self.config.keeps_latents:
            seeds = np.random.default_rng(0).integers(2**62, size=(32, 8))
            latents = torch.cat([vae.encode(self.batch(row.tolist()).images).mode() for row in seeds])
            vae.register_to_config(
                latents_mean=latents.mean((0, 2, 3)).tolist(), latents_std=latents.std((0, 2, 3)).tolist()
            )
        vae.to(torch.float32).save_pretrained(checkpoint / "vae")

    def _validation(self) -> AutoencoderBatch:
        if self._held_out is None:
            corpus = None if self.config.corpus is None else read_corpus(self.config.corpus, "held_out")
            seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + self.config.validation_frames)
            self._held_out = self._batch(seeds, corpus, held_out=True)
        return self._held_out


def _is_of_a_block(name: str) -> bool:
    """Whether a weight belongs to a residual block, which begins as the identity."""
    return ".block." in name


def _new_person(generator: np.random.Generator, config: AutoencoderConfig, held_out: bool) -> Frames:
    """Two frames of somebody nobody has seen: an avatar, or somebody in a photograph."""
    faces = sample_faces(2, generator)
    seed = int(generator.integers(FIRST_HELD_OUT_IDENTITY))
    person: Person = Avatar.sample(seed)
    if config.photographs is not None and generator.random() < config.photograph_share:
        first = FIRST_PHOTOGRAPH_IDENTITY + (FIRST_HELD_OUT_IDENTITY if held_out else 0)
        person = open_people(config.photographs).person(first + seed)
    return person.frames(faces.lip, faces.expression, faces.pose, config.size)


def _known_person(generator: np.random.Generator, corpus: Corpus, size: int) -> Frames:
    """A frame of a clip, and one of any clip of the same speaker."""
    one = corpus[int(generator.integers(len(corpus)))]
    other = corpus[int(generator.choice(corpus.by_speaker[one.speaker]))]
    drawn = [draw_clip(clip, [int(generator.integers(clip.num_frames))], size) for clip in (one, other)]
    return Frames(*(torch.cat(pair) for pair in zip(*(vars(frames).values() for frames in drawn), strict=True)))


def _reconstruct(
    vae: PortraitAutoencoder | AutoencoderKLTemporalDecoder, batch: AutoencoderBatch, start: int
) -> Tensor:
    part = slice(start, start + 8)
    with mixed_precision(batch.images.device):
        features = vae.portrait_features(batch.portraits[part])
        return vae.decode(vae.encode(batch.images[part]).mode(), features).images.float()


@torch.no_grad()
def _latents(vae: PortraitAutoencoder, images: Tensor) -> Float[Tensor, "batch channels h w"]:
    with mixed_precision(images.device):
        return vae.encode(images).mode().float()


def _psnr(error: Tensor, weight: Tensor) -> float:
    per_picture = (error.mean(1, keepdim=True) * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp(min=1e-6)
    return float(-10 * per_picture.log10().mean())


def _high_pass(images: Tensor) -> Tensor:
    return images - F.avg_pool2d(images, 3, 1, 1)


def local_detail(images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch 1 cells cells"]:
    """The root mean square, in each 8 x 8 pixels, of what a 3 x 3 mean takes away (ours)."""
    return (F.avg_pool2d(_high_pass(images).square().mean(1, keepdim=True), _DETAIL_CELL) + 1e-5).sqrt()


def _pyramid(error: Tensor, levels: int) -> list[Tensor]:
    """The bands of a Laplacian pyramid, finest first."""
    bands = []
    for _ in range(levels):
        smaller = F.avg_pool2d(error, 2)
        bands.append(error - F.interpolate(smaller, scale_factor=2, mode="bilinear", align_corners=False))
        error = smaller
    return bands


def _mirror(frames: Frames) -> Frames:
    return Frames(*(plane.flip(-1) for plane in vars(frames).values()))


def _last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
