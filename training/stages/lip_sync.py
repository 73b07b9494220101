"""Stage 0, first half: the lip encoder and the audio encoder, by audio-visual synchronisation.

No label of the lips is used: the two encoders learn what speech and mouth have in common by telling, within a clip, the
right moment from the others. What stays the same over a clip (who it is, the emotion) is no help, and the mean of the
lip latents over a clip is pressed to zero, so the latents are blind to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from emotivetalk.corpus.drawing import draw_clip
from emotivetalk.corpus.records import Clip, read_corpus
from emotivetalk.models.encoders import MOTION_SIZE, ConvAudioEncoder, LipEncoder
from emotivetalk.models.log_mel import LogMel
from emotivetalk.training.data.augment import augment_mel, jitter_color, shift
from emotivetalk.training.stages.contrastive import infonce_within_clips
from emotivetalk.training.stages.stage import Stage, StageConfig, StepLoss
from emotivetalk.training.stages.validation import correlations, retrieval, ridge


class LipSyncConfig(StageConfig):
    """The `stage:` section. frames_per_sample: of a clip, `stride` apart."""

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
    """Mouths and the speech of their whole clips. frames: which of the clip's frames `images` are."""

    images: Float[Tensor, "batch frames 3 size size"]
    mel: Float[Tensor, "batch steps 80"]
    frames: Tensor


class LipSyncLoss(nn.Module):
    """Both encoders and their loss: InfoNCE within clips, a match in the mean square, and the clip mean's square."""

    def __init__(self, config: LipSyncConfig) -> None:
        super().__init__()
        self.config = config
        self.lip_encoder = LipEncoder(config.dim_lip).to(memory_format=torch.channels_last)
        self.audio_encoder = ConvAudioEncoder(config.dim_audio)
        self.to_lip = nn.Linear(config.dim_audio, config.dim_lip)

    def lips_of_speech(self, mel: Float[Tensor, "batch steps 80"]) -> Float[Tensor, "batch frames dim"]:
        return self.to_lip(self.audio_encoder.features(mel))

    def forward(self, batch: LipSyncBatch) -> StepLoss:
        images = batch.images.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        seen = self.lip_encoder(images).view(*batch.images.shape[:2], -1)
        heard = self.lips_of_speech(batch.mel).float()
        heard = heard.gather(1, batch.frames[..., None].expand(-1, -1, heard.shape[-1]))
        contrast = infonce_within_clips(heard, seen)
        match = F.mse_loss(heard, seen)
        clip_mean = seen.mean(1).square().mean()
        total = contrast + self.config.match_weight * match + self.config.clip_mean_weight * clip_mean
        return StepLoss(total, {"infonce": contrast, "match": match, "clip_mean": clip_mean})


class LipSyncStage(Stage[LipSyncBatch]):
    """Trains `LipEncoder` and `ConvAudioEncoder` together."""

    name = "lip_sync"
    config_class = LipSyncConfig

    def __init__(self, config: LipSyncConfig) -> None:
        self.config = config
        self.module = LipSyncLoss(config)
        self._log_mel = LogMel()  # the module's may be on a GPU, under the loss; batches are made on the CPU
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
        """Lip parameters read linearly from either latents (r) where they are known, and retrieval of the right frame of 16."""
        if self._held_out is None:
            corpus = read_corpus(self.config.corpus, "held_out")
            clips = [corpus[i] for i in np.linspace(0, len(corpus) - 1, self.config.validation_clips).astype(int)]
            self._held_out = [(clip, draw_clip(clip, size=MOTION_SIZE).images * 2 - 1) for clip in clips]
        seen = torch.stack([module.lip_encoder(images) for _, images in self._held_out])
        heard = torch.cat([module.lips_of_speech(self._mel(clip)[None]) for clip, _ in self._held_out])
        metrics: dict[str, float] = {}
        if all(clip.has_truth for clip, _ in self._held_out):
            truth = torch.stack([torch.from_numpy(clip.lip) for clip, _ in self._held_out])
            half = len(truth) // 2
            read = ridge(seen[:half].flatten(0, 1), truth[:half].flatten(0, 1))
            for name, latents in (("seen", seen), ("heard", heard)):
                r = correlations(read(latents[half:].flatten(0, 1)), truth[half:].flatten(0, 1))
                metrics |= {f"{name}_jaw": r[0], f"{name}_wide": r[1], f"{name}_press": r[3], f"{name}_tuck": r[4]}
        metrics["retrieval_16"] = retrieval(heard, seen, num_candidates=16, window=1)
        metrics["retrieval_16_window_9"] = retrieval(heard, seen, num_candidates=16, window=9)
        return metrics

    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        """Nothing to look at: the latents show in what the later stages draw."""

    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Writes `lip_encoder/` and `audio_encoder/`."""
        module.lip_encoder.save_pretrained(checkpoint / "lip_encoder")
        module.audio_encoder.save_pretrained(checkpoint / "audio_encoder")
