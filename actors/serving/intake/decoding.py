"""Decode, check and normalise uploads in an isolated process (`worker.py`), one for each request."""

from __future__ import annotations

import logging
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emotivetalk.actors.errors import ServingError
from emotivetalk.actors.serving.intake.fetch import PublicTransport, check_address, fetch, say_url
from emotivetalk.actors.serving.intake.worker import PreparationTask
from emotivetalk.errors import EmotiveTalkError, InputError, OutputError
from emotivetalk.limits import Limits, say_duration
from emotivetalk.media.isolated_process import IsolatedProcess
from emotivetalk.media.mux import count_frames
from emotivetalk.models.encoders import MOTION_SIZE
from emotivetalk.request import InputSettings

__all__ = [
    "Prepared",
    "PublicTransport",
    "Resources",
    "check_address",
    "fetch",
    "prepare",
    "prepare_portrait",
    "say_url",
]

MAX_NAME = 200  # characters of a file's name in messages

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resources:
    """Limits of the decoding process.

    Attributes:
        memory_bytes: address space, libraries included. The default is enough for two hours of speech and for a minute
            of emotion video.
        file_bytes: size of each file that it writes.
        cpu_s: CPU time of all its threads together, seconds; None is the time limit.
    """

    memory_bytes: int = 4 << 30
    file_bytes: int = 2 << 30
    cpu_s: float | None = None


@dataclass(frozen=True)
class Prepared:
    """Inputs as serving stores them.

    Attributes:
        num_samples: samples of speech, at 16 kHz.
        num_frames: frames of the video, at 25 fps.
        size: side of the portrait, pixels.
        files: by their names in a job's folder: portrait.png (RGB, size x size), speech.f32 (float32, little
            endian, mono), speech.m4a (see media/fragments.py), and emotion.png (RGB) or emotion.npy (uint8, frames
            height width 3) where there was one, of side MOTION_SIZE.
    """

    num_samples: int
    num_frames: int
    size: int
    files: dict[str, Path]


def prepare(
    portrait: Path,
    audio: Path,
    emotion_image: Path | None,
    emotion_video: Path | None,
    folder: Path,
    *,
    image_size: int,
    input_settings: InputSettings | None = None,
    limits: Limits | None = None,
    timeout_s: float = 120.0,
    names: Mapping[str, str] | None = None,
    resources: Resources | None = None,
    prepared_portrait: Path | None = None,
) -> Prepared:
    """Check and normalise a request's files exactly as `emotivetalk generate` does.

    Args:
        emotion_image, emotion_video: at most one of them.
        folder: where to create a new folder with the results. After an error nothing is left there.
        image_size: side of the checkpoint's portraits, pixels.
        input_settings: None uses the defaults.
        timeout_s: time until the process is killed; `resources` bounds its CPU time.
        names: names of the files in messages, by argument: {"portrait": "me.png"}. The default is the file name.
        resources: limits of the process.
        prepared_portrait: the result of an earlier preparation of the same portrait; `portrait` is then not read.

    Raises:
        InputError: as `emotivetalk generate`, and media_unreadable (the decoder crashed), media_timeout, media_too_large
            (it ran out of memory).
        OutputError: the disk is full.
        ServingError: intake_unavailable: the process failed for another reason than the files.
        ValueError: both an emotion image and an emotion video.
    """
    if emotion_image is not None and emotion_video is not None:
        raise ValueError("an emotion comes from an image or a video, not from both.")
    given = {"portrait": portrait, "audio": audio, "emotion_image": emotion_image, "emotion_video": emotion_video}
    if prepared_portrait is not None:
        del given["portrait"]
    files = {kind: path.absolute() for kind, path in given.items() if path is not None}
    found = _decode(files, folder, image_size, input_settings, limits, timeout_s, names, resources)
    if prepared_portrait is not None:
        found["portrait.png"] = prepared_portrait
    num_samples = found["speech.f32"].stat().st_size // 4
    return Prepared(num_samples, count_frames(num_samples), image_size, found)


def prepare_portrait(
    portrait: Path,
    folder: Path,
    *,
    image_size: int,
    input_settings: InputSettings | None = None,
    limits: Limits | None = None,
    timeout_s: float = 120.0,
    name: str | None = None,
    resources: Resources | None = None,
) -> Path:
    """Check and normalise the portrait of a live call; returns portrait.png in a new folder in `folder`."""
    names = {} if name is None else {"portrait": name}
    files = {"portrait": portrait.absolute()}
    return _decode(files, folder, image_size, input_settings, limits, timeout_s, names, resources)["portrait.png"]


def _decode(
    files: Mapping[str, Path],
    folder: Path,
    image_size: int,
    input_settings: InputSettings | None,
    limits: Limits | None,
    timeout_s: float,
    names: Mapping[str, str] | None,
    resources: Resources | None,
) -> dict[str, Path]:
    """Run the process and return its files by name. After an error nothing is left."""
    resources = resources or Resources()
    display_names = {kind: path.name for kind, path in files.items()} | dict(names or {})
    results = Path(tempfile.mkdtemp(prefix="prepared-", dir=folder.absolute()))
    task = PreparationTask(
        files={kind: str(path) for kind, path in files.items()},
        names={kind: display_names[kind][:MAX_NAME] for kind in files},
        folder=str(results),
        image_size=image_size,
        motion_size=MOTION_SIZE,
        input_settings=(input_settings or InputSettings()).model_dump(),
        limits=asdict(limits or Limits()),
        timeout_s=timeout_s,
        cpu_s=timeout_s if resources.cpu_s is None else resources.cpu_s,
        memory_bytes=resources.memory_bytes,
        file_bytes=resources.file_bytes,
    )
    try:
        _run(task)
        return _collect(results, files)
    except BaseException:
        shutil.rmtree(results, ignore_errors=True)
        raise


def _run(task: PreparationTask) -> None:
    """Run the process to its end or until its time is up, and raise what it failed with."""
    end = time.monotonic() + task.timeout_s
    reading: str | None = None
    last: dict[str, Any] = {}
    status: int | None = None
    with IsolatedProcess("emotivetalk.actors.serving.intake.worker") as process:
        process.send(asdict(task))
        with suppress(TimeoutError):
            for last in process.lines(task.timeout_s):
                if isinstance(kind := last.get("reading"), str) and kind in task.files:
                    reading = kind
            status = process.wait(max(0.0, end - time.monotonic()))
        error_output = process.error_output
    error = _error_of(task, reading, last, status, error_output)
    if error is not None:
        raise error


def _error_of(
    task: PreparationTask, reading: str | None, last: dict[str, Any], status: int | None, error_output: str
) -> EmotiveTalkError | None:
    """Explain how the process ended.

    Args:
        reading: kind of the file that it read last.
        last: its last report.
        status: its exit status; None if its time was up.
    """
    if status is None or status in (-signal.SIGXCPU, -signal.SIGALRM):
        subject = _describe(task, reading) if reading is not None else "the input"
        return InputError(
            "media_timeout",
            f"{subject} took longer than {say_duration(task.timeout_s)} to decode",
            "Make it smaller or shorter, or try again when there is less to do.",
        )
    if status == 0 and last.get("done") is True:
        return None
    if status == 0 and isinstance(error := last.get("error"), dict):
        kind = InputError if error.get("is_input") is True else OutputError
        return kind(str(error.get("code")), str(error.get("message")), str(error.get("remedy")))
    log.warning("decoding ended with status %d while reading %s: %s", status, reading, error_output)
    if reading is None or status == -signal.SIGKILL:  # our own limits end it in other ways
        return ServingError("intake_unavailable", "uploads cannot be decoded at the moment", "Try again later.")
    return InputError(
        "media_unreadable", f"{_describe(task, reading)} cannot be decoded", "Export it again, as PNG, WAV or MP4."
    )


def _describe(task: PreparationTask, kind: str) -> str:
    return f"{kind.replace('_', ' ')} {task.names[kind]!r}"


def _collect(results: Path, files: Mapping[str, Path]) -> dict[str, Path]:
    names = ["portrait.png"] if "portrait" in files else []
    names += ["speech.f32", "speech.m4a"] if "audio" in files else []
    names += ["emotion.png"] if "emotion_image" in files else []
    names += ["emotion.npy"] if "emotion_video" in files else []
    found = {name: results / name for name in names}
    for path in found.values():
        if path.is_symlink() or not path.is_file():
            raise ServingError("intake_unavailable", f"{path.name} was not written", "Try again later.")
    return found
