"""Comparison with a stored reference: figures outside their interval are listed, in either direction."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emotivetalk.errors import InputError
from emotivetalk.evaluation.figures import EvaluationReport, Figure, KindReport
from emotivetalk.evaluation.kinds import Kind
from emotivetalk.evaluation.metrics import Estimate
from emotivetalk.evaluation.reference import find_regressions, read_reference, reference_of, write_reference
from emotivetalk.evaluation.settings import EvaluationSettings
from emotivetalk.evaluation.targets import MUST_HOLD

ROOT = Path(__file__).resolve().parents[2]


def report(**values: float) -> EvaluationReport:
    """Return a report with figures for which higher, lower, lower by the ceiling, and neither is better."""

    def around(value: float) -> Estimate:
        return Estimate(value, value - 0.1, value + 0.1)

    figures = (
        Figure("mouth", "", around(values.get("mouth", 0.8)), at_least=0.7),
        Figure("delay", "", around(values.get("delay", 0.4)), at_most=0.5),
        Figure("by_ceiling", "", around(values.get("by_ceiling", 0.5)), around(0), around(1)),
        Figure("neutral", "", around(values.get("neutral", 0.5))),
    )
    return report_of(figures)


def report_of(figures: tuple[Figure, ...], kind: Kind = "avatars") -> EvaluationReport:
    return EvaluationReport(EvaluationSettings.slice(), (KindReport(kind, figures),), 0, 0.0)


def test_rows_may_move_within_their_interval(tmp_path):
    write_reference(reference_of(report(), "starter"), tmp_path / "kept.json")
    kept = read_reference(tmp_path / "kept.json")
    assert set(kept.rows["avatars"]) == {"mouth", "delay", "by_ceiling"}
    assert find_regressions(report(), kept) == []
    assert find_regressions(report(mouth=0.71, delay=0.49, by_ceiling=0.59, neutral=9), kept) == []
    assert find_regressions(report(mouth=2, delay=-2, by_ceiling=-2), kept) == []  # better values are no regression


@pytest.mark.parametrize(
    ("row", "value", "side"), [("mouth", 0.69, "below"), ("delay", 0.51, "above"), ("by_ceiling", 0.61, "above")]
)
def test_a_row_outside_its_interval_is_a_regression(row, value, side):
    (regression,) = find_regressions(report(**{row: value}), reference_of(report(), "starter"))
    assert regression.key == row and side in str(regression)


def test_an_interval_without_width_becomes_a_tenth_of_the_value():
    sure = Figure("sure", "", Estimate(1.0, 1.0, 1.0), at_least=0.5)
    kept = reference_of(report_of((sure,)), "starter")
    assert (kept.rows["avatars"]["sure"].low, kept.rows["avatars"]["sure"].high) == (0.9, 1.1)


def test_a_missing_row_is_a_regression():
    now = report_of(report().of("avatars").figures[1:])
    (regression,) = find_regressions(now, reference_of(report(), "starter"))
    assert "not measured any more" in str(regression)


def test_a_kind_of_people_is_compared_with_its_own_rows():
    both = replace(
        report(), kinds=(*report().kinds, KindReport("photographs", report(mouth=0.5).of("avatars").figures))
    )
    kept = reference_of(both, "starter")
    assert find_regressions(both, kept) == []
    lost = find_regressions(report(), kept)
    assert {(fall.kind, fall.value) for fall in lost} == {("photographs", None)}
    worse = replace(both, kinds=(*report().kinds, KindReport("photographs", report(mouth=0.3).of("avatars").figures)))
    (fall,) = find_regressions(worse, kept)
    assert str(fall).startswith("mouth of photographs is 0.300")
    assert find_regressions(both, reference_of(report(), "starter")) == []  # a kind that was not kept is not compared


def test_other_settings_cannot_be_compared(tmp_path):
    kept = reference_of(replace(report(), settings=EvaluationSettings()), "starter")
    with pytest.raises(InputError, match="clip_frames"):
        find_regressions(report(), kept)
    (tmp_path / "no.json").write_text(json.dumps({"rows": 3}))
    with pytest.raises(InputError, match="no reference"):
        read_reference(tmp_path / "no.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_reference(tmp_path / "none.json")


def test_the_shipped_reference_has_the_settings_of_the_slice():
    kept = read_reference(ROOT / "evaluation" / "reference.json")
    assert kept.settings == EvaluationSettings.slice()
    assert len(kept.rows["avatars"]) > 30


def test_every_bound_is_one_finite_number():
    for key, bound in (row for bounds in MUST_HOLD.values() for row in bounds.items()):
        given = [value for value in (bound.at_least, bound.at_most) if value is not None]
        assert len(given) == 1 and np.isfinite(given[0]), key
