"""The mark of generated videos, in the tags of the container.

The source type is from the vocabulary of IPTC, as in C2PA and XMP. Tags can be removed; they prove nothing.
"""

from dataclasses import dataclass
from pathlib import Path

from emotivetalk.limits import Limits
from emotivetalk.media.containers import open_media

SYNTHETIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
SOFTWARE = "EmotiveTalk"


@dataclass(frozen=True)
class Provenance:
    """Origin of a generated video.

    Attributes:
        checkpoint: name and hash of the checkpoint, or None if unknown.
        seed: seed of the sampling noise, or None if unknown.
        software: name and version.
    """

    checkpoint: str | None
    seed: int | None
    software: str = SOFTWARE

    def tags(self) -> dict[str, str]:
        """Return the mark as metadata for VideoWriter."""
        sentence = f"AI-generated video ({self.software})"
        tags = {
            "comment": sentence,
            "description": f"{sentence}: the face, its motion and its expression were made by a generative model.",
            "digitalSourceType": SYNTHETIC_MEDIA,
            "software": self.software,
        }
        if self.checkpoint is not None:
            tags["checkpoint"] = self.checkpoint
        if self.seed is not None:
            tags["seed"] = str(self.seed)
        return tags


def read_provenance(path: Path, limits: Limits | None = None) -> Provenance | None:
    """Read the mark; None if the file has none.

    Raises:
        InputError: not a media file.
    """
    with open_media(path, "video", limits or Limits()) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    if tags.get("digitalsourcetype") != SYNTHETIC_MEDIA:
        return None
    seed = tags.get("seed", "")
    return Provenance(
        checkpoint=tags.get("checkpoint"),
        seed=int(seed) if seed.lstrip("-").isdecimal() else None,
        software=tags.get("software", SOFTWARE),
    )
