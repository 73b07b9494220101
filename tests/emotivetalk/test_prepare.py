"""Refusals of `emotivetalk prepare` before it starts anything."""

import sys
from pathlib import Path

import pytest

from emotivetalk.cli import run


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["prepare", *arguments]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ") and text.count("\n") == 1
    return text


def test_bad_input_is_one_line_with_a_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, file, output = tmp_path / "empty", tmp_path / "a.mp4", str(tmp_path / "corpus")
    empty.mkdir()
    file.write_bytes(b"no video")
    assert "there is no video in" in said(capsys, str(empty), "-o", output)
    assert "does not exist" in said(capsys, str(tmp_path / "nowhere"), "-o", output)
    assert "Use http, https, file or s3" in said(capsys, "carrier://pigeon/a.mp4", "-o", output)
    assert "is not a folder" in said(capsys, str(file), "-o", str(file))
    labels = tmp_path / "labels.csv"
    labels.write_text("path,feeling\na.mp4,happy\n")
    assert "no column emotion" in said(capsys, str(file), "-o", output, "--labels", str(labels))
    labels.write_text("path,emotion\na.mp4,joyful\n")
    assert "line 2: emotion 'joyful' is unknown" in said(capsys, str(file), "-o", output, "--labels", str(labels))
    assert "has no lip_encoder/" in said(capsys, str(file), "-o", output, "--sync-checkpoint", str(empty))
    assert "has no vae/" in said(capsys, str(file), "-o", output, "--precompute", str(empty))
    assert not Path(output).exists()


def test_a_missing_package_is_named(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    text = said(capsys, str(tmp_path), "-o", str(tmp_path / "corpus"))
    assert "needs the package decord" in text and "pip install 'emotivetalk[prepare]'" in text
