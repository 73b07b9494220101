"""One emotion option or none; what is in it is checked by name."""

import json
from pathlib import Path

import pytest

from emotivetalk.emotion_options import EmotionOptions
from emotivetalk.errors import InputError
from emotivetalk.models.emotion import EmotionLabel, EmotionSpeech, EmotionText, EmotionTrack


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (EmotionOptions(label="happy", text="Be sad"), "--emotion and --emotion-text"),
        (EmotionOptions(label="happy", from_speech=True), "--emotion and --emotion-from-speech"),
        (EmotionOptions(image=Path("a.png"), video=Path("b.mp4")), "--emotion-image and --emotion-video"),
    ],
)
def test_conflicts_are_named(options: EmotionOptions, named: str) -> None:
    with pytest.raises(InputError, match=named):
        options.check()


@pytest.mark.parametrize("field", ["image", "video", "track"])
def test_missing_files_are_named(field: str, tmp_path: Path) -> None:
    options = EmotionOptions(**{field: tmp_path / "none"})
    with pytest.raises(InputError, match=f"{field} .* does not exist"):
        options.check()


def test_none_is_the_portraits_own_expression() -> None:
    EmotionOptions().check()
    assert EmotionOptions().source(2.0) is None


def test_sources_without_files() -> None:
    assert EmotionOptions(label="happy:0.5").source(2.0) == EmotionLabel("happy", 0.5)
    assert EmotionOptions(label="angry").source(2.0) == EmotionLabel("angry", 1.0)
    assert EmotionOptions(text="Be cheerful").source(2.0) == EmotionText("Be cheerful")
    assert EmotionOptions(from_speech=True).source(2.0) == EmotionSpeech()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (EmotionOptions(label="hapy"), "happy"),
        (EmotionOptions(label="happy:2"), "intensity"),
        (EmotionOptions(label="happy:much"), "not a number"),
        (EmotionOptions(text="  "), "empty"),
    ],
)
def test_wrong_values_are_input_errors(options: EmotionOptions, said: str) -> None:
    with pytest.raises(InputError, match=said):
        options.source(2.0)


def test_a_track_is_read(tmp_path: Path) -> None:
    path = tmp_path / "track.json"
    path.write_text(json.dumps([{"time_s": 0, "emotion": "sad", "intensity": 0.6}, {"time_s": 2, "text": "Cheer up"}]))
    track = EmotionOptions(track=path).source(2.0)
    assert isinstance(track, EmotionTrack)
    assert [key.source for key in track.keys] == [EmotionLabel("sad", 0.6), EmotionText("Cheer up")]


@pytest.mark.parametrize(
    "content", ["{", "3", "[1]", '{"time_s": 0}', '[{"time_s": 0, "mood": "happy"}]', "[]", "\xff"]
)
def test_a_broken_track_is_an_input_error(content: str, tmp_path: Path) -> None:
    path = tmp_path / "track.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError):
        EmotionOptions(track=path).source(2.0)
