"""How a corpus is prepared: everything that its content depends on besides the raw videos and their labels."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from emotivetalk.corpus.records import SCHEMA_VERSION

WORK_VERSION = 4
"""Raised whenever the same video would give other clips."""
SYNC_NETWORKS = ("lip_encoder", "audio_encoder", "vaid")


@dataclass(frozen=True)
class Settings:
    """What is cut and what is kept.

    Attributes:
        num_frames: of a clip, at 25 a second.
        size: side of its pictures in pixels.
        min_face: least width of a face in the raw picture, pixels.
        min_sharpness: least variance of the smoothed face's Laplacian at 256 x 256, grey levels squared.
        min_speech: least share of a clip's frames in which a voice is heard.
        max_offset: frames by which sound may be moved to meet the lips.
        held_out: share of the speakers that training never sees.
        labelled_only: leave out what has no label, rather than to take it as neutral.
        sync: hash of the weights that measure synchrony; None leaves that out.
    """

    num_frames: int = 64
    size: int = 256
    min_face: int = 64
    min_sharpness: float = 5.0
    min_speech: float = 0.15
    max_offset: int = 10
    held_out: float = 0.1
    labelled_only: bool = False
    sync: str | None = None

    def as_json(self) -> dict[str, object]:
        """Plain values by name, with the versions of schema and work."""
        return {**asdict(self), "schema": SCHEMA_VERSION, "work": WORK_VERSION}

    @property
    def key(self) -> str:
        """The same for equal settings."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()[:16]


def weights_hash(checkpoint: Path) -> str:
    """Of the networks that measure synchrony, all their files."""
    digest = hashlib.sha256()
    for network in SYNC_NETWORKS:
        for path in sorted((checkpoint / network).iterdir()):
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
