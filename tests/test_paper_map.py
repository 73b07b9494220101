"""docs/paper_map.md agrees with the code: every name is defined, and every shape annotated, in the file that the page names."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def table(heading: str) -> list[list[str]]:
    """Read the rows of the table in one section of the page."""
    (section,) = re.findall(rf"^## {heading}$(.*?)(?=^## |\Z)", PAGE, flags=re.M | re.S)
    lines = [line for line in section.splitlines() if line.startswith("|") and "`" in line]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


PAGE = (ROOT / "docs" / "paper_map.md").read_text()
SYMBOLS = table("Symbols")
ROWS = SYMBOLS + table("Blocks of Figure 2")
ANNOTATIONS = ("Float", "Int", "Bool")


@cache
def defined_names(source: str) -> frozenset[str]:
    """Collect the names that a module defines: classes, functions, parameters, fields, variables and attributes."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.arg(arg=name):
                names.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                names.add(name)
    return frozenset(names)


@cache
def annotated_shapes(source: str) -> frozenset[str]:
    """Collect the shapes of a module's jaxtyping annotations."""
    shapes = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Subscript(
                value=ast.Name(id=kind), slice=ast.Tuple(elts=[_, ast.Constant(value=str() as shape)])
            ) if kind in ANNOTATIONS:
                shapes.add(shape.strip())
    return frozenset(shapes)


def test_names_in_comments_docstrings_and_imports_are_not_defined():
    source = '"""alpha"""\nfrom somewhere import beta\n# gamma\nprint(delta)\ndef function(parameter): field: int = 1\n'
    assert defined_names(source) == {"function", "parameter", "field"}


def test_shapes_in_strings_are_not_annotations():
    source = 'text = "batch frames"\ndef f(x: Float[Tensor, " rows"], y: Float[np.ndarray, "a b"] | None): ...\n'
    assert annotated_shapes(source) == {"rows", "a b"}


def test_the_page_has_the_symbols_and_blocks_of_the_paper():
    names = {row[1] for row in ROWS}
    assert {"VAID", "DiCTE", "ETHD", "EDI", "audio_features", "face_mask", "expression_reference"} <= names
    assert len(ROWS) >= 30
    assert len(SYMBOLS) >= 12


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0] + " " + row[1])
def test_a_name_is_defined_in_its_file(row):
    _, name, _, path = row
    assert name in defined_names((ROOT / path).read_text()), f"{name} is not defined in {path}"


@pytest.mark.parametrize("row", SYMBOLS, ids=lambda row: row[0] + " " + row[1])
def test_a_shape_is_annotated_in_its_file(row):
    _, _, shape, path = row
    assert shape in annotated_shapes((ROOT / path).read_text()), f"the shape {shape!r} is not annotated in {path}"
