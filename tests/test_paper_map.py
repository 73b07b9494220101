"""docs/paper_map.md against the code: every name and every shape stands in the file that the page sends one to."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROWS = [
    [cell.strip().strip("`") for cell in line.strip("|\n").split("|")]
    for line in (ROOT / "docs" / "paper_map.md").read_text().splitlines()
    if line.startswith("|") and line.count("`") >= 4
]


def test_the_page_has_the_symbols_and_blocks_of_the_paper():
    names = {row[1] for row in ROWS}
    assert {"VAID", "DiCTE", "ETHD", "EDI", "audio_features", "face_mask", "expression_reference"} <= names
    assert len(ROWS) >= 30


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0] + " " + row[1])
def test_names_and_shapes_stand_where_the_page_says(row):
    _, name, shape, path = row
    text = (ROOT / path).read_text()
    assert re.search(rf"\b{re.escape(name)}\b", text), f"{name} is not in {path}"
    is_shape = bool(re.fullmatch(r"[a-z_0-9HW ]+", shape)) and shape.split()[0] in (
        "batch",
        "frames",
        "samples",
        "rows",
        "3",
    )
    if is_shape:
        assert f'"{shape}"' in text or f'" {shape}"' in text, f"the shape {shape!r} is not in {path}"
