"""Stage 0, the audio encoder's own part: it goes on alone, against the finished lip latents.

In `lip_sync` each moment of speech costs a picture of a mouth. Once the lip encoder is done its latents are computed
once (`training/latents.py`), and speech alone is cheap: the encoder sees every clip many times, in many voices.
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

from corpus.records import Clip, read_corpus
from models.encoders import ConvAudioEncoder
from models.log_mel import LogMel
from training.augment import augment_mel
from training.contrast import infonce_within_clips
from training.frozen import read_network
from training.latents import motion_latents
from training.measure import correlations, retrieval, ridge
from training.stage import Stage, StageConfig, StepLoss
from training.truth import has_truth


class AudioEncoderConfig(StageConfig):
    """The `stage:` section. checkpoint: the folder with the encoders that `lip_sync` and `expression` made."""

    corpus: Path
    checkpoint: Path
    cache: Path
    match_weight: float = 4.0
    validation_clips: int = 96


@dataclass(frozen=True)
class AudioEncoderBatch:
    """Speech, augmented, and what its mouths look like."""

    mel: Float[Tensor, "batch steps 80"]
    lip_visual: Float[Tensor, "batch frames dim_lip"]


class AudioEncoderLoss(nn.Module):
    """The encoder with a linear way to the lips, and its loss: InfoNCE within clips and the mean square."""

    def __init__(self, config: AudioEncoderConfig, dim_lip: int) -> None:
        super().__init__()
        self.match_weight = config.match_weight
        self.audio_encoder = read_network(
            config.checkpoint / "audio_encoder",
            "ConvAudioEncoder to go on with",
            ConvAudioEncoder.from_pretrained,
            code="checkpoint_incomplete",
            remedy="Train stage lip_sync first; wav2vec 2.0 is not trained.",
        )
        self.to_lip = nn.Linear(self.audio_encoder.dim, dim_lip)

    def forward(self, batch: AudioEncoderBatch) -> StepLoss:
        heard = self.to_lip(self.audio_encoder.features(batch.mel)).float()
        contrast = infonce_within_clips(heard, batch.lip_visual)
        match = F.mse_loss(heard, batch.lip_visual)
        return StepLoss(contrast + self.match_weight * match, {"infonce": contrast, "match": match})


class AudioEncoderStage(Stage[AudioEncoderBatch]):
    """Trains `ConvAudioEncoder` on."""

    name = "audio_encoder"
    config_class = AudioEncoderConfig

    def __init__(self, config: AudioEncoderConfig) -> None:
        self.config = config
        self.corpus = read_corpus(config.corpus, "train")
        self.lip_visual = motion_latents(config.corpus, "train", config.checkpoint, config.cache).lip
        self.module = AudioEncoderLoss(config, self.lip_visual.shape[-1])
        self._log_mel = LogMel()  # the module's may be on a GPU, under the loss; batches are made on the CPU

    def batch(self, seeds: Sequence[int]) -> AudioEncoderBatch:
        mels, index = [], []
        for seed in seeds:
            generator = np.random.default_rng(seed)
            index.append(int(generator.integers(len(self.corpus))))
            mels.append(augment_mel(self._mel(self.corpus[index[-1]]), generator))
        return AudioEncoderBatch(torch.stack(mels), self.lip_visual[index])

    def _mel(self, clip: Clip) -> Float[Tensor, "steps 80"]:
        return self._log_mel(torch.from_numpy(clip.waveform)[None])[0]

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """Lip parameters from speech by a read-out fitted on visual latents (r), and retrieval of the right window."""
        corpus = read_corpus(self.config.corpus, "held_out")
        index = np.linspace(0, len(corpus) - 1, min(self.config.validation_clips, len(corpus))).astype(int).tolist()
        seen = motion_latents(self.config.corpus, "held_out", self.config.checkpoint, self.config.cache).lip[index]
        mel = torch.stack([self._mel(corpus[i]) for i in index])
        heard = torch.cat([module.to_lip(module.audio_encoder.features(part)) for part in mel.split(16)])
        window = min(9, seen.shape[1])
        found = {"retrieval_16": retrieval(heard, seen, 16, window)}
        if not has_truth(corpus):
            return found
        truth = torch.stack([torch.from_numpy(corpus[i].lip) for i in index])
        half = len(index) // 2
        read = ridge(seen[:half].flatten(0, 1), truth[:half].flatten(0, 1))
        r = correlations(read(heard[half:].flatten(0, 1)), truth[half:].flatten(0, 1))
        return {"jaw": r[0], "press": r[3], "tuck": r[4], **found}

    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        """Nothing to look at: the metrics say it all."""

    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Writes `audio_encoder/`."""
        module.audio_encoder.save_pretrained(checkpoint / "audio_encoder")
