"""Comparison of a report with a stored reference: no figure may leave its interval for the worse (ours; CI's check)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from emotivetalk.errors import InputError
from emotivetalk.evaluation.figures import EvaluationReport, Figure
from emotivetalk.evaluation.kinds import Kind
from emotivetalk.evaluation.metrics import Estimate
from emotivetalk.evaluation.settings import EvaluationSettings

_NO_WIDTH = 1e-6
_TOLERANCE = 1e-3  # for rounding in the file and for another order of summation


class ReferenceRow(BaseModel):
    """Stored figure: its value, its 95 % interval, and whether higher is better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float
    high: float
    is_better_higher: bool

    @property
    def limit(self) -> float:
        """Worst value within the interval."""
        return self.low if self.is_better_higher else self.high


class EvaluationReference(BaseModel):
    """Stored figures of a report, without those for which neither direction is better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint: str
    settings: EvaluationSettings
    rows: Mapping[Kind, Mapping[str, ReferenceRow]]


@dataclass(frozen=True)
class Regression:
    """A figure that is worse than its interval allows, or is missing (value None)."""

    kind: Kind
    key: str
    value: float | None
    row: ReferenceRow

    def __str__(self) -> str:
        name = f"{self.key} of {self.kind}"
        if self.value is None:
            return f"{name} is not measured any more; it was {self.row.value:.3f}"
        side = "below" if self.row.is_better_higher else "above"
        return f"{name} is {self.value:.3f}, {side} {self.row.limit:.3f}; it was {self.row.value:.3f}"


def reference_of(report: EvaluationReport, checkpoint: str) -> EvaluationReference:
    """Return the reference to store for a report."""
    rows: dict[Kind, dict[str, ReferenceRow]] = {
        part.kind: {
            figure.key: _row(figure.value, figure.is_better_higher)
            for figure in part.figures
            if figure.is_better_higher is not None
        }
        for part in report.kinds
    }
    return EvaluationReference(checkpoint=checkpoint, settings=report.settings, rows=rows)


def _row(estimate: Estimate, is_better_higher: bool) -> ReferenceRow:
    """Return a row; an interval without width (one clip, or equal clips) becomes the value plus or minus a tenth."""
    low, high = estimate.low, estimate.high
    if high - low < _NO_WIDTH:
        margin = abs(estimate.value) / 10
        low, high = estimate.value - margin, estimate.value + margin
    return ReferenceRow(
        value=round(estimate.value, 4), low=round(low, 4), high=round(high, 4), is_better_higher=is_better_higher
    )


def write_reference(reference: EvaluationReference, path: Path) -> None:
    """Write a reference as JSON; overwrite an existing file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(reference.model_dump(), indent=2) + "\n", encoding="utf-8")


def read_reference(path: Path) -> EvaluationReference:
    """Read a reference.

    Raises:
        InputError: the file cannot be read, or holds no reference.
    """
    try:
        return EvaluationReference.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            "reference_unreadable", f"{path} cannot be read: {error.strerror}", "Write one with --keep."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            "reference_invalid", f"{path} is no reference: {first['msg']}", "Write it again with --keep."
        ) from error


def find_regressions(report: EvaluationReport, reference: EvaluationReference) -> list[Regression]:
    """List the figures that are worse than the reference's interval, and the missing ones, kind by kind.

    Raises:
        InputError: the report was made with other settings.
    """
    if report.settings != reference.settings:
        ours, theirs = report.settings.model_dump(), reference.settings.model_dump()
        differ = ", ".join(name for name in ours if ours[name] != theirs[name])
        raise InputError(
            "reference_differs",
            f"the report and the reference differ in their settings: {differ}",
            "Evaluate with the same options, or write the reference again with --keep.",
        )
    figures = {(part.kind, figure.key): figure for part in report.kinds for figure in part.figures}
    regressions = []
    for kind, rows in reference.rows.items():
        for key, row in rows.items():
            figure = figures.get((kind, key))
            if figure is None or _is_worse(figure, row):
                regressions.append(Regression(kind, key, None if figure is None else figure.value.value, row))
    return regressions


def _is_worse(figure: Figure, row: ReferenceRow) -> bool:
    value = figure.value.value
    return value < row.limit - _TOLERANCE if row.is_better_higher else value > row.limit + _TOLERANCE
