"""Refusals of `emotivetalk generate` before it loads anything: exit status 2, one line, and no file left behind."""

import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from emotivetalk.cli import run
from emotivetalk.errors import InputError
from emotivetalk.limits import Limits
from emotivetalk.media.video import read_frames

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with something called a portrait, and something called speech."""
    for name in ("portrait.png", "speech.wav"):
        (tmp_path / name).write_bytes(b"not empty")
    return tmp_path


def refusal(folder: Path, capsys: pytest.CaptureFixture[str], **changes: str) -> str:
    options = {"--portrait": "portrait.png", "--audio": "speech.wav", "-o": "out.mp4"}
    arguments = ["generate"]
    for option, name in (options | changes).items():
        arguments += [option, str(folder / name)]
    return refused(arguments, capsys)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize("option", ["--portrait", "--audio", "--emotion-image", "--emotion-video", "--emotion-track"])
def test_a_missing_file(option: str, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'" + str(files / "none") + "' does not exist" in refusal(files, capsys, **{option: "none"})


def test_an_output_that_exists(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "out.mp4").write_text("mine")
    assert "--overwrite" in refusal(files, capsys)
    assert (files / "out.mp4").read_text() == "mine"


def test_an_output_of_another_format(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ".mp4" in refusal(files, capsys, **{"-o": "out.gif"})


def test_a_folder_that_is_no_checkpoint(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "model_index.json" in refusal(files, capsys, **{"--checkpoint": "none"})
    assert sorted(path.name for path in files.iterdir()) == ["portrait.png", "speech.wav"]


def test_emotions_that_conflict(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = ["--portrait", str(files / "portrait.png"), "--audio", str(files / "speech.wav")]
    emotions = ["--emotion", "happy", "--emotion-text", "Be sad"]
    said = refused(["generate", *inputs, *emotions, "-o", str(files / "out.mp4")], capsys)
    assert "--emotion and --emotion-text cannot be given together" in said


@pytest.mark.parametrize("steps", ["0", "51", "many"])
def test_numbers_out_of_range(steps: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", "--portrait", "p.png", "--audio", "a.wav", "-o", "o.mp4", "--num-steps", steps]
    assert "--num-steps" in refused(arguments, capsys)


def test_speech_of_an_hour(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody who gives an hour by mistake shall wait for it; who wants it says so."""
    write_wav(files / "speech.wav", seconds=3600, rate_hz=8000)
    arguments = ["generate", "--audio", str(files / "speech.wav"), "--portrait", str(files / "portrait.png")]
    arguments += ["-o", str(files / "out.mp4")]
    assert run(arguments) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ") and "speech.wav' is 60 min long; the limit is 30 min" in said
    assert "--max-minutes" in said
    assert run([*arguments, "--max-minutes", "61"]) == 2
    assert "portrait.png" in capsys.readouterr().err.splitlines()[-1]  # the speech is taken now


def write_wav(path: Path, seconds: int, rate_hz: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.random.default_rng(0).integers(-9000, 9000, seconds * rate_hz, np.int16).tobytes())


class FakePipeline:
    """Yields two gray frames; calls `meanwhile` between them."""

    image_size = 64

    def __init__(self, level: int, meanwhile: Callable[[], None]) -> None:
        self._level, self._meanwhile = level, meanwhile

    def __call__(self, *_: object, **__: object) -> Iterator[torch.Tensor]:
        frames = torch.full((1, 64, 64, 3), self._level, dtype=torch.uint8)
        yield frames
        self._meanwhile()
        yield frames


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_video_that_another_run_wrote_meanwhile_is_kept(
    overwrite: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.mp4"
    arguments = ["generate", "--portrait", str(EXAMPLES / "portrait.png"), "--audio", str(EXAMPLES / "hello.wav")]
    arguments += ["-o", str(output)] + ["--overwrite"] * overwrite

    def finish_another() -> None:
        assert run(arguments) == 0

    pipelines = [FakePipeline(200, lambda: None), FakePipeline(50, finish_another)]  # taken from the end
    monkeypatch.setattr("emotivetalk.generation.load_pipeline", lambda _: pipelines.pop())
    assert run(arguments) == (0 if overwrite else 2)
    assert ("was written by another program" in capsys.readouterr().err) != overwrite
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert read_frames(output).mean() == pytest.approx(50 if overwrite else 200, abs=4)


def test_the_track_is_passed_on(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def load(path: Path, limits: Limits, audio_track: int | None) -> None:
        loaded.append(audio_track)
        raise InputError("stop", "stopped here", "Go on.")

    monkeypatch.setattr("emotivetalk.generation.load_speech", load)
    arguments = ["generate", "--portrait", str(files / "portrait.png"), "--audio", str(files / "speech.wav")]
    arguments += ["-o", str(files / "out.mp4")]
    assert run(arguments) == run([*arguments, "--audio-track", "2"]) == 2
    assert loaded == [None, 2]
