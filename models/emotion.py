"""Emotion sources, and the frozen mapping that takes them into the expression space.

Figure 2, Di-CTE: a frozen mapping takes the utterance source S_U (an image or a text) to the condition of Di-CTE's blocks.
Ours: the utterance space is the expression space itself. Labels, texts and speech become class probabilities and an
intensity, and these a mixture of prototypes (mean expression latents by emotion and level). An image goes through the
expression encoder. A track cross-fades the conditions of its keys.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn

from emotivetalk.errors import InvalidValueError
from emotivetalk.models.log_mel import NUM_MELS, LogMel
from emotivetalk.request import (
    EMOTIONS,
    Emotion,
    LabelEmotion,
    SpeechEmotion,
    TextEmotion,
    TrackEmotion,
    TrackKey,
    check_intensity,
    check_key_order,
    check_key_time,
    check_num_keys,
    check_text,
    emotion_index,
)
from emotivetalk.timebase import FRAME_RATE_HZ

NEUTRAL = EMOTIONS.index("neutral")
NUM_LEVELS = 4
"""Intensity levels of the prototypes: 0 (neutral), then MEAD's three, 1/3, 2/3 and 1."""


# --------------------------------------------------------------------------------------------------------- sources


@dataclass(frozen=True)
class EmotionLabel:
    """One of EMOTIONS, at an intensity from 0 (neutral) to 1 (full).

    Raises:
        InvalidValueError: the emotion is not among EMOTIONS, or the intensity lies outside 0..1.
    """

    emotion: str
    intensity: float = 1.0

    def __post_init__(self) -> None:
        emotion_index(self.emotion)
        check_intensity(self.intensity)


@dataclass(frozen=True)
class EmotionText:
    """English text that asks for an emotion ("Speak seriously") or describes one: the text source of Figure 2.

    Raises:
        InvalidValueError: the text is blank or longer than MAX_TEXT_LENGTH.
    """

    text: str

    def __post_init__(self) -> None:
        check_text(self.text)


class MeaninglessTextError(InvalidValueError):
    """Emotion text in which the trained mapping finds no emotion."""

    def __init__(self, text: str) -> None:
        excerpt = text if len(text) <= 40 else text[:37] + "..."
        super().__init__(
            "emotion_invalid",
            f"the emotion text '{excerpt}' asks for no emotion",
            'Describe in English how to speak, such as "Be cheerful", or name an emotion.',
        )


@dataclass(frozen=True, eq=False)
class EmotionImage:
    """Picture of a face, of any person, whose expression is copied: the image source of Figure 2. RGB in -1..1.

    Raises:
        ValueError: the picture has other than three channels, no pixels, or values that are not finite.
    """

    image: Float[Tensor, "3 height width"]

    def __post_init__(self) -> None:
        _check_pixels("emotion image", self.image, num_axes=3)


@dataclass(frozen=True, eq=False)
class EmotionVideo:
    """Video whose expressions are copied frame by frame: the temporal source S_T of Figure 2. RGB in -1..1, at FRAME_RATE_HZ.

    Raises:
        ValueError: the video has no frames, other than three channels, no pixels, or values that are not finite.
    """

    frames: Float[Tensor, "frames 3 height width"]

    def __post_init__(self) -> None:
        _check_pixels("emotion video", self.frames, num_axes=4)


@dataclass(frozen=True)
class EmotionSpeech:
    """Emotion estimated from the speech itself."""


KeySource: TypeAlias = EmotionLabel | EmotionText | EmotionImage


@dataclass(frozen=True)
class EmotionKey:
    """Change to the emotion of `source` at `time_s`; a source of None is the portrait's own expression.

    Raises:
        InvalidValueError: the time is negative or not finite.
    """

    time_s: float
    source: KeySource | None

    def __post_init__(self) -> None:
        check_key_time(self.time_s)


@dataclass(frozen=True)
class EmotionTrack:
    """Emotions over time (ours). Each key starts to fade in at its time and has taken over `fade_s` seconds later.

    The first key's emotion holds from the start of the clip. A `fade_s` of 0 cuts.

    Raises:
        InvalidValueError: there are no keys, more than MAX_TRACK_KEYS, or times that do not increase.
        ValueError: the fade is negative or not finite.
    """

    keys: tuple[EmotionKey, ...]
    fade_s: float = 0.5

    def __post_init__(self) -> None:
        check_num_keys(len(self.keys))
        check_key_order(key.time_s for key in self.keys)
        if not (math.isfinite(self.fade_s) and self.fade_s >= 0):
            raise ValueError(f"fade_s is {self.fade_s}. Give seconds, 0 for a cut.")

    def weights(self, num_frames: int) -> Float[Tensor, "frames keys"]:
        """Compute each key's share in each frame, at FRAME_RATE_HZ; rows sum to 1.

        A key fades in by smoothstep over the mixture before it, so overlapping fades stay continuous.
        """
        time_s = (torch.arange(num_frames) + 0.5) / FRAME_RATE_HZ  # the middle of each frame
        weights = torch.zeros(num_frames, len(self.keys))
        weights[:, 0] = 1
        for index, key in enumerate(self.keys[1:], start=1):
            elapsed_s = time_s - key.time_s
            progress = (elapsed_s / self.fade_s).clamp(0, 1) if self.fade_s > 0 else (elapsed_s >= 0).float()
            share = progress.square() * (3 - 2 * progress)
            weights *= 1 - share[:, None]
            weights[:, index] = share
        return weights


EmotionSource: TypeAlias = (
    EmotionLabel | EmotionText | EmotionImage | EmotionVideo | EmotionSpeech | EmotionTrack | None
)
"""Any emotion source; None is the portrait's own expression, Di-CTE's unconditional branch."""


def emotion_source(emotion: Emotion | None) -> EmotionSource:
    """Return the source of a request's emotion, unless it needs a file: images and videos are read elsewhere.

    Raises:
        ValueError: the emotion is given by image or video.
    """
    match emotion:
        case None:
            return None
        case LabelEmotion():
            return EmotionLabel(emotion.emotion, emotion.intensity)
        case TextEmotion():
            return EmotionText(emotion.text)
        case SpeechEmotion():
            return EmotionSpeech()
        case TrackEmotion():
            return EmotionTrack(tuple(EmotionKey(key.time_s, _key_source(key)) for key in emotion.keys))
    raise ValueError(f"an emotion by {emotion.kind} needs its file")


def _key_source(key: TrackKey) -> EmotionLabel | EmotionText:
    source = key.source()
    if isinstance(source, TextEmotion):
        return EmotionText(source.text)
    return EmotionLabel(source.emotion, source.intensity)


def _check_pixels(name: str, pixels: Tensor, num_axes: int) -> None:
    if pixels.ndim != num_axes or pixels.shape[-3] != 3 or pixels.numel() == 0:
        layout = "[3, H, W]" if num_axes == 3 else "[frames, 3, H, W]"
        raise ValueError(f"the {name} has the shape {list(pixels.shape)}. Give {layout}, at least one pixel and frame.")
    if not pixels.isfinite().all():
        raise ValueError(f"the {name} holds values that are not finite. Give RGB in -1..1.")


# --------------------------------------------------------------------------------------------------------- mapping


@dataclass(frozen=True)
class EmotionEstimate:
    """Estimate for a text or an utterance: the probability of each of EMOTIONS, and an intensity in 0..1."""

    probabilities: Float[Tensor, "*batch emotions"]
    intensity: Float[Tensor, "*batch"]


@dataclass(frozen=True)
class EmotionLogits:
    """Outputs of a head before softmax and sigmoid, as the losses take them."""

    emotion: Float[Tensor, "batch classes"]
    intensity: Float[Tensor, " batch"]


class TextHead(nn.Module):
    """Classifier of sentence embeddings: EMOTIONS and a last class "no emotion", and an intensity.

    Args:
        dim_text: number of leading embedding values that are read. Heads trained on the last layer alone read 384.
        dim_hidden: width of the hidden layer.
        gain: factor on the embedding. Its many values have squares that sum to 1, so they are small; without the gain the
            weights would have to grow for a long time.
    """

    def __init__(self, dim_text: int, dim_hidden: int, gain: float = 1.0) -> None:
        super().__init__()
        self.dim_text, self.gain = dim_text, gain
        self.hidden = nn.Sequential(nn.Dropout(0.3), nn.Linear(dim_text, dim_hidden), nn.GELU(), nn.Dropout(0.3))
        self.emotion = nn.Linear(dim_hidden, len(EMOTIONS) + 1)
        self.intensity = nn.Linear(dim_hidden, 1)

    def forward(self, embedding: Float[Tensor, "batch dim_embedding"]) -> EmotionLogits:
        """Classify embeddings of `models/sentence_encoder.py`, in which each layer's part has unit length."""
        hidden = self.hidden(self.gain * embedding[:, : self.dim_text])
        return EmotionLogits(self.emotion(hidden), self.intensity(hidden)[:, 0])


class SpeechHead(nn.Module):
    """Classifier of log-mel spectrograms: EMOTIONS and an intensity, by convolutions and attentive statistics over time.

    Each channel is pooled to its attention-weighted mean and standard deviation (Okabe et al., 2018), so the speech may
    have any length.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *self._convolution(NUM_MELS, dim, stride=2),
            *self._convolution(dim, dim, stride=2),
            *self._convolution(dim, dim, stride=1),
        )
        self.attention = nn.Conv1d(dim, 1, kernel_size=1)
        self.hidden = nn.Sequential(nn.Dropout(0.3), nn.Linear(2 * dim, dim), nn.GELU())
        self.emotion = nn.Linear(dim, len(EMOTIONS))
        self.intensity = nn.Linear(dim, 1)

    @staticmethod
    def _convolution(dim_in: int, dim_out: int, stride: int) -> tuple[nn.Module, ...]:
        return nn.Conv1d(dim_in, dim_out, kernel_size=5, stride=stride, padding=2), nn.GELU(), nn.BatchNorm1d(dim_out)

    def forward(self, mel: Float[Tensor, "batch steps 80"]) -> EmotionLogits:
        """Classify utterances or excerpts of them."""
        features = self.convolutions(mel.transpose(1, 2))
        attention = self.attention(features).softmax(dim=-1)
        mean = (features * attention).sum(dim=-1)
        variance = ((features - mean[..., None]).square() * attention).sum(dim=-1)
        hidden = self.hidden(torch.cat([mean, variance.clamp(min=1e-5).sqrt()], dim=-1))
        return EmotionLogits(self.emotion(hidden), self.intensity(hidden)[:, 0])


class EmotionMapping(ModelMixin, ConfigMixin):
    """Frozen mapping of Figure 2: utterance sources to conditions in the expression space.

    Args:
        dim_expression: width of the expression latents.
        dim_text, dim_text_hidden, text_gain: see `TextHead`.
        dim_speech: width of the speech head.
        sharpness: power to which probabilities from text and speech are raised, and renormalised, before they mix
            prototypes. A value of 1 mixes as estimated; larger values approach the likeliest emotion alone. Faces halfway
            between two emotions seldom occur.
    """

    prototypes: Float[Tensor, "emotions levels dim_expression"]
    """Mean expression latents by emotion and intensity level (`set_prototypes`)."""

    @register_to_config
    def __init__(
        self,
        dim_expression: int = 16,
        dim_text: int = 384,
        dim_text_hidden: int = 256,
        dim_speech: int = 96,
        sharpness: float = 4.0,
        text_gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.register_buffer("prototypes", torch.zeros(len(EMOTIONS), NUM_LEVELS, dim_expression))
        self.text_head = TextHead(dim_text, dim_text_hidden, text_gain)
        self.log_mel = LogMel()
        self.speech_head = SpeechHead(dim_speech)
        self.sharpness = sharpness

    def set_prototypes(self, prototypes: Float[Tensor, "emotions levels dim_expression"]) -> None:
        """Store the mean expression latents by emotion and intensity level.

        Raises:
            ValueError: the shape is not [emotions, levels, dim_expression], or a value is not finite.
        """
        if prototypes.shape != self.prototypes.shape:
            raise ValueError(
                f"the prototypes have the shape {list(prototypes.shape)}. Give {list(self.prototypes.shape)}."
            )
        if not prototypes.isfinite().all():
            raise ValueError("the prototypes are not finite. Give every emotion and level at least one clip.")
        self.prototypes.copy_(prototypes)

    def label(self, emotion: str, intensity: float = 1.0) -> Float[Tensor, " dim_expression"]:
        """Return the condition of a label.

        Raises:
            ValueError: the emotion is unknown, or the intensity is outside 0..1.
        """
        label = EmotionLabel(emotion, intensity)
        certain = self.prototypes.new_zeros(len(EMOTIONS))
        certain[emotion_index(label.emotion)] = 1
        return self.mixture(certain, self.prototypes.new_tensor(label.intensity))

    def mixture(
        self, probabilities: Float[Tensor, "*batch emotions"], intensity: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch dim_expression"]:
        """Mix prototypes by probability and interpolate linearly between their levels; intensity is clamped to 0..1."""
        level = intensity.clamp(0, 1) * (NUM_LEVELS - 1)
        levels = torch.arange(NUM_LEVELS, device=level.device, dtype=level.dtype)
        level_weights = (1 - (level[..., None] - levels).abs()).clamp(min=0)
        weights = (probabilities[..., :, None] * level_weights[..., None, :]).to(self.prototypes.dtype)
        return torch.einsum("...el,eld->...d", weights, self.prototypes)

    def text(self, embedding: Float[Tensor, "batch dim_embedding"]) -> Float[Tensor, "batch dim_expression"]:
        """Map texts, given as embeddings of `models/sentence_encoder.py`, to conditions."""
        return self._sharpened(self.text_estimate(embedding))

    def text_estimate(self, embedding: Float[Tensor, "batch dim_embedding"]) -> EmotionEstimate:
        """Estimate the emotions that texts ask for; the class "no emotion" counts as neutral."""
        logits = self.text_head(embedding)
        *emotions, no_emotion = logits.emotion.softmax(dim=-1).unbind(dim=-1)
        emotions[NEUTRAL] = emotions[NEUTRAL] + no_emotion
        return EmotionEstimate(torch.stack(emotions, dim=-1), logits.intensity.sigmoid())

    def meaning(self, embedding: Float[Tensor, "batch dim_embedding"]) -> Float[Tensor, " batch"]:
        """Estimate the probability that a text asks for any emotion, neutral included; near 0 for meaningless texts."""
        return 1 - self.text_head(embedding).emotion.softmax(dim=-1)[:, -1]

    def speech(self, waveform: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch dim_expression"]:
        """Map utterances at SAMPLE_RATE_HZ to conditions by their tone of voice."""
        return self._sharpened(self.speech_estimate(waveform))

    def speech_estimate(self, waveform: Float[Tensor, "batch samples"]) -> EmotionEstimate:
        """Estimate the emotions of utterances at SAMPLE_RATE_HZ."""
        logits = self.speech_head(self.log_mel(waveform).to(self.prototypes.dtype))
        return EmotionEstimate(logits.emotion.softmax(dim=-1), logits.intensity.sigmoid())

    def track(
        self, track: EmotionTrack, key_conditions: Float[Tensor, "keys dim_expression"], num_frames: int
    ) -> Float[Tensor, "frames dim_expression"]:
        """Cross-fade the conditions that the track's keys were mapped to; returns one condition per frame.

        Raises:
            ValueError: the number of conditions differs from the number of keys.
        """
        if len(key_conditions) != len(track.keys):
            raise ValueError(f"{len(key_conditions)} conditions for {len(track.keys)} keys. Give one for each key.")
        return track.weights(num_frames).to(key_conditions) @ key_conditions

    def _sharpened(self, estimate: EmotionEstimate) -> Float[Tensor, "batch dim_expression"]:
        powers = (estimate.probabilities.clamp(min=1e-8).log() * self.sharpness).softmax(dim=-1)
        return self.mixture(powers, estimate.intensity)
