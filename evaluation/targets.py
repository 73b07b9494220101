"""Bounds of the starter's figures, in one table for the report, CI and the documentation (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from emotivetalk.evaluation.figures import Figure
from emotivetalk.evaluation.kinds import Kind


@dataclass(frozen=True)
class Bound:
    """Least or greatest allowed value of a figure, in the figure's unit."""

    at_least: float | None = None
    at_most: float | None = None


EDI_MARGIN = 0.05
"""Least loss of recognition rate without EDI: one clip in twenty (ours)."""

_MOTION = ("velocity", "low", "middle", "high", "variance", "blinks")

_AVATARS: Mapping[str, Bound] = {
    "mouth_r.held_out": Bound(at_least=0.92),
    "mouth_r.foreign": Bound(at_least=0.78),
    "mouth_r.swapped": Bound(at_least=0.90),
    "emotion.label": Bound(at_least=0.95),
    "emotion.image": Bound(at_least=0.97),
    "emotion.text": Bound(at_least=0.74),
    "emotion.video": Bound(at_least=0.97),
    "emotion.speech": Bound(at_least=0.51),
    "intensity": Bound(at_least=0.7),
    "track.delay": Bound(at_most=0.4),
    "retrieval": Bound(at_least=0.93),
    "edi.margin": Bound(at_least=EDI_MARGIN),
    **{f"motion.{name}": Bound(at_most=0.20) for name in _MOTION},
    "long.mouth_fall": Bound(at_most=0.02),
    "long.drift": Bound(at_least=50.0),
    "long.seam_segments": Bound(at_most=1.05),
    "long.seam_unbroken": Bound(at_most=1.05),
    "long.seam_chunks": Bound(at_most=1.05),
    "vae.whole": Bound(at_least=37.8),
    "vae.mouth": Bound(at_least=31.9),
    "vae.eyes": Bound(at_least=30.3),
    "vae.high_pass": Bound(at_least=0.7),
    "driven.psnr": Bound(at_least=25.0),
    "driven.high_pass": Bound(at_least=0.7),
    "mesh.faces": Bound(at_least=1.0),
}

MUST_HOLD: Mapping[Kind, Mapping[str, Bound]] = {
    "avatars": _AVATARS,
    "photographs": {
        **_AVATARS,
        "mouth_r.held_out": Bound(at_least=0.88),
        "mouth_r.swapped": Bound(at_least=0.86),
        "emotion.label": Bound(at_least=0.90),
        "emotion.image": Bound(at_least=0.85),
        "emotion.text": Bound(at_least=0.70),
        "emotion.video": Bound(at_least=0.85),
        "emotion.speech": Bound(at_least=0.45),
        **{f"motion.{name}": Bound(at_most=0.25) for name in _MOTION},
        "long.mouth_fall": Bound(at_most=0.03),
        "long.drift": Bound(at_least=45.0),
        "vae.whole": Bound(at_least=31.0),
        "vae.mouth": Bound(at_least=32.0),
        "vae.eyes": Bound(at_least=29.0),
        "driven.psnr": Bound(at_least=24.0),
        "driven.high_pass": Bound(at_least=0.65),
    },
}
"""Bounds by kind and figure key. Bounds that depend on the ceiling are set where the figure is computed."""


def with_bound(figure: Figure, kind: Kind) -> Figure:
    """Return the figure with its bound from the table, or unchanged if the table has none."""
    bound = MUST_HOLD[kind].get(figure.key)
    return figure if bound is None else replace(figure, at_least=bound.at_least, at_most=bound.at_most)
