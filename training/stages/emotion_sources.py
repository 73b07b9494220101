"""Training of the emotion mapping that later stages freeze: its text head, speech head and prototypes.

Texts are generated prompts, embedded once by the frozen sentence encoder. Speech comes from clips of the corpus that stay in
one emotion. Every step trains both heads, which share no weights. Saving the mapping computes the prototypes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from emotivetalk.corpus.emotion_prompts import reworded_prompts, training_prompts
from emotivetalk.corpus.held_out_prompts import DEMO_PROMPTS, HELD_OUT, INTENSITY_PAIRS, MEANINGLESS, NEGATED
from emotivetalk.corpus.prompt import EmotionPrompt, PromptKind
from emotivetalk.corpus.records import Clip, read_corpus
from emotivetalk.errors import InputError
from emotivetalk.models.emotion import (
    EMOTIONS,
    NEUTRAL,
    EmotionEstimate,
    EmotionLogits,
    EmotionMapping,
    emotion_index,
)
from emotivetalk.models.log_mel import SILENCE, STEPS_PER_FRAME, LogMel
from emotivetalk.models.sentence_encoder import SentenceEncoder
from emotivetalk.training.data.augment import augment_mel
from emotivetalk.training.data.modelled_latents import LatentSource, training_latents
from emotivetalk.training.data.prototypes import emotion_prototypes
from emotivetalk.training.stages.stage import Stage, StageConfig, StepLoss

NO_EMOTION = len(EMOTIONS)
"""Last class of the text head: the text asks for no emotion."""
KIND_WEIGHTS: dict[PromptKind, float] = {
    "word": 2,
    "action": 1,
    "situation": 3,
    "negation": 3,
    "none": len(EMOTIONS),
}
"""Relative frequency of each kind of prompt, per emotion. Texts without an emotion are one class, so they count once for
each emotion."""
NEUTRAL_WEIGHT = 3
"""Factor on the frequency of neutral prompts: in case of doubt, a neutral face is the safer choice."""
_FULL_INTENSITY = 0.9
_SPEECH_BATCH = 32


class EmotionSourcesConfig(StageConfig):
    """The `stage:` section of the YAML.

    Args:
        corpus: folder of the corpus.
        encoders: checkpoint folder with the trained lip and expression encoders, from which the prototypes are computed.
        cache: folder for sentence embeddings and motion latents.
        motion: source of the latents that prototypes average (`emotivetalk.training.data.modelled_latents.LatentSource`).
        dim_text_hidden, text_gain, dim_speech, sharpness: see `EmotionMapping`.
        clip_frames: length of the speech excerpts, in video frames.
        prompts_per_sample: texts for each excerpt of speech.
        num_prompts: number of prompts, drawn at random, to train on (null: all).
        text_noise: standard deviation of noise on each value of an embedding, whose squares sum to 1 for each layer.
        label_smoothing: smoothing of the emotion labels.
        text_intensity_weight: weight of the squared error of a text's intensity.
    """

    corpus: Path
    encoders: Path
    cache: Path
    motion: LatentSource = "seen"
    dim_text_hidden: int = 512
    text_gain: float = 20.0
    dim_speech: int = 96
    sharpness: float = 4.0
    clip_frames: int = 52
    prompts_per_sample: int = 8
    num_prompts: int | None = None
    text_noise: float = 0.02
    label_smoothing: float = 0.05
    text_intensity_weight: float = 2.0


@dataclass(frozen=True)
class EmotionTargets:
    """Classes, `NO_EMOTION` included, and intensities, which the loss ignores for neutral and for `NO_EMOTION`."""

    emotion: Int[Tensor, " batch"]
    intensity: Float[Tensor, " batch"]


@dataclass(frozen=True)
class EmotionSourcesBatch:
    """Embedded texts and excerpts of speech, which are unrelated."""

    embedding: Float[Tensor, "texts dim_text"]
    text: EmotionTargets
    mel: Float[Tensor, "clips steps 80"]
    speech: EmotionTargets


class EmotionSourcesLoss(nn.Module):
    """The mapping and the losses of both heads: cross-entropy of the emotion, squared error of the intensity."""

    def __init__(self, config: EmotionSourcesConfig, dim_text: int, dim_expression: int) -> None:
        super().__init__()
        self.config = config
        self.mapping = EmotionMapping(
            dim_expression, dim_text, config.dim_text_hidden, config.dim_speech, config.sharpness, config.text_gain
        )

    def forward(self, batch: EmotionSourcesBatch) -> StepLoss:
        text_emotion, text_intensity = self._losses(self.mapping.text_head(batch.embedding), batch.text)
        speech_emotion, speech_intensity = self._losses(self.mapping.speech_head(batch.mel), batch.speech)
        text = text_emotion + self.config.text_intensity_weight * text_intensity
        return StepLoss(
            text + speech_emotion + speech_intensity,
            {
                "text_emotion": text_emotion,
                "text_intensity": text_intensity,
                "speech_emotion": speech_emotion,
                "speech_intensity": speech_intensity,
            },
        )

    def _losses(self, logits: EmotionLogits, targets: EmotionTargets) -> tuple[Tensor, Tensor]:
        emotion = F.cross_entropy(logits.emotion.float(), targets.emotion, label_smoothing=self.config.label_smoothing)
        has_intensity = (targets.emotion != NEUTRAL) & (targets.emotion != NO_EMOTION)
        error = (logits.intensity.float().sigmoid() - targets.intensity).square()
        return emotion, (error * has_intensity).mean()


class EmotionSourcesStage(Stage[EmotionSourcesBatch]):
    """Training of the heads of `EmotionMapping`.

    Raises:
        InputError: the corpus or the expression encoder is missing.
        SentenceEncoderError: the optional extra `text` is not installed.
    """

    name = "emotion_sources"
    config_class = EmotionSourcesConfig

    def __init__(self, config: EmotionSourcesConfig) -> None:
        encoder_config = config.encoders / "expression_encoder" / "config.json"
        if not encoder_config.is_file():
            raise InputError(
                code="encoders_missing",
                message=f"{config.encoders} has no expression_encoder/, from which the emotions' prototypes are computed",
                remedy="Train the stages lip_sync and expression first.",
            )
        self.config = config
        self.corpus = read_corpus(config.corpus, "train")
        self._steady = [position for position, clip in enumerate(self.corpus) if not clip.changes_emotion]
        prompts = training_prompts()
        if config.num_prompts is not None:
            chosen = np.random.default_rng(0).permutation(len(prompts))[: config.num_prompts]
            prompts = tuple(prompts[index] for index in chosen)
        self._text = _targets(prompts)
        self._shares = prompt_shares(prompts)
        self._embeddings = _embed(prompts, config.cache)
        # The prototypes' width is known only after their encoder has run; `save` builds the final mapping.
        self.module = EmotionSourcesLoss(config, self._embeddings.shape[1], dim_expression=1)
        self._log_mel = LogMel()  # the module's own may be on a GPU; batches are made on the CPU
        self._held_out: list[Clip] | None = None

    def batch(self, seeds: Sequence[int]) -> EmotionSourcesBatch:
        """Make one excerpt of speech and `prompts_per_sample` texts per seed."""
        chosen, embeddings, mels, clips = [], [], [], []
        for seed in seeds:
            generator = np.random.default_rng(seed)
            index = torch.from_numpy(
                generator.choice(len(self._shares), self.config.prompts_per_sample, p=self._shares)
            )
            noise = generator.standard_normal((len(index), self._embeddings.shape[1]), np.float32)
            chosen.append(index)
            embeddings.append(self._embeddings[index] + self.config.text_noise * torch.from_numpy(noise))
            clip = self.corpus[self._steady[int(generator.integers(len(self._steady)))]]
            mels.append(self._mel_crop(clip, generator))
            clips.append(clip)
        texts = torch.cat(chosen)
        text = EmotionTargets(self._text.emotion[texts], self._text.intensity[texts])
        return EmotionSourcesBatch(torch.cat(embeddings), text, torch.stack(mels), _clip_targets(clips))

    def _mel_crop(self, clip: Clip, generator: np.random.Generator) -> Float[Tensor, "steps 80"]:
        mel = self._log_mel(torch.from_numpy(clip.waveform)[None])[0]
        length = self.config.clip_frames
        start = int(generator.integers(max(1, clip.num_frames - length + 1)))
        crop = augment_mel(mel[STEPS_PER_FRAME * start : STEPS_PER_FRAME * (start + length)], generator)
        return F.pad(crop, (0, 0, 0, STEPS_PER_FRAME * length - len(crop)), value=SILENCE)

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """Measure both heads on held-out texts and voices.

        text: accuracy on unseen words and idioms. text_reworded: accuracy on known emotion words in unseen sentences.
        text_meaningless, text_negated: share that is classified as neutral.
        text_stronger: share of pairs in which the stronger wording gets the larger intensity.
        speech: accuracy on held-out voices. speech_full: the same at full intensity. speech_intensity: correlation with
        the true intensity, without neutral clips.
        """
        metrics = self._validate_text(module.mapping)
        if self._held_out is None:
            self._held_out = [c for c in read_corpus(self.config.corpus, "held_out") if not c.changes_emotion]
        targets, estimate = _clip_targets(self._held_out), _estimate_speech(module.mapping, self._held_out)
        is_correct = (estimate.probabilities.argmax(-1) == targets.emotion).float()
        is_full, is_emotional = targets.intensity > _FULL_INTENSITY, targets.emotion != NEUTRAL
        intensities = torch.stack([estimate.intensity[is_emotional], targets.intensity[is_emotional]])
        return metrics | {
            "speech": float(is_correct.mean()),
            "speech_full": float(is_correct[is_full].mean()),
            "speech_intensity": float(torch.corrcoef(intensities)[0, 1]),
        }

    def _validate_text(self, mapping: EmotionMapping) -> dict[str, float]:
        def estimate(prompts: Sequence[EmotionPrompt]) -> EmotionEstimate:
            return mapping.text_estimate(_embed(prompts, self.config.cache))

        def share_neutral(prompts: Sequence[EmotionPrompt]) -> float:
            return float((estimate(prompts).probabilities.argmax(-1) == NEUTRAL).float().mean())

        weak, strong = (estimate(prompts).intensity for prompts in zip(*INTENSITY_PAIRS, strict=True))

        def accuracy(prompts: Sequence[EmotionPrompt]) -> float:
            return float((estimate(prompts).probabilities.argmax(-1) == _targets(prompts).emotion).float().mean())

        return {
            "text": accuracy(HELD_OUT),
            "text_reworded": accuracy(reworded_prompts()),
            "text_meaningless": share_neutral(MEANINGLESS),
            "text_negated": share_neutral(NEGATED),
            "text_stronger": float((strong > weak).float().mean()),
        }

    @torch.no_grad()
    def preview(self, module: nn.Module, folder: Path, step: int) -> None:
        """Write the estimates for the paper's texts and for the held-out ones."""
        prompts = (*DEMO_PROMPTS, *HELD_OUT, *MEANINGLESS, *NEGATED)
        estimate = module.mapping.text_estimate(_embed(prompts, self.config.cache))
        confidence, emotion = estimate.probabilities.max(-1)
        lines = [
            f"{EMOTIONS[emotion[row]]} {confidence[row]:.2f}, intensity {estimate.intensity[row]:.2f}: "
            f"{prompt.text} ({prompt.emotion or 'no emotion'})"
            for row, prompt in enumerate(prompts)
        ]
        (folder / f"{step:06d}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    @torch.no_grad()
    def save(self, module: nn.Module, checkpoint: Path) -> None:
        """Write `emotion_mapping/`: the trained heads, and prototypes from the corpus by the expression encoder."""
        config = self.config
        expression = training_latents(config.motion, config.corpus, config.encoders, config.cache).expression
        trained = module.mapping
        mapping = EmotionMapping(
            expression.shape[-1],
            self._embeddings.shape[1],
            config.dim_text_hidden,
            config.dim_speech,
            config.sharpness,
            config.text_gain,
        )
        mapping.text_head.load_state_dict(trained.text_head.state_dict())
        mapping.speech_head.load_state_dict(trained.speech_head.state_dict())
        mapping.set_prototypes(emotion_prototypes(self.corpus, expression))
        mapping.save_pretrained(checkpoint / "emotion_mapping")


def prompt_shares(prompts: Sequence[EmotionPrompt]) -> Float[np.ndarray, " prompts"]:
    """Compute each prompt's probability from the weights above, independent of how many prompts share its kind and emotion."""
    sizes = Counter((prompt.kind, prompt.emotion) for prompt in prompts)
    weights = np.array([KIND_WEIGHTS[p.kind] / sizes[p.kind, p.emotion] for p in prompts], np.float64)
    weights *= [NEUTRAL_WEIGHT if prompt.emotion == "neutral" else 1 for prompt in prompts]
    return weights / weights.sum()


def _targets(prompts: Sequence[EmotionPrompt]) -> EmotionTargets:
    classes = [NO_EMOTION if prompt.emotion is None else emotion_index(prompt.emotion) for prompt in prompts]
    return EmotionTargets(torch.tensor(classes), torch.tensor([prompt.intensity for prompt in prompts]))


def _clip_targets(clips: Sequence[Clip]) -> EmotionTargets:
    return EmotionTargets(torch.tensor([c.emotion for c in clips]), torch.tensor([c.intensity for c in clips]))


def _estimate_speech(mapping: EmotionMapping, clips: Sequence[Clip]) -> EmotionEstimate:
    """Estimate the emotions of clips of equal length."""
    waveforms = torch.stack([torch.from_numpy(clip.waveform) for clip in clips])
    parts = [mapping.speech_estimate(part) for part in waveforms.split(_SPEECH_BATCH)]
    return EmotionEstimate(torch.cat([p.probabilities for p in parts]), torch.cat([p.intensity for p in parts]))


def _embed(prompts: Sequence[EmotionPrompt], cache: Path) -> Float[Tensor, "prompts dim_text"]:
    """Embed prompts, or read their embeddings from the cache."""
    texts = [prompt.text for prompt in prompts]
    file = cache / f"texts-two_layers-{hashlib.sha256(chr(0).join(texts).encode()).hexdigest()[:16]}.safetensors"
    if not file.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        save_file({"embeddings": SentenceEncoder()(texts)}, partial)
        partial.rename(file)
    return load_file(file)["embeddings"]
