"""Nothing that exists is lost, and every refusal names a remedy."""

from pathlib import Path

import pytest

from emotivetalk.checks import check_output
from emotivetalk.errors import InputError


def test_an_output_is_not_made_by_checking(tmp_path: Path) -> None:
    check_output(tmp_path / "out.mp4", (".mp4",), overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    output.write_text("mine")
    with pytest.raises(InputError, match="--overwrite"):
        check_output(output, (".mp4",), overwrite=False)
    check_output(output, (".mp4",), overwrite=True)
    assert output.read_text() == "mine"


@pytest.mark.parametrize("name", ["out", "out.avi", "out.mp4.part"])
def test_an_output_of_another_format_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.mp4"):
        check_output(tmp_path / name, (".mp4",), overwrite=False)
