"""A kept report: what falls out of its interval is named, whichever way is better."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emotivetalk.errors import InputError
from emotivetalk.evaluation.figures import Figure, Report, Settings
from emotivetalk.evaluation.metrics import Estimate
from emotivetalk.evaluation.reference import falls, read_reference, reference_of, write_reference
from emotivetalk.evaluation.targets import MUST_HOLD

ROOT = Path(__file__).resolve().parents[2]


def report(**values: float) -> Report:
    """mouth: better high; drift: better low; told: as ceiling and floor say; mute: nothing says."""

    def around(value: float) -> Estimate:
        return Estimate(value, value - 0.1, value + 0.1)

    figures = (
        Figure("mouth", "", around(values.get("mouth", 0.8)), at_least=0.7),
        Figure("delay", "", around(values.get("delay", 0.4)), at_most=0.5),
        Figure("told", "", around(values.get("told", 0.5)), around(0), around(1)),
        Figure("mute", "", around(values.get("mute", 0.5))),
    )
    return Report(Settings.slice(), figures, (), (), (), None, (), (), (), (), 0, 0.0)


def test_rows_may_move_within_their_interval(tmp_path):
    write_reference(reference_of(report(), "starter"), tmp_path / "kept.json")
    kept = read_reference(tmp_path / "kept.json")
    assert set(kept.rows) == {"mouth", "delay", "told"}
    assert falls(report(), kept) == []
    assert falls(report(mouth=0.71, delay=0.49, told=0.59, mute=9), kept) == []
    assert falls(report(mouth=2, delay=-2, told=-2), kept) == []  # better is no fall


@pytest.mark.parametrize(
    ("row", "value", "side"), [("mouth", 0.69, "below"), ("delay", 0.51, "above"), ("told", 0.61, "above")]
)
def test_a_row_that_leaves_its_interval_on_the_wrong_side_fell(row, value, side):
    (fall,) = falls(report(**{row: value}), reference_of(report(), "starter"))
    assert fall.key == row and side in str(fall)


def test_where_clips_agree_a_tenth_is_room():
    sure = Figure("sure", "", Estimate(1.0, 1.0, 1.0), at_least=0.5)
    kept = reference_of(replace(report(), figures=(sure,)), "starter")
    assert (kept.rows["sure"].low, kept.rows["sure"].high) == (0.9, 1.1)


def test_a_row_that_is_gone_fell_too():
    now = replace(report(), figures=report().figures[1:])
    (fall,) = falls(now, reference_of(report(), "starter"))
    assert "not measured any more" in str(fall)


def test_other_settings_cannot_be_compared(tmp_path):
    kept = reference_of(replace(report(), settings=Settings()), "starter")
    with pytest.raises(InputError, match="clip_frames"):
        falls(report(), kept)
    (tmp_path / "no.json").write_text(json.dumps({"rows": 3}))
    with pytest.raises(InputError, match="no reference"):
        read_reference(tmp_path / "no.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_reference(tmp_path / "none.json")


def test_what_is_kept_is_of_the_slice_that_is_measured():
    kept = read_reference(Path(__file__).parents[2] / "evaluation" / "reference.json")
    assert kept.settings == Settings.slice()


def test_all_that_must_hold_is_a_number():
    for key, bound in MUST_HOLD.items():
        given = [value for value in (bound.at_least, bound.at_most) if value is not None]
        assert len(given) == 1 and np.isfinite(given[0]), key
