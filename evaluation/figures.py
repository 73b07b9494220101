"""Results of an evaluation: figures with ceilings and floors, curves, tables and pictures (ours)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from emotivetalk.evaluation.kinds import Kind
from emotivetalk.evaluation.metrics import Estimate, LagCurve, MotionStatistics
from emotivetalk.evaluation.settings import EvaluationSettings


@dataclass(frozen=True)
class Figure:
    """One number of the report.

    Attributes:
        key: identifier, such as "mouth_r.held_out".
        title: text in the report.
        value: result on generated video.
        ceiling: result of the same measurement on true frames; None if there is none.
        floor: result of a mismatched pairing, such as another clip's speech; None if there is none.
        unit: unit of the value, such as "dB".
        at_least, at_most: bounds that must hold; None for no bound.
    """

    key: str
    title: str
    value: Estimate
    ceiling: Estimate | None = None
    floor: Estimate | None = None
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_better_higher(self) -> bool | None:
        """True if a larger value is better, by the bounds or else by ceiling and floor; None if neither decides."""
        if (self.at_least is None) != (self.at_most is None):
            return self.at_least is not None
        if self.ceiling is None or self.floor is None or self.ceiling.value == self.floor.value:
            return None
        return self.ceiling.value > self.floor.value

    @property
    def holds(self) -> bool | None:
        """True if the value is within its bounds; None without bounds."""
        if self.at_least is None and self.at_most is None:
            return None
        return (self.at_least is None or self.value.value >= self.at_least) and (
            self.at_most is None or self.value.value <= self.at_most
        )


@dataclass(frozen=True)
class Lags:
    """Correlation of measured and true mouth opening over lags; the ceiling is measured on true frames."""

    title: str
    curve: LagCurve
    ceiling: LagCurve


@dataclass(frozen=True, eq=False)
class Confusion:
    """Number of clips by target emotion (rows) and recognized emotion (columns), in the order of EMOTIONS."""

    title: str
    counts: Int[np.ndarray, "8 8"]


@dataclass(frozen=True)
class MotionRow:
    """Motion statistics of one parameter in generated and in true frames."""

    name: str
    generated: MotionStatistics
    truth: MotionStatistics


@dataclass(frozen=True, eq=False)
class Seam:
    """Change between frames around the borders of long clips, relative to the median change.

    Attributes:
        offsets: frames relative to the border; 0 is the step into the border's frame.
        generated, truth: relative change in generated and in true frames.
    """

    title: str
    offsets: tuple[int, ...]
    generated: tuple[float, ...]
    truth: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Drift:
    """PSNR of each second of the long clips against their first, averaged over clips."""

    generated_db: Float[np.ndarray, " seconds"]
    truth_db: Float[np.ndarray, " seconds"]


@dataclass(frozen=True, eq=False)
class ReportVideo:
    """A video for the report: generated and true frames side by side, with the speech."""

    name: str
    frames: UInt8[np.ndarray, "frames height width 3"]
    waveform: Float[np.ndarray, " samples"]


@dataclass(frozen=True, eq=False)
class ReportPicture:
    """A frame for the contact sheet."""

    label: str
    image: UInt8[np.ndarray, "size size 3"]


@dataclass(frozen=True, eq=False)
class KindReport:
    """All results on one kind of people.

    Attributes:
        drift: None without long clips.
        notes: parts that were not measured, with the reason.
    """

    kind: Kind
    figures: tuple[Figure, ...]
    lags: tuple[Lags, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    motions: tuple[MotionRow, ...] = ()
    drift: Drift | None = None
    seams: tuple[Seam, ...] = ()
    pictures: tuple[ReportPicture, ...] = ()
    videos: tuple[ReportVideo, ...] = ()
    notes: tuple[str, ...] = ()

    def figure(self, key: str) -> Figure:
        """Return the figure with this key. Raises KeyError if it was not measured."""
        return {figure.key: figure for figure in self.figures}[key]

    @property
    def failures(self) -> tuple[Figure, ...]:
        """Figures outside their bounds."""
        return tuple(figure for figure in self.figures if figure.holds is False)


@dataclass(frozen=True, eq=False)
class EvaluationReport:
    """All results of an evaluation, one part for each kind of people in the corpus."""

    settings: EvaluationSettings
    kinds: tuple[KindReport, ...]
    num_frames: int
    seconds: float

    def of(self, kind: Kind) -> KindReport:
        """Return the part of this kind. Raises KeyError if it was not measured."""
        return {part.kind: part for part in self.kinds}[kind]
