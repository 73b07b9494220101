"""Preparation of uploads: the result equals what `emotivetalk generate` reads, and a bad file harms only its isolated process."""

import io
import json
import signal
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import av
import numpy as np
import pytest

from emotivetalk.actors.errors import ServingError
from emotivetalk.actors.serving.intake import decoding as intake
from emotivetalk.actors.serving.intake.decoding import Resources, prepare, prepare_portrait
from emotivetalk.actors.serving.intake.worker import PreparationTask, Report, prepare_files
from emotivetalk.errors import EmotiveTalkError, InputError, OutputError
from emotivetalk.limits import Limits
from emotivetalk.media import expressions, faces
from emotivetalk.media.audio import load_speech
from emotivetalk.media.face_detection import FaceBox
from emotivetalk.media.faces import crop_portrait
from emotivetalk.media.fragments import ClipAudio
from emotivetalk.media.image import load_image
from emotivetalk.media.isolated_process import Reports
from emotivetalk.models.encoders import MOTION_SIZE
from emotivetalk.pictures import read_emotion_image, read_emotion_video
from emotivetalk.request import InputSettings
from tests.media.test_bad_input import IMAGES, SPEECH, VIDEO, Make, film, noise_image, wav
from tests.processes import is_running, wait_until

EXAMPLES = Path(__file__).parents[3] / "examples"
PORTRAIT, HELLO = EXAMPLES / "portrait.png", EXAMPLES / "hello.wav"
NAMES = {"portrait": "me.png", "audio": "hello.wav", "emotion_image": "joy.png", "emotion_video": "joy.mp4"}


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """A second of sound, and a picture without a face."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    wav(1)(folder / "0")
    noise_image().save(folder / "1", format="PNG")
    return {"audio": folder / "0", "portrait": folder / "1"}


def task(files: dict[str, Path], folder: Path, limits: Limits | None = None) -> PreparationTask:
    folder.mkdir()
    return PreparationTask(
        files={kind: str(path) for kind, path in files.items()},
        names=NAMES,
        folder=str(folder),
        image_size=64,
        motion_size=MOTION_SIZE,
        input_settings={},
        limits=asdict(limits or Limits()),
        timeout_s=60,
        cpu_s=60,
        memory_bytes=4 << 30,
        file_bytes=1 << 30,
    )


def run_in_process(files: dict[str, Path], folder: Path, limits: Limits | None = None) -> list[dict]:
    """Run the worker in this process. Returns its reports."""
    output = io.BytesIO()
    report = Report(Reports(output), work := task(files, folder, limits))
    try:
        prepare_files(work, report)
    except EmotiveTalkError as error:
        report.error(error)
    return [json.loads(line) for line in output.getvalue().splitlines()]


def run(files: dict[str, Path], folder: Path, **settings: object) -> intake.Prepared:
    """Prepare the files in an isolated process."""
    given = {kind: files.get(kind) for kind in ("portrait", "audio", "emotion_image", "emotion_video")}
    settings = {"image_size": 64, "names": NAMES, **settings}
    return prepare(*given.values(), folder, **settings)  # pyright: ignore[reportArgumentType]


@contextmanager
def fails(folder: Path, code: str, kind: type[EmotiveTalkError] = InputError) -> Iterator[None]:
    """Assert that the block raises this error and leaves nothing in the folder."""
    before = set(folder.iterdir())
    with pytest.raises(kind) as caught:
        yield
    assert caught.value.code == code and caught.value.remedy
    assert "\n" not in str(caught.value) and str(folder) not in str(caught.value)
    assert set(folder.iterdir()) == before


def test_prepared_files_have_the_content_of_the_inputs(tmp_path: Path) -> None:
    prepared = prepare(PORTRAIT, HELLO, None, None, tmp_path, image_size=512)
    waveform = load_speech(HELLO).waveform
    assert (prepared.num_samples, prepared.num_frames, prepared.size) == (len(waveform), -(-len(waveform) // 640), 512)
    assert list(prepared.files) == ["portrait.png", "speech.f32", "speech.m4a"]
    np.testing.assert_array_equal(np.fromfile(prepared.files["speech.f32"], "<f4"), waveform)
    # This portrait is framed already, so it is taken as it is.
    np.testing.assert_array_equal(load_image(prepared.files["portrait.png"]), load_image(PORTRAIT))
    with ClipAudio(prepared.files["speech.m4a"]) as audio:
        assert audio.stream.rate == 48_000
    assert {path.parent.parent for path in prepared.files.values()} == {tmp_path}


def test_the_audio_track_can_be_chosen(tmp_path: Path) -> None:
    waveform = load_speech(HELLO).waveform
    sound = tmp_path / "a.mka"
    with av.open(str(sound), "w") as container:
        streams = [container.add_stream("pcm_f32le", rate=16_000, layout="mono") for _ in range(2)]
        for stream, level in zip(streams, (1.0, 0.25), strict=True):
            frame = av.AudioFrame.from_ndarray(level * waveform[None], format="flt", layout="mono")
            frame.sample_rate = 16_000
            container.mux([*stream.encode(frame), *stream.encode(None)])
    prepared = prepare(
        PORTRAIT, sound, None, None, tmp_path, image_size=512, input_settings=InputSettings(audio_track=2)
    )
    np.testing.assert_array_equal(np.fromfile(prepared.files["speech.f32"], "<f4"), waveform / 4)
    with fails(tmp_path, "audio_track_missing"):
        prepare(PORTRAIT, sound, None, None, tmp_path, image_size=512, input_settings=InputSettings(audio_track=3))


def test_a_portrait_can_be_prepared_alone(tmp_path: Path) -> None:
    portrait = prepare_portrait(PORTRAIT, tmp_path, image_size=512)
    np.testing.assert_array_equal(load_image(portrait), load_image(PORTRAIT))
    assert [path.name for path in portrait.parent.iterdir()] == ["portrait.png"]
    with fails(tmp_path, "image_unreadable"):
        prepare_portrait(HELLO, tmp_path, image_size=512, name="me.png")


@pytest.fixture
def fake_face(monkeypatch: pytest.MonkeyPatch) -> FaceBox:
    """Replace the face detector, which takes seconds."""
    face = FaceBox(20, 30, 50, 50)
    for module in (faces, expressions):
        monkeypatch.setattr(module, "detect_faces", lambda image: [face])
    return face


def test_emotion_inputs_equal_those_that_generate_reads(
    tmp_path: Path, inputs: dict[str, Path], fake_face: FaceBox
) -> None:
    inputs["emotion_image"] = tmp_path / "joy.png"
    noise_image(120, 100).save(inputs["emotion_image"])
    assert run_in_process(inputs, tmp_path / "image")[-1] == {"reading": "portrait"}
    found = load_image(tmp_path / "image" / "emotion.png")
    expected = read_emotion_image(inputs["emotion_image"]).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found.astype(np.float32) / 127.5 - 1, expected)
    portrait = crop_portrait(load_image(inputs["portrait"]), fake_face, 64).image
    np.testing.assert_array_equal(load_image(tmp_path / "image" / "portrait.png"), portrait)

    del inputs["emotion_image"]
    inputs["emotion_video"] = tmp_path / "joy.mp4"
    film(40, side=96)(inputs["emotion_video"])
    run_in_process(inputs, tmp_path / "video")
    frames = np.load(tmp_path / "video" / "emotion.npy", allow_pickle=False)
    expected = read_emotion_video(inputs["emotion_video"], 1.0).permute(0, 2, 3, 1).numpy()
    assert frames.shape == (25, MOTION_SIZE, MOTION_SIZE, 3), "cut to the length of the speech"
    np.testing.assert_array_equal(frames.astype(np.float32) / 127.5 - 1, expected)


def error_for(
    name: str, make: Make, kind: str, inputs: dict[str, Path], tmp_path: Path, limits: Limits | None = None
) -> dict:
    path = tmp_path / name
    make(path)
    lines = run_in_process({**inputs, kind: path}, tmp_path / "results", limits)
    error = lines[-1]["error"]
    assert error["is_input"] is True
    assert repr(NAMES[kind]) in error["message"], "the error has the client's name of the file"
    assert str(tmp_path) not in json.dumps(lines) and "\n" not in error["message"]
    return error


@pytest.mark.parametrize("kind", ["portrait", "emotion_image"])
@pytest.mark.parametrize(("name", "make", "code", "text"), [case[1:] for case in IMAGES], ids=[c[0] for c in IMAGES])
def test_a_bad_image_is_refused(
    tmp_path: Path, inputs: dict, kind: str, name: str, make: Make, code: str, text: str
) -> None:
    error = error_for(name, make, kind, inputs, tmp_path)
    assert error["code"] == code and text in error["message"]


@pytest.mark.parametrize(
    ("name", "make", "code", "text", "limits"), [case[1:] for case in SPEECH], ids=[c[0] for c in SPEECH]
)
def test_bad_speech_is_refused(
    tmp_path: Path, inputs: dict, name: str, make: Make, code: str | None, text: str, limits: Limits
) -> None:
    limits = Limits(audio_s=limits.audio_s, media_bytes=limits.media_bytes)  # the other limits are the portrait's
    error = error_for(name, make, "audio", inputs, tmp_path, limits)
    assert error["code"] == (code or error["code"]) and text in error["message"] + error["remedy"]


@pytest.mark.parametrize(
    ("name", "make", "code", "text", "limits"),
    # Without the limit on length: a video is read only up to the length of the speech.
    [pytest.param(*case[1:], id=case[0]) for case in VIDEO if case[3] != "video_too_long"],
)
def test_a_bad_video_is_refused(
    tmp_path: Path, inputs: dict, name: str, make: Make, code: str | None, text: str, limits: Limits
) -> None:
    error = error_for(name, make, "emotion_video", inputs, tmp_path, Limits(video_pixels=limits.video_pixels))
    assert error["code"] == (code or error["code"]) and text in error["message"] + error["remedy"]


def png(path: Path, *chunks: tuple[bytes, bytes]) -> None:
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in (*chunks, (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    path.write_bytes(data)


def transparent_bomb(path: Path) -> None:
    """Write 49 megapixels of one bit, with a transparent colour, in a few kilobytes. Conversion to RGB takes 800 MB."""
    header = struct.pack(">IIBBBBB", 7000, 7000, 1, 3, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + 875) * 7000))
    png(path, (b"IHDR", header), (b"PLTE", bytes(6)), (b"tRNS", b"\0"), (b"IDAT", pixels))
    assert path.stat().st_size < 10_000


def text_bomb(path: Path) -> None:
    """Write a comment of a hundred megabytes, compressed to a hundred kilobytes."""
    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    bomb = zlib.compress(bytes(100_000_000))
    png(path, (b"IHDR", header), (b"zTXt", b"Comment\0\0" + bomb), (b"IDAT", zlib.compress(bytes(193 * 64))))


def test_a_decompression_bomb_exceeds_the_memory_limit_of_its_process(tmp_path: Path, inputs: dict) -> None:
    transparent_bomb(inputs["portrait"])
    with fails(tmp_path, "media_too_large"):
        run(inputs, tmp_path, resources=Resources(memory_bytes=700_000_000))


def test_a_decompression_bomb_in_a_comment_is_refused(tmp_path: Path, inputs: dict) -> None:
    text_bomb(inputs["portrait"])
    with fails(tmp_path, "image_unreadable"):
        run(inputs, tmp_path, resources=Resources(memory_bytes=700_000_000))


def two_hours(path: Path) -> None:
    """Write two hours of sound: a small file within the limits, but slow to encode."""
    wav(7000, rate=100)(path)


def test_preparation_ends_at_the_time_limit(tmp_path: Path, inputs: dict) -> None:
    two_hours(inputs["audio"])
    start = time.monotonic()
    with fails(tmp_path, "media_timeout"):
        run(inputs, tmp_path, timeout_s=2.0)
    assert time.monotonic() - start < 10


def test_preparation_ends_at_the_limit_on_cpu_time(tmp_path: Path, inputs: dict) -> None:
    two_hours(inputs["audio"])
    with fails(tmp_path, "media_timeout"):
        run(inputs, tmp_path, resources=Resources(cpu_s=0.5))


def test_a_full_disk_is_an_output_error(tmp_path: Path, inputs: dict) -> None:
    with fails(tmp_path, "output_no_space", OutputError):
        run(inputs, tmp_path, resources=Resources(file_bytes=10_000))


def test_errors_have_the_clients_names_of_the_files(tmp_path: Path, inputs: dict) -> None:
    inputs["portrait"].unlink()
    for names, called in ((NAMES, "me.png"), ({}, "1"), ({"portrait": "a\nb" * 100}, "a\\nba")):
        with pytest.raises(InputError, match="does not exist") as caught:
            run(inputs, tmp_path, names=names)
        assert caught.value.code == "image_missing" and caught.value.message.startswith(f"image '{called}")
        assert len(caught.value.message) < 500 and "\n" not in caught.value.message


# Programs that run in place of Python. They do what a compromised decoder or a failing machine could do.
ENDINGS = {
    "crash": ("""echo '{"reading": "audio"}'; kill -SEGV $$""", "media_unreadable", InputError),
    "exception": ("""echo '{"reading": "portrait"}'; echo oh dear >&2; exit 1""", "media_unreadable", InputError),
    "killed from outside": ("""echo '{"reading": "audio"}'; kill -KILL $$""", "intake_unavailable", ServingError),
    "does not start": ("echo no module >&2; exit 1", "intake_unavailable", ServingError),
    "does nothing": ("exit 0", "intake_unavailable", ServingError),
    "writes nonsense": (
        """echo '[[[[1]'; echo '{"reading": []}'; head -c 9000 /dev/urandom; exit 0""",
        "intake_unavailable",
        ServingError,
    ),
    "claims to be done": ("""echo '{"done": true}'""", "intake_unavailable", ServingError),
    "writes without end": ("yes", "media_timeout", InputError),
    "hangs": ("""echo '{"reading": "audio"}'; sleep 60""", "media_timeout", InputError),
}


def replace_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_misbehaving_process_is_one_error(
    tmp_path: Path, inputs: dict, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ending: str
) -> None:
    script, code, kind = ENDINGS[ending]
    replace_python(tmp_path, monkeypatch, script)
    with fails(tmp_path, code, kind):
        run(inputs, tmp_path, timeout_s=1.0)
    assert ending != "exception" or "oh dear" in caplog.text, "stderr is in the log for the operator"


def test_child_processes_end_with_the_isolated_process(
    tmp_path: Path, inputs: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "child").touch()
    replace_python(tmp_path, monkeypatch, f"sleep 60 & echo $! > {tmp_path}/child; wait")
    with fails(tmp_path, "media_timeout"):
        run(inputs, tmp_path, timeout_s=1.0)
    child = int((tmp_path / "child").read_text())
    wait_until(lambda: not is_running(child))


def test_the_isolated_process_does_not_inherit_the_environment(
    tmp_path: Path, inputs: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMOTIVETALK_TOKENS", "secret")
    (tmp_path / "environment").touch()
    replace_python(tmp_path, monkeypatch, f"env > {tmp_path}/environment; pwd >> {tmp_path}/environment; exit 1")
    with fails(tmp_path, "intake_unavailable", ServingError):
        run(inputs, tmp_path)
    text = (tmp_path / "environment").read_text()
    names = {line.partition("=")[0] for line in text.splitlines()}
    kept = {"PATH", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONPATH", "PYTHONUTF8", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
    assert names <= kept | {"PWD", "SHLVL", "_", "OLDPWD", "/"}
    assert "secret" not in text


def test_a_symbolic_link_is_refused_as_a_result(tmp_path: Path, inputs: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compromised process could otherwise make the gateway publish another file."""
    link = f"""cd {tmp_path}/prepared-*; for name in portrait.png speech.f32 speech.m4a; do ln -s {HELLO} $name; done"""
    replace_python(tmp_path, monkeypatch, f"""{link}; echo '{{"done": true}}'""")
    with fails(tmp_path, "intake_unavailable", ServingError):
        run(inputs, tmp_path)


def test_two_emotion_inputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not from both"):
        prepare(PORTRAIT, HELLO, PORTRAIT, HELLO, tmp_path, image_size=64)


def test_signals_of_the_resource_limits_are_reported_as_a_timeout() -> None:
    work = PreparationTask({"audio": "/a"}, {"audio": "a"}, "/", 64, 64, {}, {}, 5, 5, 1, 1)
    for number in (signal.SIGXCPU, signal.SIGALRM):
        error = intake._error_of(work, "audio", {}, -number, "")
        assert error is not None and error.code == "media_timeout" and "audio 'a' took longer than 5 s" in str(error)
