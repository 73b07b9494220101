"""What a video is made from: parsed once at the front door, stored in the job's row, trusted from there on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from emotivetalk.models.emotion import (
    MAX_TEXT_LENGTH,
    MAX_TRACK_KEYS,
    EmotionLabel,
    EmotionSource,
    EmotionSpeech,
    EmotionText,
    EmotionTrack,
)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LabelEmotion(_Frozen):
    """One of the eight emotions at an intensity of 0 to 1."""

    kind: Literal["label"] = "label"
    emotion: str = Field(max_length=32)
    intensity: float = Field(default=1.0, ge=0.0, le=1.0)


class TextEmotion(_Frozen):
    """Free English text."""

    kind: Literal["text"] = "text"
    text: str = Field(min_length=1, max_length=MAX_TEXT_LENGTH)


class ImageEmotion(_Frozen):
    """The expression of a picture, which is uploaded beside."""

    kind: Literal["image"] = "image"


class VideoEmotion(_Frozen):
    """The expressions of a video, frame by frame, which is uploaded beside."""

    kind: Literal["video"] = "video"


class SpeechEmotion(_Frozen):
    """The tone of the speech itself."""

    kind: Literal["speech"] = "speech"


class TrackKey(_Frozen):
    """From `time_s` on (after a cross-fade) this emotion; by label, or by text."""

    time_s: float = Field(ge=0.0)
    emotion: str | None = Field(default=None, max_length=32)
    intensity: float | None = Field(default=None, ge=0.0, le=1.0)
    text: str | None = Field(default=None, min_length=1, max_length=MAX_TEXT_LENGTH)


class TrackEmotion(_Frozen):
    """Emotions along the clip; between keys they are blended."""

    kind: Literal["track"] = "track"
    keys: tuple[TrackKey, ...] = Field(min_length=1, max_length=MAX_TRACK_KEYS)


Emotion = Annotated[
    LabelEmotion | TextEmotion | ImageEmotion | VideoEmotion | SpeechEmotion | TrackEmotion,
    Field(discriminator="kind"),
]


class VideoRequest(_Frozen):
    """All that decides the video's frames, apart from the files in the job's folder.

    Args:
        num_samples: of the speech, 16 kHz.
        emotion: None keeps the portrait's own expression. Image and video are in the job's folder.
        seed: same seed and inputs, same frames.
        num_steps: ETHD's; None is the checkpoint's own.
        emotion_strength: times the checkpoint's guidance of Di-CTE; 1 is as asked.
    """

    num_samples: int = Field(gt=0)
    emotion: Emotion | None = None
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    num_steps: int | None = Field(default=None, ge=1, le=50)
    emotion_strength: float = Field(default=1.0, ge=0.0, le=4.0)


def light_source(emotion: Emotion | None) -> EmotionSource:
    """The emotion source of a request that needs no file (image and video do: the V-AID deployment reads them).

    Raises:
        ValueError: an unknown label, or keys that do not make a track.
    """
    match emotion:
        case LabelEmotion():
            return EmotionLabel(emotion.emotion, emotion.intensity)
        case TextEmotion():
            return EmotionText(emotion.text)
        case SpeechEmotion():
            return EmotionSpeech()
        case TrackEmotion():
            return EmotionTrack.from_json([key.model_dump(exclude_none=True) for key in emotion.keys])
        case None:
            return None
    raise ValueError(f"an emotion by {emotion.kind} needs its file")
