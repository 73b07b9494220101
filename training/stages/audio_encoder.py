"""Stage 0, third part: further training of the audio encoder alone, against the finished lip latents.

Stage `lip_sync` draws a picture of a mouth for every moment of speech. Here the lip latents are computed once
(`training/data/latents.py`), and speech alone is cheap: the encoder reads every clip many times, in many voices. Modelled
latents (`training/data/modelled_latents.py`) need even fewer pictures and allow far more voices.
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

from emotivetalk.corpus.parameters import LIP
from emotivetalk.corpus.records import Clip, read_corpus
from emotivetalk.models.encoders import ConvAudioEncoder
from emotivetalk.models.log_mel import LogMel
from emotivetalk.training.checkpoints.frozen_networks import read_network
from emotivetalk.training.data.augment import augment_mel
from emotivetalk.training.data.ground_truth import parameter_statistics, require_truth, true_lips
from emotivetalk.training.data.latents import motion_latents
from emotivetalk.training.data.modelled_latents import LatentSource, training_latents
from emotivetalk.training.stages.contrastive import pull
from emotivetalk.training.stages.stage import Stage, StageConfig, StepLoss
from emotivetalk.training.stages.validation import VALIDATION_BATCH, lip_metrics


class AudioEncoderConfig(StageConfig):
    """The `stage:` section of the YAML.

    Args:
        corpus: folder of the corpus.
        checkpoint: folder with the encoders that the stages `lip_sync` and `expression` trained.
        cache: folder for cached latents.
        motion: source of the lip latents (`emotivetalk.training.data.modelled_latents.LatentSource`).
        match_weight: weight of the mean squared error.
        window: frames per window in InfoNCE.
        truth_weight: weight of the squared error, in standard deviations, of true lip parameters predicted from the features.
        validation_clips: number of held-out clips.
    """

    corpus: Path
    checkpoint: Path
    cache: Path
    motion: LatentSource = "seen"
    match_weight: float = 4.0
    window: int = Field(default=1, ge=1)
    truth_weight: float = Field(default=0.0, ge=0)
    validation_clips: int = 96


@dataclass(frozen=True)
class AudioEncoderBatch:
    """Augmented speech and the lip latents of the video."""

    mel: Float[Tensor, "batch steps 80"]
    lip_visual: Float[Tensor, "batch frames dim_lip"]
    truth: Float[Tensor, "batch frames 6"]
    """Standardised lip parameters; zeros if `truth_weight` is 0."""


class AudioEncoderLoss(nn.Module):
    """The encoder with linear heads for the lips, and its loss: InfoNCE within clips, squared error, true parameters."""

    def __init__(self, config: AudioEncoderConfig, dim_lip: int) -> None:
        super().__init__()
        self.config = config
        self.audio_encoder = read_network(
            config.checkpoint / "audio_encoder",
            "ConvAudioEncoder to train further",
            ConvAudioEncoder.from_pretrained,
            code="checkpoint_incomplete",
            remedy="Train the stage lip_sync first; wav2vec 2.0 is not trained.",
        )
        self.to_lip = nn.Linear(self.audio_encoder.dim, dim_lip)
        self.to_truth = nn.Linear(self.audio_encoder.dim, len(LIP)) if config.truth_weight else None

    def forward(self, batch: AudioEncoderBatch) -> StepLoss:
        features = self.audio_encoder.features(batch.mel)
        contrast, match = pull(self.to_lip(features).float(), batch.lip_visual, self.config.window)
        total, terms = contrast + self.config.match_weight * match, {"infonce": contrast, "match": match}
        if self.to_truth is not None:
            terms["truth"] = F.mse_loss(self.to_truth(features).float(), batch.truth)
            total = total + self.config.truth_weight * terms["truth"]
        return StepLoss(total, terms)


class AudioEncoderStage(Stage[AudioEncoderBatch]):
    """Further training of `ConvAudioEncoder`."""

    name = "audio_encoder"
    config_class = AudioEncoderConfig

    def __init__(self, config: AudioEncoderConfig) -> None:
        self.config = config
        self.corpus = read_corpus(config.corpus, "train")
        self.lip_visual = training_latents(config.motion, config.corpus, config.checkpoint, config.cache).lip
        if config.truth_weight:
            require_truth(self.corpus, self.name, "needs the true lip parameters (truth_weight)")
            self._mean, self._std = parameter_statistics(self.corpus, lambda clip: clip.lip)
        self.module = AudioEncoderLoss(config, self.lip_visual.shape[-1])
        self._log_mel = LogMel()  # the module's own may be on a GPU; batches are made on the CPU

    def batch(self, seeds: Sequence[int]) -> AudioEncoderBatch:
        mels, index, truth = [], [], []
        for seed in seeds:
            generator = np.random.default_rng(seed)
            index.append(int(generator.integers(len(self.corpus))))
            clip = self.corpus[index[-1]]
            mels.append(augment_mel(self._mel(clip), generator))
            truth.append(torch.from_numpy(self._truth(clip)))
        return AudioEncoderBatch(torch.stack(mels), self.lip_visual[index], torch.stack(truth))

    def _truth(self, clip: Clip) -> Float[np.ndarray, "frames 6"]:
        if self.config.truth_weight == 0:
            return np.zeros((clip.num_frames, len(LIP)), np.float32)
        return ((clip.lip - self._mean) / self._std).astype(np.float32)

    def _mel(self, clip: Clip) -> Float[Tensor, "steps 80"]:
        return self._log_mel(torch.from_numpy(clip.waveform)[None])[0]

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """Measure the lip latents of held-out speech by `lip_metrics`."""
        config, corpus = self.config, read_corpus(self.config.corpus, "held_out")
        index = np.linspace(0, len(corpus) - 1, min(config.validation_clips, len(corpus))).astype(int).tolist()
        lip_visual = motion_latents(config.corpus, "held_out", config.checkpoint, config.cache).lip[index]
        mel = torch.stack([self._mel(corpus[i]) for i in index])
        parts = [module.to_lip(module.audio_encoder.features(part)) for part in mel.split(VALIDATION_BATCH)]
        return lip_metrics(torch.cat(parts), lip_visual, true_lips(corpus, index))

    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write nothing: this stage makes no pictures."""

    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Write `audio_encoder/`."""
        module.audio_encoder.save_pretrained(checkpoint / "audio_encoder")
