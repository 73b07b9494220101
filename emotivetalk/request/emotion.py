"""The emotion of a video: its kinds, their limits, and the only parsers of `name:intensity` and of tracks."""

from __future__ import annotations

import difflib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, ValidationError, field_validator, model_validator

from emotivetalk.errors import InputError, InvalidValueError
from emotivetalk.files import check_readable, quoted
from emotivetalk.request.frozen import Frozen, checked, invalid_request

EMOTIONS = ("neutral", "angry", "contempt", "disgusted", "fear", "happy", "sad", "surprised")  # MEAD's eight
MAX_TEXT_LENGTH = 1_000  # characters
MAX_TRACK_KEYS = 1_000
MAX_TRACK_BYTES = 1_000_000
INVALID = "emotion_invalid"
KEY_REMEDY = "Give time_s with emotion (and intensity), or with text."


# ----------------------------------------------------------------------------------------------------------- checks


def emotion_index(emotion: str) -> int:
    """Return the emotion's position in EMOTIONS.

    Raises:
        InvalidValueError: the emotion is unknown; the remedy names the closest ones.
    """
    if emotion in EMOTIONS:
        return EMOTIONS.index(emotion)
    closest = difflib.get_close_matches(emotion.strip().lower(), EMOTIONS, n=2, cutoff=0.4)
    hint = f"Did you mean {' or '.join(closest)}? " if closest else ""
    raise InvalidValueError(
        INVALID, f"there is no emotion '{emotion}'", f"{hint}The emotions are {', '.join(EMOTIONS)}."
    )


def check_intensity(intensity: float) -> float:
    """Return the intensity.

    Raises:
        InvalidValueError: it lies outside 0..1 or is NaN.
    """
    if not 0.0 <= intensity <= 1.0:
        raise InvalidValueError(
            INVALID, f"intensity is {intensity}; it goes from 0 (neutral) to 1 (full)", "Give a number in that range."
        )
    return intensity


def check_text(text: str) -> str:
    """Return the text.

    Raises:
        InvalidValueError: it is blank or longer than MAX_TEXT_LENGTH.
    """
    if not text.strip():
        raise InvalidValueError(INVALID, "the emotion text is empty", 'Describe how to speak, such as "Be cheerful".')
    if len(text) > MAX_TEXT_LENGTH:
        raise InvalidValueError(
            INVALID,
            f"the emotion text has {len(text)} characters; the limit is {MAX_TEXT_LENGTH}",
            "Describe the emotion in a sentence or two.",
        )
    return text


def check_num_keys(num_keys: int) -> None:
    """Raise InvalidValueError unless a track has 1 to MAX_TRACK_KEYS keys."""
    if num_keys < 1:
        raise InvalidValueError(INVALID, "the emotion track has no keys", "Give at least one.")
    if num_keys > MAX_TRACK_KEYS:
        raise InvalidValueError(
            INVALID, f"the emotion track has {num_keys} keys; the limit is {MAX_TRACK_KEYS}", "Remove some."
        )


def check_key_time(time_s: float) -> None:
    """Raise InvalidValueError unless the time of a track's key is finite and not negative."""
    if not (math.isfinite(time_s) and time_s >= 0):
        raise InvalidValueError(INVALID, f"an emotion key is at {time_s} s", "Give a time of 0 s or later.")


def check_key_order(times_s: Iterable[float]) -> None:
    """Raise InvalidValueError unless the times of a track's keys, in seconds, increase."""
    for before, after in itertools.pairwise(times_s):
        if after <= before:
            raise InvalidValueError(
                INVALID,
                f"the emotion track's key at {after} s follows the one at {before} s",
                "Sort the keys by time, and give one key for each time.",
            )


# ------------------------------------------------------------------------------------------------------------ kinds


class LabelEmotion(Frozen):
    """One of EMOTIONS, by name."""

    kind: Literal["label"] = "label"
    emotion: str = Field(max_length=32)
    intensity: float = Field(default=1.0, ge=0.0, le=1.0, description="0 is neutral, 1 is full.")

    @field_validator("emotion")
    @classmethod
    def _is_known(cls, emotion: str) -> str:
        return EMOTIONS[emotion_index(emotion)]


class TextEmotion(Frozen):
    """A description in English."""

    kind: Literal["text"] = "text"
    text: str = Field(min_length=1, max_length=MAX_TEXT_LENGTH)

    _is_not_blank = field_validator("text")(check_text)


class ImageEmotion(Frozen):
    """The expression in a picture, which is sent beside the request."""

    kind: Literal["image"] = "image"


class VideoEmotion(Frozen):
    """The expressions in a video, frame by frame, which is sent beside the request."""

    kind: Literal["video"] = "video"


class SpeechEmotion(Frozen):
    """The tone of the speech itself."""

    kind: Literal["speech"] = "speech"


class TrackKey(Frozen):
    """An emotion, by label or text, that holds from `time_s` on, after a cross-fade."""

    time_s: float = Field(ge=0.0, strict=True, description="Seconds from the start of the video.")
    emotion: str | None = Field(default=None, max_length=32)
    intensity: float | None = Field(default=None, ge=0.0, le=1.0, strict=True)
    text: str | None = Field(default=None, min_length=1, max_length=MAX_TEXT_LENGTH)

    def source(self) -> LabelEmotion | TextEmotion:
        """Return the key's emotion.

        Raises:
            InvalidValueError: the key has neither a label nor a text, or both; or the label or text is invalid.
        """
        by_text = self.text is not None and self.emotion is None and self.intensity is None
        if not by_text and (self.emotion is None or self.text is not None):
            given = ", ".join(sorted(self.model_dump(exclude_none=True)))
            raise InvalidValueError(INVALID, f"the fields are {given}", KEY_REMEDY)
        if by_text:
            return TextEmotion(text=check_text(self.text or ""))
        assert self.emotion is not None
        intensity = 1.0 if self.intensity is None else self.intensity
        return LabelEmotion(emotion=EMOTIONS[emotion_index(self.emotion)], intensity=intensity)


class TrackEmotion(Frozen):
    """Emotions along the video, cross-faded between keys. The first key holds from the start."""

    kind: Literal["track"] = "track"
    keys: tuple[TrackKey, ...] = Field(min_length=1, max_length=MAX_TRACK_KEYS)

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        check_key_order(key.time_s for key in self.keys)
        for number, key in enumerate(self.keys, start=1):
            try:
                key.source()
            except InvalidValueError as error:
                raise error.within(f"emotion track, key {number}") from error
        return self


Emotion: TypeAlias = Annotated[
    LabelEmotion | TextEmotion | ImageEmotion | VideoEmotion | SpeechEmotion | TrackEmotion,
    Field(discriminator="kind"),
]


# ---------------------------------------------------------------------------------------------------------- parsing


def parse_label(text: str) -> LabelEmotion:
    """Parse "happy" or "happy:0.8".

    Raises:
        InvalidValueError: the emotion is unknown, or the intensity is not a number in 0..1.
    """
    emotion, colon, intensity = (part.strip() for part in text.partition(":"))
    emotion = EMOTIONS[emotion_index(emotion)]
    if not colon:
        return LabelEmotion(emotion=emotion)
    try:
        value = float(intensity)
    except ValueError as error:
        raise InvalidValueError(
            INVALID, f"the intensity in '{text[:40]}' is not a number", "Write it as in happy:0.8."
        ) from error
    return LabelEmotion(emotion=emotion, intensity=check_intensity(value))


def parse_track(keys: object) -> TrackEmotion:
    """Parse a track's keys: `[{"time_s": 0, "emotion": "happy", "intensity": 0.8}, {"time_s": 2, "text": "..."}]`.

    Raises:
        InvalidValueError: something else, or a key that is invalid, by its number.
    """
    if not isinstance(keys, list | tuple) or not all(isinstance(key, Mapping) for key in keys):
        raise InvalidValueError(INVALID, "the emotion track is not a list of keys", "Write a list of JSON objects.")
    check_num_keys(len(keys))
    parsed = []
    for number, key in enumerate(keys, start=1):
        try:
            parsed.append(TrackKey.model_validate(dict(key)))
        except ValidationError as error:
            message = f"emotion track, key {number}: {invalid_request(error).message}"
            raise InvalidValueError(INVALID, message, KEY_REMEDY) from error
    return checked(TrackEmotion, keys=tuple(parsed))


def read_track(path: Path) -> TrackEmotion:
    """Read a JSON file of a track's keys.

    Raises:
        InputError: the file cannot be read, is not JSON, or does not hold a track.
    """
    check_readable(path, "track", MAX_TRACK_BYTES)
    try:
        keys = json.loads(path.read_text(encoding="utf-8-sig"))  # with or without a byte order mark
    except ValueError as error:  # includes UnicodeDecodeError
        raise InvalidValueError(
            INVALID, f"track {quoted(path)} is not JSON ({error})", "Write a list of keys."
        ) from error
    return parse_track(keys)


def parse_emotion(value: object) -> object:
    """Turn what forms and JSON may hold into what `Emotion` validates: JSON text, `name[:intensity]`, or keys.

    Raises:
        ValueError: text that looks like JSON but is not; InvalidValueError: an invalid label or track.
    """
    if isinstance(value, str):
        if not value.lstrip().startswith(("{", "[")):
            return parse_label(value) if value.strip() else None
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it looks like JSON but is not ({error})") from error
    return {"kind": "track", "keys": value} if isinstance(value, list) else value


# -------------------------------------------------------------------------------------------------- named arguments


@dataclass(frozen=True)
class EmotionArgument:
    """One of the arguments by which an emotion is given, of which a caller uses at most one.

    Attributes:
        parse: makes the emotion from the argument's value; the file of an image or video is not looked at.
        type: of the value on the command line.
        metavar: placeholder of the value in help texts; None derives it from the type.
    """

    parse: Callable[[Any], Emotion]
    type: type
    description: str
    metavar: str | None = None


def _text(text: str) -> TextEmotion:
    return TextEmotion(text=check_text(text))


def _track(value: Any) -> TrackEmotion:
    return parse_track(value) if isinstance(value, list | tuple) else read_track(Path(value))


EMOTION_ARGUMENTS = {
    "emotion": EmotionArgument(parse_label, str, "Named emotion, such as happy or sad:0.6.", "NAME[:INTENSITY]"),
    "emotion_text": EmotionArgument(_text, str, 'Description in English, such as "Be cheerful".', "TEXT"),
    "emotion_image": EmotionArgument(lambda _: ImageEmotion(), Path, "Picture of a face with the expression."),
    "emotion_video": EmotionArgument(lambda _: VideoEmotion(), Path, "Video of a face with the expressions."),
    "emotion_track": EmotionArgument(
        _track, Path, 'JSON file of emotions along time: [{"time_s": 0, "emotion": "sad"}, ...].'
    ),
    "emotion_from_speech": EmotionArgument(lambda _: SpeechEmotion(), bool, "Emotion of the voice in the speech."),
}


def only_one(names: Iterable[str]) -> str | None:
    """Return the one name of an emotion argument that was given, or None.

    Raises:
        InputError: code "emotion_conflict": several were given.
    """
    names = list(names)
    if len(names) > 1:
        raise InputError("emotion_conflict", f"{' and '.join(names)} cannot be given together", "Choose one of them.")
    return names[0] if names else None


def choose_emotion(arguments: Mapping[str, Any], spell: Callable[[str], str] = str) -> Emotion | None:
    """Make the emotion of the arguments named in EMOTION_ARGUMENTS; None and False stand for "not given".

    Args:
        spell: gives the name by which the user knows an argument, for error messages.

    Raises:
        InputError: several were given, or the value of the one is invalid.
    """
    given = {name: value for name, value in arguments.items() if value is not None and value is not False}
    only_one(spell(name) for name in given)
    for name, value in given.items():
        return EMOTION_ARGUMENTS[name].parse(value)
    return None
