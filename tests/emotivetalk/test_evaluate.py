"""`emotivetalk evaluate`: what is missing is named before anything heavy is loaded."""

from pathlib import Path

import pytest

from emotivetalk.cli import run


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "model_index.json").write_text("{}")
    return tmp_path / "checkpoint"


@pytest.fixture
def reader(tmp_path) -> Path:
    (tmp_path / "reader").mkdir()
    (tmp_path / "reader" / "config.json").write_text("{}")
    return tmp_path / "reader"


def test_a_missing_reader_is_named(checkpoint, tmp_path, capsys):
    assert run(["evaluate", str(checkpoint), "--reader", str(tmp_path / "none")]) == 2
    message = capsys.readouterr().err
    assert "there is no reader at" in message and "reader_starter.yaml" in message


def test_a_missing_corpus_is_named(checkpoint, reader, tmp_path, capsys):
    arguments = ["--reader", str(reader), "--corpus", str(tmp_path / "none")]
    assert run(["evaluate", str(checkpoint), *arguments]) == 2
    assert "emotivetalk synthesize" in capsys.readouterr().err


def test_the_report_needs_a_folder(checkpoint, reader, tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    arguments = ["--reader", str(reader), "--corpus", str(tmp_path), "-o", str(tmp_path / "taken")]
    assert run(["evaluate", str(checkpoint), *arguments]) == 2
    assert "is not a folder" in capsys.readouterr().err
