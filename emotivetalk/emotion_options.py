"""The emotion options of the command line: at most one of them, checked before anything is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emotivetalk.checks import as_input_error
from emotivetalk.errors import InputError
from emotivetalk.files import check_readable
from emotivetalk.limits import Limits

if TYPE_CHECKING:
    from emotivetalk.models.emotion import EmotionSource, EmotionTrack

MAX_TRACK_BYTES = 1_000_000


@dataclass(frozen=True)
class EmotionOptions:
    """What the user gave of the emotion options; none of them means the portrait's own expression."""

    label: str | None = None
    text: str | None = None
    image: Path | None = None
    video: Path | None = None
    track: Path | None = None
    from_speech: bool = False

    def check(self) -> None:
        """Raise InputError where options conflict or a file is missing. Imports nothing heavy."""
        options = {
            "--emotion": self.label is not None,
            "--emotion-text": self.text is not None,
            "--emotion-image": self.image is not None,
            "--emotion-video": self.video is not None,
            "--emotion-track": self.track is not None,
            "--emotion-from-speech": self.from_speech,
        }
        given = [option for option, is_given in options.items() if is_given]
        if len(given) > 1:
            raise InputError(
                "emotion_conflict",
                f"{' and '.join(given)} cannot be given together",
                "Choose one of the emotion options.",
            )
        limits = Limits()
        if self.image is not None:
            check_readable(self.image, "image", limits.image_bytes)
        if self.video is not None:
            check_readable(self.video, "video", limits.media_bytes)
        if self.track is not None:
            check_readable(self.track, "track", MAX_TRACK_BYTES)

    def source(self, duration_s: float) -> EmotionSource:
        """The emotion source that was asked for, with its files read.

        Args:
            duration_s: how long the speech is; no more of a video is read.

        Raises:
            InputError: an unknown emotion, an intensity outside 0..1, or a file with something else in it.
        """
        from emotivetalk.models.emotion import EmotionImage, EmotionSpeech, EmotionText, EmotionVideo, parse_label

        try:
            if self.label is not None:
                return parse_label(self.label)
            if self.text is not None:
                return EmotionText(self.text)
            if self.track is not None:
                return _read_track(self.track)
        except ValueError as error:
            raise as_input_error("emotion_invalid", error) from error
        if self.image is not None or self.video is not None:
            from emotivetalk.pictures import read_emotion_image, read_emotion_video

            if self.image is not None:
                return EmotionImage(read_emotion_image(self.image))
            if self.video is not None:
                return EmotionVideo(read_emotion_video(self.video, duration_s))
        return EmotionSpeech() if self.from_speech else None


def _read_track(path: Path) -> EmotionTrack:
    from emotivetalk.models.emotion import EmotionTrack

    try:
        keys = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # bad UTF-8 is one too
        raise ValueError(f"{path} is not JSON: {error}. Write a list of keys, as --help shows.") from error
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise ValueError(f"{path} is not a list of keys. Write one, as --help shows.")
    return EmotionTrack.from_json(keys)
