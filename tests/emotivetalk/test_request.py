"""The definition of a request: parsing, ranges, errors with code and remedy, and what derives from it."""

import inspect
import json
import math
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from emotivetalk.client import Client
from emotivetalk.errors import EmotiveTalkError, InputError, InvalidValueError, OverloadError
from emotivetalk.models.emotion import MeaninglessTextError
from emotivetalk.request import (
    EMOTIONS,
    MAX_TEXT_LENGTH,
    MAX_TRACK_KEYS,
    ImageEmotion,
    LabelEmotion,
    SamplingSettings,
    SpeechEmotion,
    TextEmotion,
    TrackEmotion,
    VideoRequest,
    VideoSettings,
    checked,
    choose_emotion,
    invalid_request,
    parse_label,
    parse_track,
    read_track,
)
from emotivetalk.wire import videos_pb2 as pb

ROOT = Path(__file__).parents[2]


def test_labels_are_parsed() -> None:
    assert parse_label("happy") == LabelEmotion(emotion="happy")
    assert parse_label(" sad : 0.25 ") == LabelEmotion(emotion="sad", intensity=0.25)


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("hapy", "there is no emotion 'hapy'", "Did you mean happy"),
        ("zzz", "there is no emotion 'zzz'", ", ".join(EMOTIONS)),
        ("happy:", "not a number", "happy:0.8"),
        ("happy:much", "not a number", "happy:0.8"),
        ("happy:2", "intensity is 2", "range"),
        ("happy:nan", "intensity is nan", "range"),
    ],
)
def test_wrong_labels_are_refused_with_a_remedy(text: str, message: str, remedy: str) -> None:
    with pytest.raises(InvalidValueError) as raised:
        parse_label(text)
    assert raised.value.code == "emotion_invalid"
    assert message in raised.value.message and remedy in raised.value.remedy


def test_a_track_is_parsed() -> None:
    keys = [{"time_s": 0, "emotion": "happy", "intensity": 0.8}, {"time_s": 2.5, "text": "Speak seriously"}]
    track = parse_track(keys)
    assert [key.source() for key in track.keys] == [
        LabelEmotion(emotion="happy", intensity=0.8),
        TextEmotion(text="Speak seriously"),
    ]
    assert parse_track([key.model_dump(exclude_none=True) for key in track.keys]) == track


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([], "no keys"),
        (3, "not a list"),
        ([1], "not a list"),
        ([{"time_s": 0}], "key 1: the fields are time_s"),
        ([{"time_s": 0, "emotion": "sad", "text": "x"}], "key 1: the fields"),
        ([{"time_s": 0, "text": "x", "intensity": 0.5}], "key 1: the fields"),
        ([{"time_s": 0, "emotion": "sad"}, {"time_s": 1, "emotion": "hapy"}], "key 2: there is no emotion 'hapy'"),
        ([{"time_s": "0", "emotion": "sad"}], "key 1: time_s: .* number"),
        ([{"time_s": True, "emotion": "sad"}], "key 1: time_s: .* number"),
        ([{"time_s": -1, "emotion": "sad"}], "key 1: time_s"),
        ([{"time_s": math.nan, "emotion": "sad"}], "key 1: time_s"),
        ([{"time_s": 0, "emotion": "sad", "intensity": 2}], "key 1: intensity"),
        ([{"time_s": 0, "emotion": 3}], "key 1: emotion: .* string"),
        ([{"time_s": 0, "mood": "sad"}], "key 1: mood"),
        ([{"time_s": 2, "emotion": "sad"}, {"time_s": 1, "emotion": "fear"}], "Sort the keys"),
        ([{"time_s": i, "emotion": "sad"} for i in range(MAX_TRACK_KEYS + 1)], f"limit is {MAX_TRACK_KEYS}"),
    ],
)
def test_wrong_tracks_are_refused_by_key(keys: object, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message) as raised:
        parse_track(keys)
    assert raised.value.code == "emotion_invalid"


def test_a_track_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "track.json"
    path.write_text(json.dumps([{"time_s": 0, "emotion": "sad"}]))
    assert read_track(path) == choose_emotion({"emotion_track": path})
    for content in (b"{", b"3", b'{"time_s": 0}', b"\xff"):
        path.write_bytes(content)
        with pytest.raises(InputError):
            read_track(path)


def test_an_emotion_is_chosen_from_arguments() -> None:
    nothing = dict.fromkeys(("emotion", "emotion_text", "emotion_image", "emotion_track")) | {
        "emotion_from_speech": False
    }
    assert choose_emotion(nothing) is None
    assert choose_emotion(nothing | {"emotion": "happy:0.5"}) == LabelEmotion(emotion="happy", intensity=0.5)
    assert choose_emotion(nothing | {"emotion_text": "Be cheerful"}) == TextEmotion(text="Be cheerful")
    assert choose_emotion(nothing | {"emotion_image": "a.png"}) == ImageEmotion()
    assert choose_emotion(nothing | {"emotion_from_speech": True}) == SpeechEmotion()
    assert isinstance(choose_emotion({"emotion_track": [{"time_s": 0, "emotion": "sad"}]}), TrackEmotion)
    with pytest.raises(InputError, match="--emotion and --emotion-text cannot") as raised:
        choose_emotion({"emotion": "sad", "emotion_text": "x"}, lambda name: f"--{name.replace('_', '-')}")
    assert raised.value.code == "emotion_conflict"
    for text in (" ", "x" * (MAX_TEXT_LENGTH + 1)):
        with pytest.raises(InputError):
            choose_emotion({"emotion_text": text})


def test_settings_are_checked_and_named() -> None:
    for wrong in ({"num_steps": 51}, {"emotion_strength": math.nan}, {"seed": -1}, {"face": 0}, {"resolution": 1}):
        with pytest.raises(InputError, match=next(iter(wrong))) as raised:
            checked(VideoSettings, **wrong)
        assert raised.value.code == "request_invalid"


def test_requests_are_keys_of_caches() -> None:
    track = parse_track([{"time_s": 0, "emotion": "sad"}])
    request = VideoRequest(num_samples=640, emotion=track, seed=3)
    assert hash(request) == hash(VideoRequest.model_validate(request.model_dump(mode="json")))
    assert SamplingSettings.of(request) == SamplingSettings(seed=3)
    assert len({request, VideoRequest(num_samples=640, emotion=track)}) == 2


def test_our_own_errors_pass_through_pydantic() -> None:
    with pytest.raises(ValidationError) as raised:
        VideoRequest.model_validate({"num_samples": 1, "emotion": {"kind": "label", "emotion": "hapy"}})
    error = invalid_request(raised.value)
    assert (error.code, error.message) == ("emotion_invalid", "there is no emotion 'hapy'")


@pytest.mark.parametrize(
    "error", [MeaninglessTextError("qwx"), OverloadError("queue_full", "full", 3.0), InputError("a", "b", "C.")]
)
def test_errors_survive_pickling(error: EmotiveTalkError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.__dict__) == (type(error), str(error), error.__dict__)


def test_no_error_is_split_from_prose() -> None:
    folders = ("emotivetalk", "client", "actors", "models", "media", "corpus", "evaluation", "training")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert [path for path in files if re.search(r"partition\(['\"]\. ['\"]\)", path.read_text())] == []


def test_the_proto_has_every_setting() -> None:
    """`RenderSettings` of the proto is mapped by field name, so a setting that it lacks would not reach the service."""
    assert {field.name for field in pb.RenderSettings.DESCRIPTOR.fields} == set(VideoSettings.model_fields)


def test_the_client_offers_every_setting() -> None:
    for method in (Client.create, Client.live):
        parameters = inspect.signature(method).parameters
        for name, field in VideoSettings.model_fields.items():
            assert parameters[name].default == field.default
    with pytest.raises(TypeError, match="resolution"):
        Client().create("me.png", "hello.wav", resolution=512)


NEW_FIELD = """
    resolution: int = Field(default=256, ge=64, le=1024, description="Side of the video, pixels.")
"""
PROGRAM = """
import inspect, json, sys
from emotivetalk.cli import run
run(["generate", "--help"])
from emotivetalk.client import Client
from emotivetalk.client.over_http import HttpTransport
from emotivetalk.actors.serving.gateway.http.app import http_app
from emotivetalk.actors.serving.gateway.http.schemas import CreateVideo
from emotivetalk.actors.serving.gateway.settings import GatewaySettings
from emotivetalk.request import SamplingSettings, VideoRequest, VideoSettings
print(json.dumps({
    "signature": str(inspect.signature(Client.create)),
    "openapi": http_app(lambda: None, GatewaySettings()).openapi()["components"]["schemas"],
    "parsed": VideoSettings.of(CreateVideo(portrait="http://a", audio="http://b", resolution="512")).resolution,
    "sent": VideoSettings(resolution=512).model_dump(exclude_none=True)["resolution"],
    "row": VideoRequest(num_samples=1, **dict(SamplingSettings(resolution=512))).model_dump(mode="json")["resolution"],
}))
"""


def test_a_new_setting_is_offered_everywhere(tmp_path: Path) -> None:
    """One edit in `request/settings.py` of a copy: command line, HTTP, client and job row have the field."""
    package = tmp_path / "emotivetalk"
    package.mkdir()
    for path in (ROOT / "emotivetalk").iterdir():
        if path.name not in ("request", "__pycache__"):
            (package / path.name).symlink_to(path)
    for folder in ("models", "media", "client", "actors", "corpus", "training", "evaluation"):
        (package / folder).symlink_to(ROOT / folder)
    (package / "request").mkdir()
    for path in (ROOT / "emotivetalk" / "request").glob("*.py"):
        text = path.read_text()
        if path.name == "settings.py":
            text = text.replace("\n\nclass VideoSettings", f"{NEW_FIELD}\n\nclass VideoSettings")
        (package / "request" / path.name).write_text(text)
    found = _in_tree(tmp_path, PROGRAM)
    help_text, _, values = found.rpartition("\n")
    answers: dict[str, Any] = json.loads(values)
    assert "--resolution" in help_text and "Side of the video, pixels." in help_text and "64<=x<=1024" in help_text
    assert "resolution: int = 256" in answers["signature"]
    for schema in ("CreateVideo", "CreateVideoForm"):
        offered = answers["openapi"][schema]["properties"]["resolution"]
        assert (offered["minimum"], offered["maximum"], offered["default"]) == (64, 1024, 256)
    assert answers["parsed"] == answers["sent"] == answers["row"] == 512


def _in_tree(folder: Path, program: str) -> str:
    """Run a program that imports the package from `folder` and not from the installed checkout."""
    code = "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]; " + (
        f"sys.path.insert(0, {str(folder)!r})\n{program}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
