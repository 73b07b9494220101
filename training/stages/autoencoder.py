"""First stage: training of the small autoencoder on single frames of avatars rendered on demand, or of a corpus."""

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
from emotivetalk.training.checkpoints.initial_weights import load_initial_weights
from emotivetalk.training.stages.stage import Stage, StageConfig, StepLoss

_DETAIL_CELL = 8  # pixels
_VALIDATION_BATCH = 8
_STATISTICS_SEED, _STATISTICS_BATCHES = 0, (32, 8)
HELD_OUT_SEED = 10**9
"""First seed of validation's people and faces. Training seeds are hashes, which cannot be expected to come near it."""


class AutoencoderConfig(StageConfig):
    """The `stage:` section of the YAML.

    Args:
        corpus: corpus, of real video for example, whose people are used (null: new people are drawn).
        photographs: folder of portraits (`corpus/portraits.py`) that the share `photograph_share` of new people comes from.
        initial: checkpoint folder with the autoencoder that training starts from (null: random weights). It may have fewer
            residual blocks; the additional ones start as the identity.
        train_encoder: false trains the decoder only. The latents then stay those of `initial`, and an ETHD trained on them
            remains valid.
        nearness_weight: weight of the squared distance between the latents and those of `initial`, in standard deviations of
            each channel. With a positive weight the latents' standardisation is kept, and an ETHD trained on the initial
            latents has little to relearn.
        size: side of the pictures in pixels.
        latent_channels, block_out_channels, num_decoder_blocks, num_encoder_blocks: see `PortraitAutoencoder`.
        mouth_weight, eye_weight, face_weight: additional weight of pixels in the mouth, in open eyes and in the whole face.
        laplacian_weight: weight of the L1 error of a Laplacian pyramid.
        energy_weight: weight of the error in the local amount of fine detail, wherever exactly the detail is. Absolute
            errors alone favour the median of all possible strands of hair, which is smooth.
        warp_weight: weight of the L1 error of the warped portrait.
        kl_weight: weight of the KL divergence.
        validation_frames: number of held-out frames.
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
    def _check_initial(self) -> Self:
        if self.initial is None and self.keeps_latents:
            cause = "nearness_weight is set" if self.nearness_weight else "train_encoder is false"
            raise ValueError(f"{cause}: initial must name the checkpoint whose latents are kept")
        return self

    @property
    def keeps_latents(self) -> bool:
        """True if the latents stay those of `initial`, exactly or nearly, so that their standardisation is kept."""
        return self.nearness_weight > 0 or not self.train_encoder


@dataclass(frozen=True)
class AutoencoderBatch:
    """Pairs of frames, each pair of one person; the masks are those of `images`."""

    images: Float[Tensor, "batch 3 size size"]
    portraits: Float[Tensor, "batch 3 size size"]
    mouth: Float[Tensor, "batch 1 size size"]
    """Mask of the mouth, widened by four pixels."""
    eyes: Float[Tensor, "batch 1 size size"]
    face: Float[Tensor, "batch 1 size size"]
    noise: Float[Tensor, "batch channels h w"]
    initial_latents: Float[Tensor, "batch channels h w"] | None = None
    """Latents of `images` by the encoder of `initial`, if `nearness_weight` is set."""


class AutoencoderLoss(nn.Module):
    """The autoencoder and its loss: weighted L1, Laplacian pyramid, energy of fine detail, L1 of the warped portrait, KL."""

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
            initial = load_initial_weights(self.vae, config.initial / "vae", may_lack=_is_in_residual_block).config
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
        if batch.initial_latents is not None:
            terms["nearness"] = self._distance(distribution.mean.float(), batch.initial_latents)
            total = total + config.nearness_weight * terms["nearness"]
        return StepLoss(total, terms)

    def _distance(self, latents: Float[Tensor, "batch channels h w"], initial: Tensor) -> Float[Tensor, ""]:
        """Compute the mean squared distance of latents from the initial ones, in standard deviations of each channel."""
        std = latents.new_tensor(self.vae.config["latents_std"]).view(1, -1, 1, 1)
        return ((latents - initial) / std).square().mean()


class AutoencoderStage(Stage[AutoencoderBatch]):
    """Training of `PortraitAutoencoder`; a sample is a person in two poses and expressions, a new person without a corpus."""

    name = "autoencoder"
    config_class = AutoencoderConfig

    def __init__(self, config: AutoencoderConfig) -> None:
        self.config = config
        self.module = AutoencoderLoss(config)
        self.corpus = None if config.corpus is None else read_corpus(config.corpus, "train")
        self._initial = frozen(config.initial, "vae") if config.initial is not None and config.nearness_weight else None
        self._held_out: dict[str, AutoencoderBatch] | None = None

    def batch(self, seeds: Sequence[int]) -> AutoencoderBatch:
        return self._batch(seeds, self.corpus, self.config.photograph_share)

    def _batch(
        self, seeds: Sequence[int], corpus: Corpus | None, photograph_share: float, held_out: bool = False
    ) -> AutoencoderBatch:
        frames, noise, mirrored = [], [], []
        for seed in seeds:
            generator = np.random.default_rng(seed)
            frames.append(
                _draw_new_person(generator, self.config, photograph_share, held_out)
                if corpus is None
                else _draw_corpus_person(generator, corpus, self.config.size)
            )
            cells = self.config.size // self.module.vae.spatial_compression
            noise.append(generator.standard_normal((self.config.latent_channels, cells, cells), np.float32))
            mirrored.append(bool(generator.random() < 0.5))
        flipped = [_mirror(f) if m else f for f, m in zip(frames, mirrored, strict=True)]
        pairs = torch.stack([f.images for f in flipped]) * 2 - 1
        mouth, eyes, face = (
            torch.cat([getattr(f, mask)[:1] for f in flipped]) for mask in ("mouth_mask", "eye_mask", "face_mask")
        )
        images = _channels_last(pairs[:, 0])
        return AutoencoderBatch(
            images=images,
            portraits=_channels_last(pairs[:, 1]),
            mouth=F.max_pool2d(mouth, 9, 1, 4),
            eyes=eyes,
            face=face,
            noise=torch.from_numpy(np.stack(noise)),
            initial_latents=None if self._initial is None else _encode(self._initial, images),
        )

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """Measure PSNR in dB of the whole picture, the mouth and the eyes, and the ratio of high-pass energy to the truth's.

        With `photographs`, avatars and photographs are measured apart, the latter as `photograph_psnr` and so on.
        """
        metrics = {}
        for kind, batch in self._validation().items():
            starts = range(0, len(batch.images), _VALIDATION_BATCH)
            images = torch.cat([_reconstruct(module.vae, batch, start).clamp(-1, 1) for start in starts])
            error = ((images - batch.images) / 2) ** 2
            metrics |= {
                f"{kind}psnr": _psnr(error, torch.ones_like(batch.face)),
                f"{kind}psnr_mouth": _psnr(error, batch.mouth),
                f"{kind}psnr_eyes": _psnr(error, batch.eyes),
                f"{kind}high_pass": float(
                    _high_pass(images).square().mean() / _high_pass(batch.images).square().mean()
                ),
            }
        return metrics

    @torch.no_grad()
    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write a sheet of portraits, true frames and decoded frames."""
        num_columns = _VALIDATION_BATCH
        rows, labels = [], []
        for batch in self._validation().values():
            rows += [batch.portraits[:num_columns], batch.images[:num_columns], _reconstruct(module.vae, batch, 0)]
            labels += [label for label in ("portrait", "truth", "decoded") for _ in range(num_columns)]
        pictures = ((torch.cat(rows) + 1) * 127.5).clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy()
        contact_sheet(pictures, num_columns, labels, folder / f"{step:06d}.png")

    @torch.no_grad()
    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Write `vae/`, with latent statistics of 256 training frames unless those of `initial` are kept."""
        vae = module.vae
        if not self.config.keeps_latents:
            seeds = np.random.default_rng(_STATISTICS_SEED).integers(2**62, size=_STATISTICS_BATCHES)
            latents = torch.cat([vae.encode(self.batch(row.tolist()).images).mode() for row in seeds])
            vae.register_to_config(
                latents_mean=latents.mean((0, 2, 3)).tolist(), latents_std=latents.std((0, 2, 3)).tolist()
            )
        vae.to(torch.float32).save_pretrained(checkpoint / "vae")

    def _validation(self) -> dict[str, AutoencoderBatch]:
        """Make the held-out batches: one, or one of avatars ("") and one of photographs ("photograph_")."""
        if self._held_out is None:
            corpus = None if self.config.corpus is None else read_corpus(self.config.corpus, "held_out")
            seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + self.config.validation_frames)
            shares = {"": 0.0} if self.config.photographs is None else {"": 0.0, "photograph_": 1.0}
            self._held_out = {kind: self._batch(seeds, corpus, share, held_out=True) for kind, share in shares.items()}
        return self._held_out


def _is_in_residual_block(name: str) -> bool:
    """Tell whether a weight belongs to a residual block, which starts as the identity."""
    return ".block." in name


def _draw_new_person(
    generator: np.random.Generator, config: AutoencoderConfig, photograph_share: float, held_out: bool
) -> Frames:
    """Draw two frames of a new person: an avatar, or one from a photograph."""
    faces = sample_faces(2, generator)
    seed = int(generator.integers(FIRST_HELD_OUT_IDENTITY))
    person: Person = Avatar.sample(seed)
    if config.photographs is not None and generator.random() < photograph_share:
        first = FIRST_PHOTOGRAPH_IDENTITY + (FIRST_HELD_OUT_IDENTITY if held_out else 0)
        person = open_people(config.photographs).person(first + seed)
    return person.frames(faces.lip, faces.expression, faces.pose, config.size)


def _draw_corpus_person(generator: np.random.Generator, corpus: Corpus, size: int) -> Frames:
    """Draw or decode a frame of a clip, and one of any clip of the same speaker."""
    one = corpus[int(generator.integers(len(corpus)))]
    other = corpus[int(generator.choice(corpus.by_speaker[one.speaker]))]
    drawn = [draw_clip(clip, [int(generator.integers(clip.num_frames))], size) for clip in (one, other)]
    return Frames(*(torch.cat(pair) for pair in zip(*(vars(frames).values() for frames in drawn), strict=True)))


def _reconstruct(
    vae: PortraitAutoencoder | AutoencoderKLTemporalDecoder, batch: AutoencoderBatch, start: int
) -> Tensor:
    part = slice(start, start + _VALIDATION_BATCH)
    with mixed_precision(batch.images.device):
        features = vae.portrait_features(batch.portraits[part])
        return vae.decode(vae.encode(batch.images[part]).mode(), features).images.float()


@torch.no_grad()
def _encode(vae: PortraitAutoencoder, images: Tensor) -> Float[Tensor, "batch channels h w"]:
    with mixed_precision(images.device):
        return vae.encode(images).mode().float()


def _psnr(error: Tensor, weight: Tensor) -> float:
    per_picture = (error.mean(1, keepdim=True) * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp(min=1e-6)
    return float(-10 * per_picture.log10().mean())


def _high_pass(images: Tensor) -> Tensor:
    return images - F.avg_pool2d(images, 3, 1, 1)


def local_detail(images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch 1 cells cells"]:
    """Compute the root mean square of the residual of a 3 x 3 mean, over cells of 8 x 8 pixels (ours)."""
    return (F.avg_pool2d(_high_pass(images).square().mean(1, keepdim=True), _DETAIL_CELL) + 1e-5).sqrt()


def _pyramid(error: Tensor, levels: int) -> list[Tensor]:
    """Split into the bands of a Laplacian pyramid, finest first."""
    bands = []
    for _ in range(levels):
        smaller = F.avg_pool2d(error, 2)
        bands.append(error - F.interpolate(smaller, scale_factor=2, mode="bilinear", align_corners=False))
        error = smaller
    return bands


def _mirror(frames: Frames) -> Frames:
    return Frames(*(plane.flip(-1) for plane in vars(frames).values()))


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
