"""Stage 2: training of ETHD on video latents, with V-AID frozen (Figure 2).

A sample is a window of a clip. The portrait is a frame of another clip of the same person, mostly in another emotion; from
the same clip, it would teach the network to copy the portrait's expression. The frozen V-AID computes the lips from the
speech, as in generation; the frozen expression encoder computes the expression from the window's own frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import model_validator
from torch import Tensor, nn

from emotivetalk.corpus.drawing import draw_clip
from emotivetalk.corpus.records import Split, read_corpus
from emotivetalk.media.preview import contact_sheet, save_animation
from emotivetalk.models.autoencoder import LatentCodec
from emotivetalk.models.diffusion import (
    denoising_loss,
    noisy,
    predict_v,
    sample,
    sigma_schedule,
    svd_scheduler,
    v_target,
)
from emotivetalk.models.ethd import ETHD, Conditions, lip_windows
from emotivetalk.models.face_mask import FaceRegion
from emotivetalk.models.precision import mixed_precision
from emotivetalk.timebase import FRAME_RATE_HZ
from emotivetalk.training.checkpoints.frozen_networks import frozen
from emotivetalk.training.checkpoints.initial_weights import load_initial_ethd
from emotivetalk.training.data.ground_truth import require_truth
from emotivetalk.training.data.latents import VideoLatents, audio_features, video_latents
from emotivetalk.training.data.portraits import PortraitClips
from emotivetalk.training.stages.stage import Stage, StageConfig, StepLoss

_SAMPLING_BATCH, _PROJECTOR_BATCH = 8, 32


class ETHDConfig(StageConfig):
    """The `stage:` section of the YAML; keys not described here are those of `emotivetalk.models.ethd.ETHD`.

    Args:
        corpus: folder of the corpus.
        checkpoint: folder with all frozen networks.
        cache: folder for cached latents.
        initial: checkpoint folder with the ETHD, or Stable Video Diffusion's folder with the U-Net, that training starts
            from (null: random weights).
        size: side of the pictures in pixels.
        cached_frames: frames of each clip that are encoded once and cached.
        num_frames: frames of a sample, a window of the cached ones. With 1, samples are pictures and the layers over time
            are skipped. Common practice is pictures first, then video: a window of twelve frames contains hardly more
            than one expression, so twelve pictures teach expressions faster than one window (ours).
        sigma_mean, sigma_std: mean and deviation of the noise level's logarithm. Sampling in few steps decides the
            expression at high levels (sigma 3 and more), so training must include them; at low levels the noisy
            latents already contain it (ours).
        sigma_min, sigma_max: range of the noise levels in sampling.
        mouth_weight, eye_weight: additional loss weight of the mouth, and of eyes and brows.
        drop_lip, drop_expression: shares of samples whose condition is replaced by the null condition.
        other_clip: share of portraits taken from another clip, three quarters of them in another emotion.
        other_voices: give every face the lip motion of another clip (synthetic corpora only). Brows and head follow a
            person's own speech, so without this ETHD would learn to move them with the lips (ours).
        expression_noise, lip_noise: largest deviation of noise added to the expression, and deviation of noise on the lips.
        lips: "vaid" for the frozen V-AID's lip latents; "audio_features" for the audio encoder's features, from which
            ETHD then has to derive expressions too, so that it receives none (the ablation without V-AID).
        validation_clips: number of held-out clips.
    """

    corpus: Path
    checkpoint: Path
    cache: Path
    initial: Path | None = None
    lips: Literal["vaid", "audio_features"] = "vaid"
    size: int = 256
    cached_frames: int = 16
    num_frames: int = 12
    block_out_channels: tuple[int, ...] = (64, 128)
    attention_levels: tuple[bool, ...] = (True, True)
    layers_per_block: int = 1
    num_attention_heads: tuple[int, ...] = (2, 4)
    feed_forward_mult: int = 1
    lip_window: int = 5
    num_expression_tokens: int = 4
    context_dim: int = 64
    edi_shares_weights: bool = True
    sigma_mean: float = 0.0
    sigma_std: float = 1.3
    sigma_min: float = 0.1
    sigma_max: float = 20.0
    mouth_weight: float = 6.0
    eye_weight: float = 5.0
    drop_lip: float = 0.08
    drop_expression: float = 0.08
    other_clip: float = 0.9
    other_voices: bool = False
    expression_noise: float = 0.1
    lip_noise: float = 0.05
    validation_clips: int = 32

    @model_validator(mode="after")
    def _check_voices(self) -> Self:
        if self.other_voices and self.lips == "audio_features":
            raise ValueError(
                "lips is audio_features: other_voices must be false, because ETHD derives expressions from the face's own speech"
            )
        return self


@dataclass(frozen=True)
class ETHDBatch:
    """Windows of clips, their conditions, noise levels and noise."""

    latents: Float[Tensor, "batch frames channels h w"]
    portrait_clip: Int[Tensor, " batch"]
    """Position of the portrait's clip in the corpus."""
    portrait_frame: Int[Tensor, " batch"]
    """Frame of that clip."""
    reference_latent: Float[Tensor, "batch channels h w"]
    lip: Float[Tensor, "batch frames window dim_lip"]
    expression_driving: Float[Tensor, "batch frames dim_expression"]
    expression_reference: Float[Tensor, "batch dim_expression"]
    face_mask: Float[Tensor, "batch 1 h w"]
    mouth: Float[Tensor, "batch frames 1 h w"]
    """Share of each latent cell that the mouth covers, 0..1."""
    eyes_and_brows: Float[Tensor, "batch frames 1 h w"]
    """Share of each latent cell that eyes and brows cover, 0..1."""
    sigma: Float[Tensor, " batch"]
    noise: Float[Tensor, "batch frames channels h w"]

    @property
    def conditions(self) -> Conditions:
        return Conditions(
            self.reference_latent, self.lip, self.expression_driving, self.expression_reference, self.face_mask
        )


class ETHDLoss(nn.Module):
    """ETHD and its diffusion loss on v, weighted more at mouth, eyes and brows; for video or for single pictures."""

    def __init__(self, config: ETHDConfig, latent_channels: int, dim_lip: int, dim_expression: int) -> None:
        super().__init__()
        self.ethd = ETHD(
            latent_channels,
            config.block_out_channels,
            config.attention_levels,
            config.layers_per_block,
            config.num_attention_heads,
            config.feed_forward_mult,
            dim_lip,
            dim_expression,
            config.lip_window,
            config.num_expression_tokens,
            config.context_dim,
            config.edi_shares_weights,
        )
        self.is_image = config.num_frames == 1
        self.mouth_weight, self.eye_weight = config.mouth_weight, config.eye_weight

    def predict(self, scaled: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        return self.ethd(scaled, timestep, conditions, self.is_image)

    def forward(self, batch: ETHDBatch) -> StepLoss:
        x = noisy(batch.latents, batch.noise, batch.sigma)
        v = predict_v(partial(self.predict, conditions=batch.conditions), x, batch.sigma).float()
        target = v_target(batch.latents, batch.noise, batch.sigma)
        weight = 1 + self.mouth_weight * batch.mouth + self.eye_weight * batch.eyes_and_brows
        loss = denoising_loss(v, target, weight)
        return StepLoss(loss, {"weighted": loss, "plain": (v.detach() - target).square().mean()})


class ETHDStage(Stage[ETHDBatch]):
    """Training of `ETHD` on cached latents."""

    name = "ethd"
    config_class = ETHDConfig

    def __init__(self, config: ETHDConfig) -> None:
        self.config = config
        self.train_clips = _Windows(config, "train")
        self._held_out: _Windows | None = None
        video = self.train_clips.video
        dim_lip = self.train_clips.lip_audio.shape[-1]
        self.module = ETHDLoss(config, video.latents.shape[2], dim_lip, video.expression.shape[-1])
        if config.initial is not None:
            load_initial_ethd(self.module.ethd, config.initial)

    def batch(self, seeds: Sequence[int]) -> ETHDBatch:
        rows = [self.train_clips.sample(np.random.default_rng(seed), None, self.config.num_frames) for seed in seeds]
        batch = _stack(rows)
        keep_lip, keep_expression = [], []
        for seed in seeds:
            drop_lip, drop_expression = np.random.default_rng([1, seed]).random(2)
            keep_lip.append(drop_lip >= self.config.drop_lip)
            keep_expression.append(drop_expression >= self.config.drop_expression)
        null = batch.conditions.without_lip().without_expression()
        return replace(
            batch,
            lip=torch.where(torch.tensor(keep_lip)[:, None, None, None], batch.lip, null.lip),
            expression_driving=torch.where(
                torch.tensor(keep_expression)[:, None, None], batch.expression_driving, null.expression_driving
            ),
        )

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """Measure the squared error of latents sampled in 2 and 4 steps: over all cells, at the mouth, at eyes and brows.

        An error of 1 equals the variance of the latents.
        """
        batch = self._validation()
        metrics = {}
        for num_steps in (2, 4):
            error = (self._sample(module, batch, num_steps) - batch.latents).square().mean(2, keepdim=True)
            metrics[f"error_{num_steps}"] = float(error.mean())
            for name, cover in (("mouth", batch.mouth), ("eyes", batch.eyes_and_brows)):
                metrics[f"error_{name}_{num_steps}"] = float((error * cover).sum() / cover.sum())
        return metrics

    @torch.no_grad()
    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write a sheet and an animation of four held-out clips: the true latents decoded, above or beside ETHD's."""
        batch = self._validation()
        sampled = self._sample(module, batch, 4)
        codec = LatentCodec(frozen(self.config.checkpoint, "vae"))
        rows, labels = [], []
        for i in range(0, len(batch.latents), max(1, len(batch.latents) // 4)):
            portrait = codec.portrait(self._held_out_clips().portrait_image(batch, i))
            for name, latents in (("truth", batch.latents[i]), ("ETHD", sampled[i])):
                images = codec.decode(latents, portrait)
                rows.append(((images + 1) * 127.5).clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy())
                labels += [name] * len(images[::2])
        sheet = np.concatenate([row[::2] for row in rows])
        contact_sheet(sheet, len(rows[0][::2]), labels, folder / f"{step:06d}.png")
        side_by_side = np.concatenate([np.concatenate(pair, 1) for pair in zip(rows[::2], rows[1::2])], 2)
        save_animation(side_by_side, folder / f"{step:06d}.webp", fps=FRAME_RATE_HZ)

    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Write `ethd/` and `scheduler/`."""
        module.ethd.save_pretrained(checkpoint / "ethd")
        svd_scheduler(self.config.sigma_min, self.config.sigma_max).save_pretrained(checkpoint / "scheduler")

    def _validation(self) -> ETHDBatch:
        held_out = self._held_out_clips()
        clips = np.linspace(0, len(held_out.corpus) - 1, self.config.validation_clips).astype(int)
        rows = [held_out.sample(np.random.default_rng(int(i)), int(i), self.config.cached_frames) for i in clips]
        return _stack(rows)

    def _held_out_clips(self) -> _Windows:
        if self._held_out is None:
            self._held_out = _Windows(self.config, "held_out")
        return self._held_out

    def _sample(self, module: nn.Module, batch: ETHDBatch, num_steps: int) -> Tensor:
        sigmas = sigma_schedule(svd_scheduler(self.config.sigma_min, self.config.sigma_max), num_steps)
        results = []
        for start in range(0, len(batch.latents), _SAMPLING_BATCH):
            part = ETHDBatch(*(value[start : start + _SAMPLING_BATCH] for value in vars(batch).values()))
            network = partial(module.predict, conditions=part.conditions)
            with mixed_precision(part.noise.device):
                x = sample(network, part.noise, sigmas)
            results.append(x)
        return torch.cat(results)


class _Windows:
    """Cached windows of a split, with the lip latents that the frozen V-AID computes from their speech.

    Samples are made from the cache and from the corpus's index alone: they read no clip.
    """

    def __init__(self, config: ETHDConfig, split: Split) -> None:
        self.config, self.split = config, split
        self.corpus = read_corpus(config.corpus, split)
        self.portraits = PortraitClips(self.corpus)
        if config.other_voices:
            require_truth(self.corpus, "ethd", "draws faces that speak another's words (other_voices)")
        self.video: VideoLatents = video_latents(
            config.corpus,
            split,
            config.checkpoint,
            config.cache,
            config.size,
            config.cached_frames,
            other_voices=config.other_voices,
        )
        self.lip_audio = self._lip_latents(config.checkpoint)

    @torch.inference_mode()
    def _lip_latents(self, checkpoint: Path) -> Float[Tensor, "clips frames dim_lip"]:
        config = self.config
        features = audio_features(config.corpus, self.split, checkpoint, config.cache)
        if config.lips == "audio_features":
            return features
        projector = frozen(checkpoint, "vaid").projector
        return torch.cat([projector(part) for part in features.split(_PROJECTOR_BATCH)]).clone()

    def sample(self, generator: np.random.Generator, clip: int | None, num_frames: int) -> ETHDBatch:
        """Make a batch of one window, of a random clip if `clip` is None."""
        config, video = self.config, self.video
        if clip is None:
            clip = int(generator.integers(len(self.corpus)))
        offset = int(generator.integers(config.cached_frames - num_frames + 1))
        window = slice(offset, offset + num_frames)
        first = int(video.start[clip]) + offset
        portrait = self._choose_portrait(clip, generator)
        cached_frame = int(generator.integers(config.cached_frames))
        latents = video.latents[clip, window].float()

        def gauss(shape: Sequence[int]) -> Tensor:
            return torch.from_numpy(generator.standard_normal(tuple(shape), np.float32))

        lip = self.lip_audio[video.voice[clip]]
        lip = lip_windows(lip + config.lip_noise * gauss(lip.shape), config.lip_window)[first : first + num_frames]
        driving = video.driving[clip, window].float()
        driving = driving + config.expression_noise * generator.random() * gauss(driving.shape)
        if config.lips == "audio_features":
            driving = video.expression[portrait, cached_frame].float().expand_as(driving)
        height, width = latents.shape[-2:]
        face = FaceRegion()
        region = FaceRegion(
            face.center_x + 0.02 * generator.standard_normal(),
            face.center_y + 0.02 * generator.standard_normal(),
            face.half_width * (1 + 0.05 * generator.standard_normal()),
            face.half_height * (1 + 0.05 * generator.standard_normal()),
        )
        sigma = float(np.exp(config.sigma_mean + config.sigma_std * generator.standard_normal()))
        row = ETHDBatch(
            latents=latents,
            portrait_clip=torch.tensor(portrait),
            portrait_frame=video.start[portrait] + cached_frame,
            reference_latent=video.latents[portrait, cached_frame].float(),
            lip=lip,
            expression_driving=driving,
            expression_reference=video.expression[portrait, cached_frame].float(),
            face_mask=region.mask(height, width),
            mouth=video.mouth[clip, window].float(),
            eyes_and_brows=_extend_to_brows(video.eyes[clip, window].float()),
            sigma=torch.tensor(sigma),
            noise=gauss(latents.shape),
        )
        return ETHDBatch(*(value[None] for value in vars(row).values()))

    def portrait_image(self, batch: ETHDBatch, index: int) -> Float[Tensor, "1 3 size size"]:
        """Draw or decode the portrait of a sample of this split, in -1..1."""
        clip = self.corpus[int(batch.portrait_clip[index])]
        return draw_clip(clip, [int(batch.portrait_frame[index])], self.config.size).images * 2 - 1

    def _choose_portrait(self, clip: int, generator: np.random.Generator) -> int:
        if not self.portraits.has_other(clip) or generator.random() >= self.config.other_clip:
            return clip
        return self.portraits.choose_other(clip, generator)


def _stack(rows: Sequence[ETHDBatch]) -> ETHDBatch:
    return ETHDBatch(*(torch.cat(column) for column in zip(*(vars(row).values() for row in rows), strict=True)))


def _extend_to_brows(eyes: Float[Tensor, "frames 1 h w"]) -> Float[Tensor, "frames 1 h w"]:
    """Extend the eyes' cells by one cell down and sideways, and up by the reach of raised brows, an eighth of the picture."""
    above = max(1, eyes.shape[-2] // 8)
    return F.max_pool2d(F.pad(eyes, (1, 1, 1, above)), (above + 2, 3), stride=1)
