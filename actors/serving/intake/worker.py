"""The program that decodes uploads in an isolated process, one for each request, started by `prepare.py`.

It reads a task as a line of JSON, bounds itself, decodes, and reports `{"reading": kind}` before each file and at the end
`{"done": true}` or an error's parts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotivetalk.errors import EmotiveTalkError, InputError
from emotivetalk.files import atomic_write, check_readable, quoted, writing
from emotivetalk.limits import Limits
from emotivetalk.media.audio import load_speech
from emotivetalk.media.expressions import read_expression_image, read_expression_video
from emotivetalk.media.faces import choose_face, crop_portrait
from emotivetalk.media.fragments import encode_audio
from emotivetalk.media.image import load_image, save_image
from emotivetalk.media.isolated_process import ProcessLimits, Reports, limit, open_reports
from emotivetalk.request import InputSettings
from emotivetalk.timebase import SAMPLE_RATE_HZ

ORPHAN_S = 5.0  # time beyond the limit after which the process ends itself
MAX_MESSAGE = 2000  # characters


@dataclass(frozen=True)
class PreparationTask:
    """The files to prepare and their limits.

    `files` and `names` are keyed by kind: portrait, audio, emotion_image, emotion_video. The portrait is required. An
    emotion video requires audio.
    """

    files: Mapping[str, str]
    names: Mapping[str, str]
    folder: str
    image_size: int
    motion_size: int
    input_settings: Mapping[str, Any]
    limits: Mapping[str, Any]
    timeout_s: float
    cpu_s: float
    memory_bytes: int
    file_bytes: int


class Report:
    """Reports the progress and the result of a task. Messages name files as the client did."""

    def __init__(self, reports: Reports, task: PreparationTask) -> None:
        self._reports, self._task = reports, task

    @contextmanager
    def reading(self, kind: str) -> Iterator[Path]:
        """Report which file comes next and give its path. Running out of memory meanwhile is an InputError."""
        self._reports.write(reading=kind)
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
        """Report the error of a failed task."""
        texts = {part: self._client_text(getattr(error, part)) for part in ("message", "remedy")}
        self._reports.write(error={"is_input": isinstance(error, InputError), "code": error.code, **texts})

    def _client_text(self, text: str) -> str:
        for kind, path in sorted(self._task.files.items(), key=lambda item: -len(item[1])):
            name = self._task.names[kind]
            text = text.replace(quoted(Path(path)), repr(name)).replace(path, name)
        return text.replace(f"{self._task.folder}/", "")[:MAX_MESSAGE]


def prepare_files(task: PreparationTask, report: Report) -> None:
    """Read the files as `emotivetalk generate` does, in the same order, and write what serving needs into the folder.

    Raises:
        InputError: as `emotivetalk generate`.
        OutputError: the disk is full.
    """
    limits, input_settings = Limits(**task.limits), InputSettings(**task.input_settings)
    folder = Path(task.folder)
    bounds = {"portrait": ("image", limits.image_bytes), "audio": ("audio", limits.media_bytes)}
    bounds |= {"emotion_image": ("image", limits.image_bytes), "emotion_video": ("video", limits.media_bytes)}
    for kind, path in task.files.items():
        check_readable(Path(path), *bounds[kind])
    duration_s = 0.0
    if "audio" in task.files:
        with report.reading("audio") as path:
            speech = load_speech(path, limits, input_settings.audio_track)
            _write(folder / "speech.f32", speech.waveform.astype("<f4", copy=False))
            encode_audio(speech.waveform, folder / "speech.m4a")
            duration_s = len(speech.waveform) / SAMPLE_RATE_HZ
            del speech  # hours of speech take as much memory as a video's frames
    if "emotion_image" in task.files:
        with report.reading("emotion_image") as path:
            save_image(folder / "emotion.png", read_expression_image(path, task.motion_size, limits))
    if "emotion_video" in task.files:
        with report.reading("emotion_video") as path:
            frames = read_expression_video(path, task.motion_size, duration_s, limits)
            with atomic_write(folder / "emotion.npy") as temporary, writing(temporary), temporary.open("wb") as file:
                np.save(file, frames, allow_pickle=False)
    if "portrait" in task.files:
        with report.reading("portrait") as path:
            picture = load_image(path, limits)
            face = choose_face(picture, input_settings.face, str(path), limits)
            save_image(folder / "portrait.png", crop_portrait(picture, face, task.image_size).image)


def main() -> None:
    """Run one task."""
    reports = open_reports()
    task = PreparationTask(**json.loads(sys.stdin.readline()))
    report = Report(reports, task)
    # The parent kills the process in time; if it cannot, the process ends itself a little later.
    limit(ProcessLimits(task.memory_bytes, task.file_bytes, task.cpu_s, task.timeout_s + ORPHAN_S))
    try:
        prepare_files(task, report)
    except EmotiveTalkError as error:
        report.error(error)
    else:
        reports.write(done=True)


def _write(path: Path, array: np.ndarray) -> None:
    with atomic_write(path) as temporary, writing(path):
        temporary.write_bytes(array.data)  # unlike tofile it raises an error with the reason


def _is_about_memory(error: BaseException | None) -> bool:
    """Return True if the error or one of its causes is a MemoryError."""
    return error is not None and (isinstance(error, MemoryError) or _is_about_memory(error.__cause__))


if __name__ == "__main__":
    main()
