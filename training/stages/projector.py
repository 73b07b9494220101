"""Stage 1, second part: further training of the projector alone, against encoded lip latents; Di-CTE stays unchanged.

Modelled lip latents (`training/data/modelled_latents.py`) depend on the lip motion only. Latents encoded from pictures also
contain traces of pose and expression, which speech does not determine, and so teach the projector which latents to rely on.
They require drawing every frame, so there are fewer clips, and the squared error weighs less than in `vaid`.
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

from emotivetalk.corpus.records import Corpus, read_corpus
from emotivetalk.models.vaid import VAID
from emotivetalk.training.checkpoints.frozen_networks import frozen
from emotivetalk.training.data.augmented_features import encode_inputs, encoder_input
from emotivetalk.training.data.ground_truth import true_lips
from emotivetalk.training.data.latents import motion_latents
from emotivetalk.training.stages.contrastive import pull
from emotivetalk.training.stages.stage import Stage, StageConfig, StepLoss
from emotivetalk.training.stages.validation import VALIDATION_BATCH, lip_metrics


class ProjectorConfig(StageConfig):
    """The `stage:` section of the YAML.

    Args:
        corpus: folder of the corpus.
        checkpoint: folder with the frozen encoders and the V-AID that the stage `vaid` trained.
        cache: folder for cached latents.
        window: frames per window in InfoNCE.
        match_weight: weight of the mean squared error, which keeps the latents in the range that ETHD expects.
        feature_dropout: dropout rate of the audio features that the projector reads.
        validation_clips: number of held-out clips.
    """

    corpus: Path
    checkpoint: Path
    cache: Path
    window: int = Field(default=9, ge=1)
    match_weight: float = Field(default=0.5, ge=0)
    feature_dropout: float = Field(default=0.2, ge=0, lt=1)
    validation_clips: int = 64


@dataclass(frozen=True)
class ProjectorBatch:
    """Audio features and lip latents of clips of equal length."""

    audio_features: Float[Tensor, "batch frames dim_audio"]
    lip_visual: Float[Tensor, "batch frames dim_lip"]


class ProjectorLoss(nn.Module):
    """V-AID with all but the projector frozen, and the pull of its lips: InfoNCE within clips, and squared error."""

    def __init__(self, config: ProjectorConfig, vaid: VAID) -> None:
        super().__init__()
        self.config = config
        self.vaid = vaid.requires_grad_(False)
        self.vaid.projector.requires_grad_(True)

    def forward(self, batch: ProjectorBatch) -> StepLoss:
        features = F.dropout(batch.audio_features, self.config.feature_dropout, self.training)
        lip_audio = self.vaid.projector(features).float()
        contrast, match = pull(lip_audio, batch.lip_visual, self.config.window)
        total = contrast + self.config.match_weight * match
        return StepLoss(total, {"lip_infonce": contrast, "lip_match": match})


class ProjectorStage(Stage[ProjectorBatch]):
    """Further training of V-AID's `AudioLipProjector`."""

    name = "projector"
    config_class = ProjectorConfig

    def __init__(self, config: ProjectorConfig) -> None:
        self.config = config
        self.audio_encoder = frozen(config.checkpoint, "audio_encoder")
        self.corpus = read_corpus(config.corpus, "train")
        self.lip_visual = motion_latents(config.corpus, "train", config.checkpoint, config.cache).lip
        self.module = ProjectorLoss(config, frozen(config.checkpoint, "vaid"))

    def batch(self, seeds: Sequence[int]) -> ProjectorBatch:
        inputs, index = [], []
        for seed in seeds:
            generator = np.random.default_rng(seed)
            index.append(int(generator.integers(len(self.corpus))))
            inputs.append(self._encoder_input(self.corpus, index[-1], generator))
        return ProjectorBatch(encode_inputs(self.audio_encoder, torch.stack(inputs)), self.lip_visual[index])

    def _encoder_input(self, corpus: Corpus, clip: int, augmentation: np.random.Generator | None) -> Tensor:
        return encoder_input(self.audio_encoder, torch.from_numpy(corpus[clip].waveform), augmentation)

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """Measure the lip latents of held-out speech by `lip_metrics` and by their mean squared error."""
        config, corpus = self.config, read_corpus(self.config.corpus, "held_out")
        index = np.linspace(0, len(corpus) - 1, min(config.validation_clips, len(corpus))).astype(int).tolist()
        lip_visual = motion_latents(config.corpus, "held_out", config.checkpoint, config.cache).lip[index]
        inputs = torch.stack([self._encoder_input(corpus, clip, None) for clip in index])
        features = [encode_inputs(self.audio_encoder, part) for part in inputs.split(VALIDATION_BATCH)]
        lip_audio = torch.cat([module.vaid.projector(part) for part in features]).float()
        error = float(F.mse_loss(lip_audio, lip_visual))
        return {**lip_metrics(lip_audio, lip_visual, true_lips(corpus, index)), "error": error}

    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write nothing: this stage makes no pictures."""

    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Write `vaid/`, with Di-CTE unchanged."""
        module.vaid.save_pretrained(checkpoint / "vaid")
