"""What became of a raw video: a row for the file and a row for each clip in it, and the part that holds its clips.

A part is one Parquet file of the corpus's schema with the rows in its metadata. It is written whole or not at all, and
carries a stamp of everything it was made from, so whoever finds it knows whether it is still good.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from emotivetalk.corpus.preparing.labels import Label
from emotivetalk.corpus.preparing.reasons import Reason
from emotivetalk.corpus.records import Clip, read_clips, read_notes, write_clips
from emotivetalk.errors import InputError
from emotivetalk.files import atomic_write, writing
from emotivetalk.media.image_codec import encode_pictures, scaled

THUMBNAIL = 96  # pixels
_RESULT_KEY = b"emotivetalk.prepare.result"
_STAMP_KEY = b"emotivetalk.prepare.stamp"


@dataclass(frozen=True)
class Source:
    """A raw video that was asked for.

    Attributes:
        uri: a path or a URL.
        name: what the report and its clips call it: unique, without what lies above the folder that was named.
        fingerprint: of its content as far as that can be told without reading it; "" if it cannot be reached.
        label: what is known of it.
    """

    uri: str
    name: str
    fingerprint: str
    label: Label

    @property
    def part_name(self) -> str:
        """Of the file that holds its clips."""
        return f"{hashlib.sha256(self.name.encode()).hexdigest()[:24]}.parquet"

    def stamp(self, settings_key: str) -> str:
        """Equal for equal inputs of the work on this file."""
        facts = [settings_key, self.name, self.fingerprint, asdict(self.label)]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Scores:
    """What was measured of a clip; None where it did not come to that.

    Attributes:
        face: median width of the face in the raw picture, pixels.
        sharpness: see `Settings.min_sharpness`.
        speech: share of frames with a voice.
        offset: frames by which the sound was late; None too where nothing can be claimed.
        confidence: of the offset (`synchrony.Offset.lead`).
        moved: frames by which the sound was moved to meet the lips.
    """

    face: float | None = None
    sharpness: float | None = None
    speech: float | None = None
    offset: float | None = None
    confidence: float | None = None
    moved: int = 0


@dataclass(frozen=True)
class ClipRow:
    """A stretch of a file that could have been a clip, and was if there is no reason.

    start_s, end_s: in the file; thumbnail: a small JPEG in base 64, "" if there is none.
    """

    clip_id: str
    start_s: float
    end_s: float
    reason: Reason | None
    scores: Scores = field(default_factory=Scores)
    thumbnail: str = ""


@dataclass(frozen=True)
class FileRow:
    """A file: its clips, or the reason why it has none at all, with what was wrong in words."""

    name: str
    label: Label
    reason: Reason | None = None
    message: str = ""
    duration_s: float | None = None
    clips: tuple[ClipRow, ...] = ()

    @property
    def num_kept(self) -> int:
        """Clips in the corpus."""
        return sum(row.reason is None for row in self.clips)

    def to_json(self) -> str:
        """The whole row."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> FileRow:
        """What `to_json` wrote."""
        row: dict[str, Any] = json.loads(text)
        clips = tuple(
            ClipRow(**clip | {"scores": Scores(**clip["scores"]), "reason": _reason(clip["reason"])})
            for clip in row["clips"]
        )
        return FileRow(**row | {"clips": clips, "label": Label(**row["label"]), "reason": _reason(row["reason"])})


def _reason(value: str | None) -> Reason | None:
    return None if value is None else Reason(value)


def thumbnail(picture: UInt8[np.ndarray, "height width 3"]) -> str:
    """A picture's middle square as a small JPEG in base 64."""
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    square = np.ascontiguousarray(picture[top : top + side, left : left + side])
    return base64.b64encode(encode_pictures([scaled(square, THUMBNAIL, THUMBNAIL)])[0]).decode()


def write_part(folder: Path, source: Source, settings_key: str, row: FileRow, clips: Sequence[Clip]) -> Path:
    """Write a file's part, atomically.

    Raises:
        OutputError: the disk is full, or the folder is gone.
    """
    path = folder / source.part_name
    notes = {_RESULT_KEY: row.to_json().encode(), _STAMP_KEY: source.stamp(settings_key).encode()}
    with atomic_write(path) as temporary, writing(path):
        write_clips(clips, temporary, notes)
    return path


def has_part(folder: Path, source: Source, settings_key: str) -> bool:
    """Whether there is a part of exactly this input, under these settings, that can be read."""
    path = folder / source.part_name
    if not path.is_file():
        return False
    try:
        if read_notes(path).get(_STAMP_KEY) != source.stamp(settings_key).encode():
            return False
        return read_row(folder, source).reason is not Reason.NOT_FETCHED  # which may be otherwise next time
    except InputError:
        return False


def read_row(folder: Path, source: Source) -> FileRow:
    """The rows of a part. Raises InputError if it cannot be read."""
    return FileRow.from_json(read_notes(folder / source.part_name)[_RESULT_KEY].decode())


def read_part(folder: Path, source: Source) -> Iterator[Clip]:
    """The clips of a part. Raises InputError if it cannot be read."""
    return read_clips(folder / source.part_name)
