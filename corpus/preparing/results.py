"""Results of preparing a raw video: a row for the file, a row for each clip, and the part that holds the clips.

A part is one Parquet file of the corpus's schema with the rows in its metadata. It is written atomically, and carries a
stamp of all inputs, which shows if it is still valid.
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
class VideoSource:
    """A raw video to prepare.

    Attributes:
        uri: path or URL.
        name: unique name in the report and in clip identifiers, relative to the folder that the user gave.
        fingerprint: size and times of the content, without reading it; "" if it cannot be reached.
        label: label of the video.
    """

    uri: str
    name: str
    fingerprint: str
    label: Label

    @property
    def part_name(self) -> str:
        """Name of the file that holds its clips."""
        return f"{hashlib.sha256(self.name.encode()).hexdigest()[:24]}.parquet"

    def stamp(self, settings_key: str) -> str:
        """Hash all inputs of the preparation of this video."""
        facts = [settings_key, self.name, self.fingerprint, asdict(self.label)]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Scores:
    """Measurements of a clip; None if a check before them rejected it.

    Attributes:
        face: median width of the face in the raw picture in pixels.
        sharpness: see `PrepareSettings.min_sharpness`.
        speech: share of frames with speech.
        offset: frames by which the sound was late; also None if the measurement is not reliable.
        confidence: confidence of the offset (`synchrony.Offset.lead`).
        moved: frames by which the sound was shifted to match the lips.
    """

    face: float | None = None
    sharpness: float | None = None
    speech: float | None = None
    offset: float | None = None
    confidence: float | None = None
    moved: int = 0


@dataclass(frozen=True)
class ClipRow:
    """Result of a candidate clip.

    Attributes:
        start_s, end_s: its time in the file.
        reason: reason why it was dropped; None if it was kept.
        thumbnail: small JPEG in base 64; "" if there is none.
    """

    clip_id: str
    start_s: float
    end_s: float
    reason: Reason | None
    scores: Scores = field(default_factory=Scores)
    thumbnail: str = ""


@dataclass(frozen=True)
class FileRow:
    """Result of a file: its clips, or the reason why it has none, with a message."""

    name: str
    label: Label
    reason: Reason | None = None
    message: str = ""
    duration_s: float | None = None
    clips: tuple[ClipRow, ...] = ()

    @property
    def num_kept(self) -> int:
        """Number of clips that were kept."""
        return sum(row.reason is None for row in self.clips)

    def to_json(self) -> str:
        """Serialize the row."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> FileRow:
        """Parse a row that `to_json` wrote."""
        row: dict[str, Any] = json.loads(text)
        clips = tuple(
            ClipRow(**clip | {"scores": Scores(**clip["scores"]), "reason": _reason(clip["reason"])})
            for clip in row["clips"]
        )
        return FileRow(**row | {"clips": clips, "label": Label(**row["label"]), "reason": _reason(row["reason"])})


def _reason(value: str | None) -> Reason | None:
    return None if value is None else Reason(value)


def thumbnail(picture: UInt8[np.ndarray, "height width 3"]) -> str:
    """Encode the middle square of a picture as a small JPEG in base 64."""
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    square = np.ascontiguousarray(picture[top : top + side, left : left + side])
    return base64.b64encode(encode_pictures([scaled(square, THUMBNAIL, THUMBNAIL)])[0]).decode()


def write_part(folder: Path, source: VideoSource, settings_key: str, row: FileRow, clips: Sequence[Clip]) -> Path:
    """Write the part of a video atomically.

    Raises:
        OutputError: the disk is full, or the folder does not exist.
    """
    path = folder / source.part_name
    notes = {_RESULT_KEY: row.to_json().encode(), _STAMP_KEY: source.stamp(settings_key).encode()}
    with atomic_write(path) as temporary, writing(path):
        write_clips(clips, temporary, notes)
    return path


def has_part(folder: Path, source: VideoSource, settings_key: str) -> bool:
    """Return True if there is a readable part of this input with these settings."""
    path = folder / source.part_name
    if not path.is_file():
        return False
    try:
        if read_notes(path).get(_STAMP_KEY) != source.stamp(settings_key).encode():
            return False
        return read_row(folder, source).reason is not Reason.NOT_FETCHED  # fetching may succeed next time
    except InputError:
        return False


def read_row(folder: Path, source: VideoSource) -> FileRow:
    """Read the rows of a part. Raises InputError if it cannot be read."""
    return FileRow.from_json(read_notes(folder / source.part_name)[_RESULT_KEY].decode())


def read_part(folder: Path, source: VideoSource) -> Iterator[Clip]:
    """Read the clips of a part. Raises InputError if it cannot be read."""
    return read_clips(folder / source.part_name)
