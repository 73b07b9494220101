"""A checkpoint folder is known by its model_index.json; its provenance says what it was trained on."""

import json
from pathlib import Path

import pytest

from emotivetalk.errors import InputError
from emotivetalk.media import checkpoints as checkpoint


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model_index\.json"):
        checkpoint.find_checkpoint(tmp_path)


def test_a_checkpoint_with_old_module_names_is_refused(tmp_path: Path) -> None:
    index = {"_class_name": "EmotiveTalkPipeline", "ethd": ["models.ethd", "ETHD"], "scheduler": ["diffusers", "X"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"models\.ethd.*emotivetalk\.models\.ethd") as refused:
        checkpoint.find_checkpoint(tmp_path)
    assert refused.value.code == "checkpoint_outdated"


def test_a_named_checkpoint_is_taken(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    assert checkpoint.find_checkpoint(tmp_path) == tmp_path


def test_the_starter_is_taken_where_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "STARTER", tmp_path / "starter")
    with pytest.raises(InputError, match="--checkpoint"):
        checkpoint.find_checkpoint(None)
    (tmp_path / "starter").mkdir()
    (tmp_path / "starter" / "model_index.json").write_text("{}")
    assert checkpoint.find_checkpoint(None) == tmp_path / "starter"


@pytest.mark.parametrize(
    ("provenance", "expected"), [('{"trained_on": "avatars"}', "avatars"), ("{}", None), ("[]", None), (None, None)]
)
def test_what_a_checkpoint_was_trained_on(provenance: str | None, expected: str | None, tmp_path: Path) -> None:
    if provenance is not None:
        (tmp_path / "provenance.json").write_text(provenance)
    assert checkpoint.trained_on(tmp_path) == expected


def test_a_broken_provenance_is_said(tmp_path: Path) -> None:
    (tmp_path / "provenance.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        checkpoint.trained_on(tmp_path)
