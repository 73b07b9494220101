"""A report against one that was kept: no row may fall by more than the kept row's interval (ours; CI's check)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from emotivetalk.errors import InputError
from emotivetalk.evaluation.figures import Figure, Report, Settings
from emotivetalk.evaluation.metrics import Estimate

_NO_WIDTH = 1e-6


class Row(BaseModel):
    """A figure as it was: its value, its 95 % interval, and which way is better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float
    high: float
    is_better_higher: bool

    @property
    def limit(self) -> float:
        """The worst that is still within the interval."""
        return self.low if self.is_better_higher else self.high


class Reference(BaseModel):
    """What is kept of a report. Rows of which nothing says which way is better are not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint: str
    settings: Settings
    rows: Mapping[str, Row]


@dataclass(frozen=True)
class Fall:
    """A row that got worse than its interval allows, or that is gone (value None)."""

    key: str
    value: float | None
    row: Row

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.key} is not measured any more; it was {self.row.value:.3f}"
        side = "below" if self.row.is_better_higher else "above"
        return f"{self.key} is {self.value:.3f}, {side} {self.row.limit:.3f}; it was {self.row.value:.3f}"


def reference_of(report: Report, checkpoint: str) -> Reference:
    """The rows of a report, to be kept."""
    rows = {
        figure.key: _row(figure.value, figure.is_better_higher)
        for figure in report.figures
        if figure.is_better_higher is not None
    }
    return Reference(checkpoint=checkpoint, settings=report.settings, rows=rows)


def _row(estimate: Estimate, is_better_higher: bool) -> Row:
    """Where an interval has no width (one clip, or clips that all agree) a tenth of the value stands in for it."""
    low, high = estimate.low, estimate.high
    if high - low < _NO_WIDTH:
        room = abs(estimate.value) / 10
        low, high = estimate.value - room, estimate.value + room
    return Row(
        value=round(estimate.value, 4), low=round(low, 4), high=round(high, 4), is_better_higher=is_better_higher
    )


def write_reference(reference: Reference, path: Path) -> None:
    """Writes it as JSON, over what is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(reference.model_dump(), indent=2) + "\n", encoding="utf-8")


def read_reference(path: Path) -> Reference:
    """Reads what `write_reference` wrote.

    Raises:
        InputError: there is no such file, or it is something else.
    """
    try:
        return Reference.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            "reference_unreadable", f"{path} cannot be read: {error.strerror}", "Write one with --keep."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            "reference_invalid", f"{path} is no reference: {first['msg']}", "Write it again with --keep."
        ) from error


def falls(report: Report, reference: Reference) -> list[Fall]:
    """The rows that are worse than the reference's interval, and those that are missing.

    Raises:
        InputError: the report was made with other settings, so its rows cannot be compared.
    """
    if report.settings != reference.settings:
        ours, theirs = report.settings.model_dump(), reference.settings.model_dump()
        differ = ", ".join(name for name in ours if ours[name] != theirs[name])
        raise InputError(
            "reference_differs",
            f"the reference was measured with another {differ}",
            "Evaluate with the same options, or write the reference again with --keep.",
        )
    now = {figure.key: figure for figure in report.figures}
    found = []
    for key, row in reference.rows.items():
        figure = now.get(key)
        if figure is None or _is_worse(figure, row):
            found.append(Fall(key, None if figure is None else figure.value.value, row))
    return found


def _is_worse(figure: Figure, row: Row) -> bool:
    margin = 1e-3  # of rounding in the file, and of sums in another order
    value = figure.value.value
    return value < row.limit - margin if row.is_better_higher else value > row.limit + margin
