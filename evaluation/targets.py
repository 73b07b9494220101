"""Bounds of the starter's figures, in one table for the report, CI and the documentation (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from emotivetalk.evaluation.figures import Figure


@dataclass(frozen=True)
class Bound:
    """Least or greatest allowed value of a figure, in the figure's unit."""

    at_least: float | None = None
    at_most: float | None = None


EDI_MARGIN = 0.05
"""Least loss of recognition rate without EDI: one clip in twenty (ours)."""

MUST_HOLD: Mapping[str, Bound] = {
    "mouth_r.held_out": Bound(at_least=0.85),
    "mouth_r.foreign": Bound(at_least=0.78),
    "mouth_r.swapped": Bound(at_least=0.85),
    "emotion.label": Bound(at_least=0.75),
    "emotion.image": Bound(at_least=0.65),
    "emotion.text": Bound(at_least=0.65),
    "emotion.video": Bound(at_least=0.70),
    "emotion.speech": Bound(at_least=0.40),
    "intensity": Bound(at_least=0.7),
    "track.delay": Bound(at_most=0.4),
    "retrieval": Bound(at_least=0.93),
    "edi.margin": Bound(at_least=EDI_MARGIN),
    **{f"motion.{name}": Bound(at_most=0.20) for name in ("velocity", "low", "middle", "high", "variance", "blinks")},
    "long.mouth_fall": Bound(at_most=0.05),
    "long.drift": Bound(at_least=38.0),
    "long.seam_segments": Bound(at_most=1.05),
    "long.seam_unbroken": Bound(at_most=1.05),
    "long.seam_chunks": Bound(at_most=1.05),
    "vae.whole": Bound(at_least=34.0),
    "vae.mouth": Bound(at_least=32.0),
    "vae.eyes": Bound(at_least=28.0),
    "vae.high_pass": Bound(at_least=0.7),
    "driven.psnr": Bound(at_least=28.0),
    "driven.high_pass": Bound(at_least=0.6),
}
"""Bounds by figure key. The bounds of decoupling depend on the ceiling; `decoupling.py` sets them."""


def with_bound(figure: Figure) -> Figure:
    """Return the figure with its bound from the table, or unchanged if the table has none."""
    bound = MUST_HOLD.get(figure.key)
    return figure if bound is None else replace(figure, at_least=bound.at_least, at_most=bound.at_most)
