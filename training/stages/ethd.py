"""Stage 2: ETHD on video latents, with V-AID frozen (Figure 2).

A sample is a window of a clip. The portrait is a frame of another clip of the same person, mostly in another emotion:
taken from the same clip, it would teach the network to copy the portrait's expression. The lips come from the speech
through the frozen V-AID, as they will in use; the expression from the frozen expression encoder on the very frames.
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
from jaxtyping import Float
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
from emotivetalk.training.checkpoints.frozen_networks import frozen
from emotivetalk.training.checkpoints.initial_weights import begin_ethd
from emotivetalk.training.data.ground_truth import require_truth
from emotivetalk.training.data.latents import VideoLatents, audio_features, video_latents
from emotivetalk.training.stages.stage import Stage, StageConfig, StepLoss


class ETHDConfig(StageConfig):
    """The `stage:` section. checkpoint: the folder with everything that is frozen; the rest is `emotivetalk.models.ethd.ETHD`'s.

    initial: a checkpoint folder whose ETHD, or Stable Video Diffusion's folder whose U-Net, training begins from,
        rather than from random weights.
    cached_frames: of each clip, encoded once; num_frames: of a sample, a window of those. With one frame, samples are
        pictures and the layers over time are left out: common practice is images first, then video. A window of
        twelve frames shows hardly more than one expression, so twelve pictures teach what expressions look like
        sooner than one window does (ours).
    sigma_mean, sigma_std: of the noise level's logarithm. Sampling in few steps decides the expression at high levels
        (sigma 3 and more), which training must visit; at low ones the noisy latents show it already (ours).
    drop_lip, drop_expression: shares of samples whose condition is the null condition.
    other_clip: share of portraits that come from another clip, three quarters of them in another emotion.
    other_voices: let every face speak what is said in another clip. People's brows and heads follow their own speech, so
        ETHD would learn to move them with the lips, on top of what the expression says (ours; a synthetic corpus alone).
    lips: of what the frozen V-AID hears; or the audio encoder's own features, from which ETHD has to find expressions
        too, so none is given to it: the ablation without V-AID.
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
    def _expressions_are_to_be_found_in_the_faces_own_speech(self) -> Self:
        if self.other_voices and self.lips == "audio_features":
            raise ValueError(
                "lips is audio_features: other_voices must be false, for expressions are to be found in speech"
            )
        return self


@dataclass(frozen=True)
class ETHDBatch:
    """Windows of clips, their conditions, and how they are noised."""

    latents: Float[Tensor, "batch frames channels h w"]
    reference_latent: Float[Tensor, "batch channels h w"]
    lip: Float[Tensor, "batch frames window dim_lip"]
    expression_driving: Float[Tensor, "batch frames dim_expression"]
    expression_reference: Float[Tensor, "batch dim_expression"]
    face_mask: Float[Tensor, "batch 1 h w"]
    mouth: Float[Tensor, "batch frames 1 h w"]
    """How much of each cell it covers, 0..1; `eyes_and_brows` likewise."""
    eyes_and_brows: Float[Tensor, "batch frames 1 h w"]
    sigma: Float[Tensor, " batch"]
    noise: Float[Tensor, "batch frames channels h w"]

    @property
    def conditions(self) -> Conditions:
        return Conditions(
            self.reference_latent, self.lip, self.expression_driving, self.expression_reference, self.face_mask
        )


class ETHDLoss(nn.Module):
    """ETHD and the diffusion loss on v, heavier at mouth, eyes and brows; for video, or for pictures alone."""

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
    """Trains `ETHD` on latents that were computed once."""

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
            begin_ethd(self.module.ethd, config.initial)

    def batch(self, seeds: Sequence[int]) -> ETHDBatch:
        rows = [self.train_clips.sample(np.random.default_rng(seed), None, self.config.num_frames) for seed in seeds]
        batch = _stack(rows)
        keep_lip, keep_expression = [], []
        for seed in seeds:
            drop = np.random.default_rng([1, seed]).random(2)
            keep_lip.append(drop[0] >= self.config.drop_lip)
            keep_expression.append(drop[1] >= self.config.drop_expression)
        dropped = batch.conditions.without_lip().without_expression()
        return replace(
            batch,
            lip=torch.where(torch.tensor(keep_lip)[:, None, None, None], batch.lip, dropped.lip),
            expression_driving=torch.where(
                torch.tensor(keep_expression)[:, None, None], batch.expression_driving, dropped.expression_driving
            ),
        )

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """Squared error of sampled latents (2 and 4 steps), over all cells, at the mouth, at eyes and brows; 1 is the latents' variance."""
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
        """A sheet of four held-out clips, the truth's latents decoded above ETHD's, and the same as a moving picture."""
        batch = self._validation()
        sampled = self._sample(module, batch, 4)
        codec = LatentCodec(frozen(self.config.checkpoint, "vae"))
        rows, labels = [], []
        for i in range(0, len(batch.latents), max(1, len(batch.latents) // 4)):
            portrait = codec.portrait(self._held_out_clips().portrait(batch, i))
            for name, latents in (("truth", batch.latents[i]), ("ETHD", sampled[i])):
                images = codec.decode(latents, portrait)
                rows.append(((images + 1) * 127.5).clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy())
                labels += [name] * len(images[::2])
        sheet = np.concatenate([row[::2] for row in rows])
        contact_sheet(sheet, len(rows[0][::2]), labels, folder / f"{step:06d}.png")
        side_by_side = np.concatenate([np.concatenate(pair, 1) for pair in zip(rows[::2], rows[1::2])], 2)
        save_animation(side_by_side, folder / f"{step:06d}.webp", fps=25)

    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Writes `ethd/` and `scheduler/`."""
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
        for start in range(0, len(batch.latents), 8):
            part = ETHDBatch(*(value[start : start + 8] for value in vars(batch).values()))
            network = partial(module.predict, conditions=part.conditions)
            with mixed_precision(part.noise.device):
                x = sample(network, part.noise, sigmas)
            results.append(x)
        return torch.cat(results)


class _Windows:
    """A split's cached windows with the lips that the frozen V-AID hears in their clips."""

    def __init__(self, config: ETHDConfig, split: Split) -> None:
        self.config, self.split = config, split
        self.corpus = read_corpus(config.corpus, split)
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
        self.lip_audio = self._hear(config.checkpoint)
        self.mask = FaceRegion()

    @torch.inference_mode()
    def _hear(self, checkpoint: Path) -> Float[Tensor, "clips frames dim_lip"]:
        config = self.config
        vaid = frozen(checkpoint, "vaid")
        heard = audio_features(config.corpus, self.split, checkpoint, config.cache)
        if config.lips == "audio_features":
            return heard
        return torch.cat([vaid.projector(features) for features in heard.split(32)]).clone()

    def sample(self, generator: np.random.Generator, clip: int | None, num_frames: int) -> ETHDBatch:
        """One window as a batch of one."""
        config, video = self.config, self.video
        if clip is None:
            clip = int(generator.integers(len(self.corpus)))
        offset = int(generator.integers(config.cached_frames - num_frames + 1))
        window = slice(offset, offset + num_frames)
        first = int(video.start[clip]) + offset
        portrait, frame = self._portrait(clip, generator), int(generator.integers(config.cached_frames))
        latents = video.latents[clip, window].float()

        def gauss(shape: Sequence[int]) -> Tensor:
            return torch.from_numpy(generator.standard_normal(tuple(shape), np.float32))

        lip = self.lip_audio[video.voice[clip]]
        lip = lip_windows(lip + config.lip_noise * gauss(lip.shape), config.lip_window)[first : first + num_frames]
        driving = video.expression[clip, window].float()
        driving = driving + config.expression_noise * generator.random() * gauss(driving.shape)
        if config.lips == "audio_features":
            driving = video.expression[portrait, frame].float().expand_as(driving)
        height, width = latents.shape[-2:]
        region = FaceRegion(
            0.5 + 0.02 * generator.standard_normal(),
            0.5 + 0.02 * generator.standard_normal(),
            0.40 * (1 + 0.05 * generator.standard_normal()),
            0.46 * (1 + 0.05 * generator.standard_normal()),
        )
        sigma = float(np.exp(config.sigma_mean + config.sigma_std * generator.standard_normal()))
        row = ETHDBatch(
            latents=latents,
            reference_latent=video.latents[portrait, frame].float(),
            lip=lip,
            expression_driving=driving,
            expression_reference=video.expression[portrait, frame].float(),
            face_mask=region.mask(height, width),
            mouth=video.mouth[clip, window].float(),
            eyes_and_brows=_up_to_the_brows(video.eyes[clip, window].float()),
            sigma=torch.tensor(sigma),
            noise=gauss(latents.shape),
        )
        return ETHDBatch(*(value[None] for value in vars(row).values()))

    def portrait(self, batch: ETHDBatch, index: int) -> Float[Tensor, "1 3 size size"]:
        """The picture of a batch's portrait, found again by its latent."""
        wanted = batch.reference_latent[index].to(self.video.latents.dtype)
        for clip, window in enumerate(self.video.latents):  # one at a time: all of them may be larger than memory
            frames = (window == wanted).flatten(1).all(1).nonzero()
            if len(frames):
                found = int(self.video.start[clip]) + int(frames[0])
                return draw_clip(self.corpus[clip], [found], self.config.size).images * 2 - 1
        raise ValueError("the batch's portrait is of another split")

    def _portrait(self, clip: int, generator: np.random.Generator) -> int:
        record = self.corpus[clip]
        others = [i for i in self.corpus.by_speaker[record.speaker] if i != clip]
        if not others or generator.random() >= self.config.other_clip:
            return clip
        unlike = [i for i in others if self.corpus[i].emotion != record.emotion]
        return int(generator.choice(unlike if unlike and generator.random() < 0.75 else others))


def _stack(rows: Sequence[ETHDBatch]) -> ETHDBatch:
    return ETHDBatch(*(torch.cat(column) for column in zip(*(vars(row).values() for row in rows), strict=True)))


def _up_to_the_brows(eyes: Float[Tensor, "frames 1 h w"]) -> Float[Tensor, "frames 1 h w"]:
    """The cells of and next to the eyes, and those above, as far as brows are raised: an eighth of a framed picture."""
    above = max(1, eyes.shape[-2] // 8)
    return F.max_pool2d(F.pad(eyes, (1, 1, 1, above)), (above + 2, 3), stride=1)
