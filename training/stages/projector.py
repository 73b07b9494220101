"""Stage 1, the projector's own part: it goes on alone, against lips that are seen, while Di-CTE stays as it is.

Lip latents that are modelled (`training/data/modelled_latents.py`) follow from what the lips do. Those that are seen tell of the pose
and of the expression besides, which nobody hears: only they teach which of the latents to rely on when one moment is
told from others. Faces are drawn for it, so there are fewer of them, and the mean square weighs less than in `vaid`.
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
from emotivetalk.training.data import augmented_features as hearing
from emotivetalk.training.data.ground_truth import true_lips
from emotivetalk.training.data.latents import motion_latents
from emotivetalk.training.stages.contrastive import pull
from emotivetalk.training.stages.stage import Stage, StageConfig, StepLoss
from emotivetalk.training.stages.validation import lips_heard


class ProjectorConfig(StageConfig):
    """The `stage:` section. checkpoint: the folder with the frozen encoders and the V-AID that stage `vaid` made.

    window: of InfoNCE, in frames. match_weight: of the mean square beside it, which keeps the latents where ETHD expects
        them. feature_dropout: of the audio features that the projector is given.
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
    """What is heard of clips of equal length, and what their mouths look like."""

    audio_features: Float[Tensor, "batch frames dim_audio"]
    lip_visual: Float[Tensor, "batch frames dim_lip"]


class ProjectorLoss(nn.Module):
    """V-AID, of which the projector alone learns, and the pull of its lips: InfoNCE within clips, and the mean square."""

    def __init__(self, config: ProjectorConfig, vaid: VAID) -> None:
        super().__init__()
        self.config = config
        self.vaid = vaid.requires_grad_(False)
        self.vaid.projector.requires_grad_(True)

    def forward(self, batch: ProjectorBatch) -> StepLoss:
        heard = F.dropout(batch.audio_features, self.config.feature_dropout, self.training)
        lip_audio = self.vaid.projector(heard).float()
        contrast, match = pull(lip_audio, batch.lip_visual, self.config.window)
        total = contrast + self.config.match_weight * match
        return StepLoss(total, {"lip_infonce": contrast, "lip_match": match})


class ProjectorStage(Stage[ProjectorBatch]):
    """Trains V-AID's `AudioLipProjector` on."""

    name = "projector"
    config_class = ProjectorConfig

    def __init__(self, config: ProjectorConfig) -> None:
        self.config = config
        self.audio_encoder = frozen(config.checkpoint, "audio_encoder")
        self.corpus = read_corpus(config.corpus, "train")
        self.lip_visual = motion_latents(config.corpus, "train", config.checkpoint, config.cache).lip
        self.module = ProjectorLoss(config, frozen(config.checkpoint, "vaid"))

    def batch(self, seeds: Sequence[int]) -> ProjectorBatch:
        heard, index = [], []
        for seed in seeds:
            generator = np.random.default_rng(seed)
            index.append(int(generator.integers(len(self.corpus))))
            heard.append(self._prepared(self.corpus, index[-1], generator))
        return ProjectorBatch(hearing.features(self.audio_encoder, torch.stack(heard)), self.lip_visual[index])

    def _prepared(self, corpus: Corpus, clip: int, augmented_by: np.random.Generator | None) -> Tensor:
        return hearing.prepared(self.audio_encoder, torch.from_numpy(corpus[clip].waveform), augmented_by)

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """Lips by a linear read-out, where the truth is known; retrieval of the right window; the mean squared error."""
        config, corpus = self.config, read_corpus(self.config.corpus, "held_out")
        index = np.linspace(0, len(corpus) - 1, min(config.validation_clips, len(corpus))).astype(int).tolist()
        seen = motion_latents(config.corpus, "held_out", config.checkpoint, config.cache).lip[index]
        speech = torch.stack([self._prepared(corpus, clip, None) for clip in index])
        parts = [hearing.features(self.audio_encoder, part) for part in speech.split(16)]
        heard = torch.cat([module.vaid.projector(part) for part in parts]).float()
        return {**lips_heard(heard, seen, true_lips(corpus, index)), "error": float(F.mse_loss(heard, seen))}

    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        """Nothing to look at: the metrics say it all."""

    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Writes `vaid/`, Di-CTE as it was."""
        module.vaid.save_pretrained(checkpoint / "vaid")
