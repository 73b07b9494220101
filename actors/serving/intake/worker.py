"""The program that decodes uploads: a process of its own for each request, started by `actors/serving/intake/prepare.py`.

It reads a task as JSON from standard input, sets its own limits, decodes, and writes lines of JSON to what was its
standard output: `{"reading": kind}` for each file that it turns to, at the end `{"done": true}` or an error's parts.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from emotivetalk.errors import EmotiveTalkError, InputError
from emotivetalk.files import atomic_write, check_readable, quoted, writing
from emotivetalk.limits import Limits
from emotivetalk.media.audio import load_speech
from emotivetalk.media.expressions import read_expression_image, read_expression_video
from emotivetalk.media.faces import choose_face, crop_portrait
from emotivetalk.media.fragments import encode_audio
from emotivetalk.media.image import load_image, save_image
from emotivetalk.timebase import SAMPLE_RATE_HZ

ORPHAN_S = 5.0  # by so much it outlives its time limit if nobody is there to end it
MAX_SAID = 2000  # characters of a message


@dataclass(frozen=True)
class Task:
    """What to prepare. `files` and `names` go by kind: portrait, audio, emotion_image, emotion_video.

    An emotion video needs the audio beside it; a portrait may come alone.
    """

    files: Mapping[str, str]
    names: Mapping[str, str]
    folder: str
    image_size: int
    motion_size: int
    face: int | None
    limits: Mapping[str, Any]
    timeout_s: float
    cpu_s: float
    memory_bytes: int
    file_bytes: int


class Report:
    """Lines of JSON about how far it is. What the user reads names files as the client did."""

    def __init__(self, file: BinaryIO, task: Task) -> None:
        self._file = file
        self._task = task

    def write(self, **line: object) -> None:
        """Write a line at once: whoever reads must know where a crash happened."""
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()

    @contextmanager
    def reading(self, kind: str) -> Iterator[Path]:
        """Say which file comes next, and give it; running out of memory meanwhile is the file's fault."""
        self.write(reading=kind)
        try:
            yield Path(self._task.files[kind])
        except (MemoryError, EmotiveTalkError) as error:
            if not _is_about_memory(error):
                raise
            path = Path(self._task.files[kind])
            raise InputError(
                "media_too_large",
                f"{kind.replace('_', ' ')} {quoted(path)} needs more than {self._task.memory_bytes / 1e6:.0f} MB of "
                "memory to decode",
                "Make it smaller or shorter.",
            ) from error

    def error(self, error: EmotiveTalkError) -> None:
        """Write the last line of a task that failed."""
        said = {part: self._said(getattr(error, part)) for part in ("message", "remedy")}
        self.write(error={"is_input": isinstance(error, InputError), "code": error.code, **said})

    def _said(self, text: str) -> str:
        for kind, path in sorted(self._task.files.items(), key=lambda item: -len(item[1])):
            name = self._task.names[kind]
            text = text.replace(quoted(Path(path)), repr(name)).replace(path, name)
        return text.replace(f"{self._task.folder}/", "")[:MAX_SAID]


def prepare_files(task: Task, report: Report) -> None:
    """Read everything as `emotivetalk generate` does, in its order, and write what serving needs into the folder.

    Raises:
        InputError: as it does; OutputError: the disk is full.
    """
    limits = Limits(**task.limits)
    folder = Path(task.folder)
    bounds = {"portrait": ("image", limits.image_bytes), "audio": ("audio", limits.media_bytes)}
    bounds |= {"emotion_image": ("image", limits.image_bytes), "emotion_video": ("video", limits.media_bytes)}
    for kind, path in task.files.items():
        check_readable(Path(path), *bounds[kind])
    duration_s = 0.0
    if "audio" in task.files:
        with report.reading("audio") as path:
            speech = load_speech(path, limits)
            _write(folder / "speech.f32", speech.waveform.astype("<f4", copy=False))
            encode_audio(speech.waveform, folder / "speech.m4a")
            duration_s = len(speech.waveform) / SAMPLE_RATE_HZ
            del speech  # hours of it are as large as a video's frames
    if "emotion_image" in task.files:
        with report.reading("emotion_image") as path:
            save_image(folder / "emotion.png", read_expression_image(path, task.motion_size, limits))
    if "emotion_video" in task.files:
        with report.reading("emotion_video") as path:
            frames = read_expression_video(path, task.motion_size, duration_s, limits)
            with atomic_write(folder / "emotion.npy") as temporary, writing(temporary), temporary.open("wb") as file:
                np.save(file, frames, allow_pickle=False)
    with report.reading("portrait") as path:
        picture = load_image(path, limits)
        face = choose_face(picture, task.face, str(path), limits)
        save_image(folder / "portrait.png", crop_portrait(picture, face, task.image_size).image)


def limit(task: Task) -> None:
    """Bound what this process may use. What it needs was imported before; no input has been looked at yet."""
    cpu_s = int(task.cpu_s) + 1
    resource.setrlimit(resource.RLIMIT_AS, (task.memory_bytes, task.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (task.file_bytes, task.file_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Who started it ends it in time; should he be gone, the alarm does, in C code too.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, task.timeout_s + ORPHAN_S)


def main() -> None:
    """Run one task."""
    results = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no result
    task = Task(**json.load(sys.stdin))
    report = Report(results, task)
    limit(task)
    try:
        prepare_files(task, report)
    except EmotiveTalkError as error:
        report.error(error)
    else:
        report.write(done=True)


def _write(path: Path, array: np.ndarray) -> None:
    with atomic_write(path) as temporary, writing(path):
        temporary.write_bytes(array.data)  # unlike tofile it says why it could not


def _is_about_memory(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, says that memory ran out."""
    return error is not None and (isinstance(error, MemoryError) or _is_about_memory(error.__cause__))


if __name__ == "__main__":
    main()
