"""Emotion sources, and the frozen mapping that takes them into the expression space.

Figure 2, Di-CTE: a frozen mapping sends the utterance source S_U (an image or a text) to the condition of its blocks.
ours: the utterance space is the expression space itself. Label, text and speech go through class probabilities and an
intensity to a mixture of prototypes (mean expression latents, per emotion and level); an image goes through the
expression encoder; a track cross-fades what its keys gave.
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

NUM_LEVELS = 4  # prototypes at intensity 0, 1/3, 2/3 and 1: MEAD's three levels, and none


# --------------------------------------------------------------------------------------------------------- sources


@dataclass(frozen=True)
class EmotionLabel:
    """One of the eight emotions, at an intensity of 0 (neutral) to 1 (full).

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
    """A text in English that asks for an emotion ("Speak seriously") or describes one; Figure 2's text source.

    Raises:
        InvalidValueError: the text is blank or longer than MAX_TEXT_LENGTH.
    """

    text: str

    def __post_init__(self) -> None:
        check_text(self.text)


class MeaninglessTextError(InvalidValueError):
    """The emotion text asks for no emotion. Only the trained mapping can tell."""

    def __init__(self, text: str) -> None:
        excerpt = text if len(text) <= 40 else text[:37] + "..."
        super().__init__(
            "emotion_invalid",
            f"the emotion text '{excerpt}' asks for no emotion",
            'Describe in English how to speak, such as "Be cheerful", or name an emotion.',
        )


@dataclass(frozen=True, eq=False)
class EmotionImage:
    """A face, of anybody, whose expression is to be taken; Figure 2's image source. RGB in -1..1.

    Raises:
        ValueError: not three channels, no pixels, or values that are not finite.
    """

    image: Float[Tensor, "3 height width"]

    def __post_init__(self) -> None:
        _check_pixels("emotion image", self.image, num_axes=3)


@dataclass(frozen=True, eq=False)
class EmotionVideo:
    """A video whose expressions are taken frame by frame; Figure 2's temporal source S_T. RGB in -1..1, 25 fps.

    Raises:
        ValueError: no frames, not three channels, no pixels, or values that are not finite.
    """

    frames: Float[Tensor, "frames 3 height width"]

    def __post_init__(self) -> None:
        _check_pixels("emotion video", self.frames, num_axes=4)


@dataclass(frozen=True)
class EmotionSpeech:
    """The emotion is taken from the speech itself."""


KeySource: TypeAlias = EmotionLabel | EmotionText | EmotionImage


@dataclass(frozen=True)
class EmotionKey:
    """From time_s on, the emotion is that of source; None is the portrait's own expression.

    Raises:
        InvalidValueError: the time is negative or not finite.
    """

    time_s: float
    source: KeySource | None

    def __post_init__(self) -> None:
        check_key_time(self.time_s)


@dataclass(frozen=True)
class EmotionTrack:
    """Emotions along time (ours). Each key begins to fade in at its time and has taken over fade_s later.

    The first key's emotion holds from the start of the clip. fade_s of 0 cuts.

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
        """How much of each key there is in each frame, at 25 fps. Rows sum to 1.

        A key fades in by smoothstep over whatever was there, so fades that overlap stay continuous.
        """
        time_s = (torch.arange(num_frames) + 0.5) / FRAME_RATE_HZ  # the middle of a frame
        weights = torch.zeros(num_frames, len(self.keys))
        weights[:, 0] = 1
        for index, key in enumerate(self.keys[1:], start=1):
            since_s = time_s - key.time_s
            progress = (since_s / self.fade_s).clamp(0, 1) if self.fade_s > 0 else (since_s >= 0).float()
            arrived = progress.square() * (3 - 2 * progress)
            weights *= 1 - arrived[:, None]
            weights[:, index] = arrived
        return weights


EmotionSource: TypeAlias = (
    EmotionLabel | EmotionText | EmotionImage | EmotionVideo | EmotionSpeech | EmotionTrack | None
)
"""None is the portrait's own expression: Di-CTE's unconditional branch."""


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
    """What a text or a speech was understood as: how likely each of EMOTIONS, and an intensity in 0..1."""

    probabilities: Float[Tensor, "*batch 8"]
    intensity: Float[Tensor, "*batch"]


@dataclass(frozen=True)
class EmotionLogits:
    """What a head gives before softmax and sigmoid; the losses take it like this."""

    emotion: Float[Tensor, "batch classes"]
    intensity: Float[Tensor, " batch"]


class TextHead(nn.Module):
    """A sentence embedding to nine classes, EMOTIONS and "none" (the text asks for no emotion), and an intensity.

    dim_text: how many of the embedding's numbers it reads, from the first on. Those who saw the last layer only, read 384.
    gain: multiplies them. Hundreds of numbers whose squares sum to 1 are small, and weights would have to grow for long.
    """

    def __init__(self, dim_text: int, dim_hidden: int, gain: float = 1.0) -> None:
        super().__init__()
        self.dim_text, self.gain = dim_text, gain
        self.hidden = nn.Sequential(nn.Dropout(0.3), nn.Linear(dim_text, dim_hidden), nn.GELU(), nn.Dropout(0.3))
        self.emotion = nn.Linear(dim_hidden, len(EMOTIONS) + 1)
        self.intensity = nn.Linear(dim_hidden, 1)

    def forward(self, embedding: Float[Tensor, "batch dim_embedding"]) -> EmotionLogits:
        """Classify sentence embeddings (models/sentence_encoder.py), of which each layer's part has length 1."""
        hidden = self.hidden(self.gain * embedding[:, : self.dim_text])
        return EmotionLogits(self.emotion(hidden), self.intensity(hidden)[:, 0])


class SpeechHead(nn.Module):
    """Log-mel steps to eight classes and an intensity: convolutions, then attentive statistics over time.

    The pooling is the attention-weighted mean and standard deviation of each channel (Okabe et al., 2018), so that the
    speech may have any length.
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
        """Classify whole utterances, or clips of them."""
        features = self.convolutions(mel.transpose(1, 2))
        attention = self.attention(features).softmax(dim=-1)
        mean = (features * attention).sum(dim=-1)
        variance = ((features - mean[..., None]).square() * attention).sum(dim=-1)
        hidden = self.hidden(torch.cat([mean, variance.clamp(min=1e-5).sqrt()], dim=-1))
        return EmotionLogits(self.emotion(hidden), self.intensity(hidden)[:, 0])


class EmotionMapping(ModelMixin, ConfigMixin):
    """Figure 2's frozen mapping: utterance sources to conditions in the expression space.

    The prototypes are mean expression latents for each emotion at intensities 0, 1/3, 2/3 and 1 (`set_prototypes`).
    Probabilities from text and speech are raised to the power `sharpness` and renormalised before they mix prototypes:
    halfway between two emotions there is seldom a face that anybody makes. 1 mixes as estimated; the larger, the nearer
    to the likeliest emotion alone. For `dim_text` and `text_gain` see `TextHead`.
    """

    prototypes: Float[Tensor, "8 4 dim_expression"]

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

    def set_prototypes(self, prototypes: Float[Tensor, "8 4 dim_expression"]) -> None:
        """Take the mean expression latents, by emotion and intensity level.

        Raises:
            ValueError: another shape than [8, 4, dim_expression], or values that are not finite.
        """
        if prototypes.shape != self.prototypes.shape:
            raise ValueError(f"the prototypes are {list(prototypes.shape)}. Give {list(self.prototypes.shape)}.")
        if not prototypes.isfinite().all():
            raise ValueError("the prototypes are not finite. Give every emotion and level at least one clip.")
        self.prototypes.copy_(prototypes)

    def label(self, emotion: str, intensity: float = 1.0) -> Float[Tensor, " dim_expression"]:
        """The condition of a label.

        Raises:
            ValueError: an unknown emotion, or an intensity outside 0..1.
        """
        label = EmotionLabel(emotion, intensity)
        certain = self.prototypes.new_zeros(len(EMOTIONS))
        certain[emotion_index(label.emotion)] = 1
        return self.mixture(certain, self.prototypes.new_tensor(label.intensity))

    def mixture(
        self, probabilities: Float[Tensor, "*batch 8"], intensity: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch dim_expression"]:
        """Prototypes mixed by probability, linear between their levels; intensity is clamped to 0..1."""
        place = intensity.clamp(0, 1) * (NUM_LEVELS - 1)
        levels = torch.arange(NUM_LEVELS, device=place.device, dtype=place.dtype)
        level_weights = (1 - (place[..., None] - levels).abs()).clamp(min=0)
        weights = (probabilities[..., :, None] * level_weights[..., None, :]).to(self.prototypes.dtype)
        return torch.einsum("...el,eld->...d", weights, self.prototypes)

    def text(self, embedding: Float[Tensor, "batch dim_embedding"]) -> Float[Tensor, "batch dim_expression"]:
        """The conditions of texts, from their sentence embeddings (models/sentence_encoder.py)."""
        return self._sharpened(self.text_estimate(embedding))

    def text_estimate(self, embedding: Float[Tensor, "batch dim_embedding"]) -> EmotionEstimate:
        """What the texts ask for. A text that asks for no emotion is neutral."""
        logits = self.text_head(embedding)
        *emotions, none = logits.emotion.softmax(dim=-1).unbind(dim=-1)
        emotions[0] = emotions[0] + none
        return EmotionEstimate(torch.stack(emotions, dim=-1), logits.intensity.sigmoid())

    def meaning(self, embedding: Float[Tensor, "batch dim_embedding"]) -> Float[Tensor, " batch"]:
        """How likely it is that a text asks for an emotion at all, neutral included; near 0 for meaningless ones."""
        return 1 - self.text_head(embedding).emotion.softmax(dim=-1)[:, -1]

    def speech(self, waveform: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch dim_expression"]:
        """The conditions of 16 kHz utterances, from their own tone of voice."""
        return self._sharpened(self.speech_estimate(waveform))

    def speech_estimate(self, waveform: Float[Tensor, "batch samples"]) -> EmotionEstimate:
        """How the utterances sound."""
        logits = self.speech_head(self.log_mel(waveform).to(self.prototypes.dtype))
        return EmotionEstimate(logits.emotion.softmax(dim=-1), logits.intensity.sigmoid())

    def track(
        self, track: EmotionTrack, key_conditions: Float[Tensor, "keys dim_expression"], num_frames: int
    ) -> Float[Tensor, "frames dim_expression"]:
        """The condition of each frame: what each key of the track was mapped to, cross-faded along time.

        Raises:
            ValueError: there is not one condition for each key.
        """
        if len(key_conditions) != len(track.keys):
            raise ValueError(f"{len(key_conditions)} conditions for {len(track.keys)} keys. Give one for each key.")
        return track.weights(num_frames).to(key_conditions) @ key_conditions

    def _sharpened(self, estimate: EmotionEstimate) -> Float[Tensor, "batch dim_expression"]:
        powers = (estimate.probabilities.clamp(min=1e-8).log() * self.sharpness).softmax(dim=-1)
        return self.mixture(powers, estimate.intensity)
