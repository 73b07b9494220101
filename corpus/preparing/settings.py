"""Settings of the preparation: what a corpus depends on besides the raw videos and their labels."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from emotivetalk.corpus.records import SCHEMA_VERSION

WORK_VERSION = 4
"""Version of the preparation; increase it when the same video would give other clips."""
SYNC_NETWORKS = ("lip_encoder", "audio_encoder", "vaid")


@dataclass(frozen=True)
class PrepareSettings:
    """Length, size and acceptance thresholds of clips.

    Attributes:
        num_frames: frames of a clip at 25 a second.
        size: side of its pictures in pixels.
        min_face: least width of a face in the raw picture in pixels.
        min_sharpness: least variance of the smoothed face's Laplacian at 256 x 256, grey levels squared.
        min_speech: least share of a clip's frames with speech.
        max_offset: largest correction of the sound's offset in frames.
        held_out: share of the speakers that are held out from training.
        labelled_only: skip videos without a label instead of labelling them neutral.
        sync: hash of the weights that measure synchrony; None skips the measurement.
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
        """Return the values by name, with the versions of schema and preparation."""
        return {**asdict(self), "schema": SCHEMA_VERSION, "work": WORK_VERSION}

    @property
    def key(self) -> str:
        """Hash of the settings."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()[:16]


def weights_hash(checkpoint: Path) -> str:
    """Hash all files of the networks that measure synchrony."""
    digest = hashlib.sha256()
    for network in SYNC_NETWORKS:
        for path in sorted((checkpoint / network).iterdir()):
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
