"""Rows: fields by the request model, identity by contents, and a code for everything that can be wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from emotivetalk.client.bulk.rows import BulkRow, RowRules, plan_row
from emotivetalk.errors import EmotiveTalkError
from emotivetalk.request import LabelEmotion, TextEmotion, TrackEmotion


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "me.png").write_bytes(b"picture")
    (tmp_path / "in" / "hello.wav").write_bytes(b"speech")
    (tmp_path / "outside.wav").write_bytes(b"other speech")
    return tmp_path / "in"


def plan(folder: Path, values: Mapping[str, Any] = {}, **rules: Any) -> BulkRow:
    files = {"portrait": "me.png", "audio": "hello.wav"}
    return plan_row(1, {**files, **values}, RowRules(folder, **rules))


def test_paths_are_relative_to_the_manifest(folder: Path) -> None:
    assert plan(folder).portrait == folder / "me.png"
    assert plan(folder, {"audio": "https://example.com/a.wav"}).audio == "https://example.com/a.wav"
    assert (
        plan(folder, {"portrait": {"image_url": "https://example.com/me.png"}}).portrait == "https://example.com/me.png"
    )


def test_emotion_and_settings_are_those_of_every_request(folder: Path) -> None:
    row = plan(folder, {"emotion": "happy:0.5", "seed": "7", "num_steps": 2})
    assert row.emotion == LabelEmotion(emotion="happy", intensity=0.5)
    assert (row.settings.seed, row.settings.num_steps) == (7, 2)
    assert isinstance(plan(folder, {"prompt": "Speak seriously"}).emotion, TextEmotion)
    assert isinstance(plan(folder, {"emotion": [{"time_s": 0, "emotion": "sad"}]}).emotion, TrackEmotion)


def test_defaults_hold_for_rows_without_the_field(folder: Path) -> None:
    defaults = {"emotion": "sad", "seed": 3}
    assert plan(folder, defaults=defaults).emotion == LabelEmotion(emotion="sad")
    row = plan(folder, {"emotion_text": "Be glad", "seed": 4}, defaults=defaults)
    assert isinstance(row.emotion, TextEmotion) and row.settings.seed == 4


def test_identity_depends_on_contents_and_not_on_place_or_name(folder: Path) -> None:
    (folder / "copy.png").write_bytes(b"picture")
    row = plan(folder)
    assert plan(folder, {"portrait": "copy.png"}).row_id == row.row_id
    assert plan_row(9, {"portrait": "me.png", "audio": "hello.wav"}, RowRules(folder)).row_id == row.row_id
    others = [plan(folder, {"seed": 1}), plan(folder, {"emotion": "sad"}), plan(folder, model="other")]
    assert len({row.row_id, *(other.row_id for other in others)}) == 4
    (folder / "me.png").write_bytes(b"another picture")
    assert plan(folder).row_id != row.row_id
    named = plan(folder, {"custom_id": "lesson-1"})
    assert named.row_id == "lesson-1" and named.fingerprint == plan(folder).fingerprint


@pytest.mark.parametrize(
    ("values", "code", "part"),
    [
        ({"portrait": "nowhere.png"}, "image_missing", "nowhere.png"),
        ({"portait": "me.png"}, "row_field_unknown", "Did you mean portrait?"),
        ({"prompt": "a", "emotion_text": "b"}, "row_field_twice", "emotion_text"),
        ({"emotion": "hapy"}, "emotion_invalid", "happy"),
        ({"emotion": "happy", "emotion_text": "b"}, None, "emotion"),
        ({"seed": "many"}, None, "seed"),
        ({"custom_id": "../up"}, "row_id_invalid", "'../up'"),
        ({"custom_id": 7}, "row_id_invalid", "7"),
        ({"portrait": 7}, "row_file_invalid", "7"),
        ({"emotion_from_speech": "perhaps"}, "emotion_invalid", "true or false"),
    ],
)
def test_a_row_that_cannot_be_made_has_a_code(folder: Path, values: dict, code: str | None, part: str) -> None:
    with pytest.raises(EmotiveTalkError) as caught:
        plan(folder, values)
    assert (code is None or caught.value.code == code) and part in str(caught.value), caught.value.code


@pytest.mark.parametrize("path", ["../outside.wav", "link.wav"])
def test_files_outside_the_root_are_refused(folder: Path, path: str) -> None:
    (folder / "link.wav").symlink_to(folder.parent / "outside.wav")
    assert plan(folder, {"audio": path}).audio
    with pytest.raises(EmotiveTalkError) as caught:
        plan(folder, {"audio": path}, root=folder)
    assert caught.value.code == "row_outside_root"


@pytest.mark.parametrize("name", ["portrait", "audio"])
def test_a_missing_field_is_named(folder: Path, name: str) -> None:
    files = {"portrait": "me.png", "audio": "hello.wav"}
    del files[name]
    with pytest.raises(EmotiveTalkError, match=f"it has no {name}"):
        plan_row(1, files, RowRules(folder))
