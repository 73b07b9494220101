"""Stage 0, first part: training of the lip encoder and the audio encoder by audio-visual synchronisation.

No lip labels are used. The two encoders learn what speech and mouth have in common by distinguishing, within a clip, the
matching moment from the others. Identity and emotion are constant over a clip and do not help. The mean of the lip latents
over a clip is also driven to zero, so the latents do not contain them.
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
from emotivetalk.corpus.records import Clip, read_corpus
from emotivetalk.models.encoders import MOTION_SIZE, ConvAudioEncoder, LipEncoder
from emotivetalk.models.log_mel import LogMel
from emotivetalk.training.data.augment import augment_mel, jitter_color, shift
from emotivetalk.training.stages.contrastive import infonce_within_clips
from emotivetalk.training.stages.stage import Stage, StageConfig, StepLoss
from emotivetalk.training.stages.validation import lip_correlations, retrieval

_REPORTED_LIPS = ("jaw", "wide", "press", "tuck")


class LipSyncConfig(StageConfig):
    """The `stage:` section of the YAML.

    Args:
        corpus: folder of the corpus.
        dim_lip, dim_audio: widths of the lip latents and of the audio features.
        frames_per_sample: frames of a clip in a sample, `stride` frames apart.
        match_weight: weight of the mean squared error between the latents of speech and mouth.
        clip_mean_weight: weight of the squared mean of the lip latents over a clip.
        validation_clips: number of held-out clips.
    """

    corpus: Path
    dim_lip: int = 32
    dim_audio: int = 96
    frames_per_sample: int = 24
    stride: int = 2
    match_weight: float = 0.5
    clip_mean_weight: float = 5.0
    validation_clips: int = 48


@dataclass(frozen=True)
class LipSyncBatch:
    """Pictures of some frames, and the speech of their whole clips."""

    images: Float[Tensor, "batch frames 3 size size"]
    mel: Float[Tensor, "batch steps 80"]
    frames: Int[Tensor, "batch frames"]
    """Positions of `images` in their clips."""


class LipSyncLoss(nn.Module):
    """Both encoders and their loss: InfoNCE within clips, squared error, and the squared mean over a clip."""

    def __init__(self, config: LipSyncConfig) -> None:
        super().__init__()
        self.config = config
        self.lip_encoder = LipEncoder(config.dim_lip).to(memory_format=torch.channels_last)
        self.audio_encoder = ConvAudioEncoder(config.dim_audio)
        self.to_lip = nn.Linear(config.dim_audio, config.dim_lip)

    def lip_audio(self, mel: Float[Tensor, "batch steps 80"]) -> Float[Tensor, "batch frames dim"]:
        """Predict lip latents from speech."""
        return self.to_lip(self.audio_encoder.features(mel))

    def forward(self, batch: LipSyncBatch) -> StepLoss:
        images = batch.images.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        lip_visual = self.lip_encoder(images).view(*batch.images.shape[:2], -1)
        lip_audio = self.lip_audio(batch.mel).float()
        lip_audio = lip_audio.gather(1, batch.frames[..., None].expand(-1, -1, lip_audio.shape[-1]))
        contrast = infonce_within_clips(lip_audio, lip_visual)
        match = F.mse_loss(lip_audio, lip_visual)
        clip_mean = lip_visual.mean(1).square().mean()
        total = contrast + self.config.match_weight * match + self.config.clip_mean_weight * clip_mean
        return StepLoss(total, {"infonce": contrast, "match": match, "clip_mean": clip_mean})


class LipSyncStage(Stage[LipSyncBatch]):
    """Joint training of `LipEncoder` and `ConvAudioEncoder`."""

    name = "lip_sync"
    config_class = LipSyncConfig

    def __init__(self, config: LipSyncConfig) -> None:
        self.config = config
        self.module = LipSyncLoss(config)
        self._log_mel = LogMel()  # the module's own may be on a GPU; batches are made on the CPU
        self.corpus = read_corpus(config.corpus, "train")
        self._held_out: list[tuple[Clip, Tensor]] | None = None

    def batch(self, seeds: Sequence[int]) -> LipSyncBatch:
        images, mels, frames = [], [], []
        for seed in seeds:
            generator = np.random.default_rng(seed)
            clip = self.corpus[int(generator.integers(len(self.corpus)))]
            length = self.config.frames_per_sample * self.config.stride
            start = int(generator.integers(max(1, clip.num_frames - length + 1)))
            index = np.arange(start, min(start + length, clip.num_frames), self.config.stride)
            drawn = draw_clip(clip, index.tolist(), MOTION_SIZE).images * 2 - 1
            dx, dy = generator.integers(-2, 3, size=2)
            images.append(jitter_color(shift(drawn, int(dx), int(dy)), generator))
            mels.append(augment_mel(self._mel(clip), generator))
            frames.append(torch.from_numpy(index))
        return LipSyncBatch(torch.stack(images), torch.stack(mels), torch.stack(frames))

    def _mel(self, clip: Clip) -> Float[Tensor, "steps 80"]:
        return self._log_mel(torch.from_numpy(clip.waveform)[None])[0]

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """Measure the lip latents of pictures and of speech on held-out clips.

        seen_*, heard_* (if the truth is known): r of lip parameters predicted linearly from the pictures' and the speech's
        latents. retrieval_16, retrieval_16_window_9: share of frames, and of windows of nine frames, retrieved among 16.
        """
        if self._held_out is None:
            corpus = read_corpus(self.config.corpus, "held_out")
            clips = [corpus[i] for i in np.linspace(0, len(corpus) - 1, self.config.validation_clips).astype(int)]
            self._held_out = [(clip, draw_clip(clip, size=MOTION_SIZE).images * 2 - 1) for clip in clips]
        lip_visual = torch.stack([module.lip_encoder(images) for _, images in self._held_out])
        lip_audio = torch.cat([module.lip_audio(self._mel(clip)[None]) for clip, _ in self._held_out])
        metrics: dict[str, float] = {}
        if all(clip.has_truth for clip, _ in self._held_out):
            truth = torch.stack([torch.from_numpy(clip.lip) for clip, _ in self._held_out])
            for source, latents in (("seen", lip_visual), ("heard", lip_audio)):
                r = lip_correlations(latents, lip_visual, truth)
                metrics |= {f"{source}_{name}": r[name] for name in _REPORTED_LIPS}
        metrics["retrieval_16"] = retrieval(lip_audio, lip_visual, num_candidates=16, window=1)
        metrics["retrieval_16_window_9"] = retrieval(lip_audio, lip_visual, num_candidates=16, window=9)
        return metrics

    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write nothing: this stage makes no pictures."""

    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Write `lip_encoder/` and `audio_encoder/`."""
        module.lip_encoder.save_pretrained(checkpoint / "lip_encoder")
        module.audio_encoder.save_pretrained(checkpoint / "audio_encoder")
