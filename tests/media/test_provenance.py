"""The mark survives muxing, in full, and only marked files are taken for marked."""

from pathlib import Path

import av
import numpy as np
import pytest

from emotivetalk.media.mux import VideoWriter
from emotivetalk.media.provenance import SYNTHETIC_MEDIA, Provenance, read_provenance

GREY = np.full((2, 32, 48, 3), 100, np.uint8)


def write(path: Path, tags: dict[str, str]) -> Path:
    with VideoWriter(path, 48, 32, metadata=tags, threads=1) as writer:
        writer.write(GREY)
    return path


@pytest.mark.parametrize(
    "provenance",
    [Provenance("starter sha256:12ab", 0, "EmotiveTalk 0.1.0"), Provenance(None, None), Provenance("größer=;\\x", -3)],
)
def test_round_trip(tmp_path: Path, provenance: Provenance) -> None:
    path = write(tmp_path / "out.mp4", provenance.tags())
    assert read_provenance(path) == provenance
    with av.open(str(path)) as container:
        tags = container.metadata
    assert tags["comment"].startswith("AI-generated video (EmotiveTalk")
    assert tags["digitalSourceType"] == SYNTHETIC_MEDIA


def test_other_videos_carry_no_mark(tmp_path: Path) -> None:
    assert read_provenance(write(tmp_path / "out.mp4", {"comment": "holiday"})) is None
    assert read_provenance(write(tmp_path / "plain.mp4", {})) is None
