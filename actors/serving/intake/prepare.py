"""Uploads become checked, normalised inputs: decoded in a process of its own that has little to lose.

Decoders are written in C and read what strangers send. So each request's files are decoded by a process
(`actors/serving/intake/worker.py`) with bounds on memory, time and what it writes, an almost empty environment (no
tokens, no credentials), and nothing to say but a few lines. Whatever it does, the gateway goes on.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emotivetalk.actors.errors import ServingError
from emotivetalk.actors.serving.intake.fetch import PublicTransport, check_address, fetch, say_url
from emotivetalk.actors.serving.intake.worker import Task
from emotivetalk.errors import EmotiveTalkError, InputError, OutputError
from emotivetalk.limits import Limits, say_duration
from emotivetalk.media.mux import count_frames
from emotivetalk.models.encoders import MOTION_SIZE

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
MAX_RESULT_BYTES = 1 << 16  # what a pipe holds: a process that says more waits until its time is up
# Without these some installations find no Python, no libraries or no place for temporary files.
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resources:
    """What the decoding process may use.

    Attributes:
        memory_bytes: of address space, libraries included. The default is enough for two hours of speech and for a
            minute of emotion video.
        file_bytes: of each file that it writes.
        cpu_s: seconds of all its threads together; None: as many as its time limit has.
    """

    memory_bytes: int = 4 << 30
    file_bytes: int = 2 << 30
    cpu_s: float | None = None


@dataclass(frozen=True)
class Prepared:
    """Inputs as serving stores them.

    Attributes:
        num_samples: of the speech, 16 kHz.
        num_frames: of the video, 25 a second.
        size: side of the portrait, pixels.
        files: by the names they have in a job's folder: portrait.png (RGB, size x size), speech.f32 (float32, little
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
    face: int | None = None,
    limits: Limits | None = None,
    timeout_s: float = 120.0,
    names: Mapping[str, str] | None = None,
    resources: Resources | None = None,
) -> Prepared:
    """Check and normalise a request's files, as `emotivetalk generate` reads them.

    Args:
        emotion_image, emotion_video: at most one of them.
        folder: where to put the results, in a new folder of their own; after an error nothing is left there.
        image_size: side of the portraits that the checkpoint wants, pixels.
        face: which, counted from 1 at the left; None where there is to be only one.
        timeout_s: until the process is ended; what it would have done with its CPU alone is bounded by `resources`.
        names: what messages call the files, by argument: {"portrait": "me.png"}. Else the last part of their path.
        resources: what the process may use.

    Raises:
        InputError: what `emotivetalk generate` raises, and media_unreadable (the decoder crashed), media_timeout,
            media_too_large (it ran out of memory). OutputError: the disk is full.
        ServingError: intake_unavailable, no file's fault.
        ValueError: both an emotion image and an emotion video.
    """
    if emotion_image is not None and emotion_video is not None:
        raise ValueError("an emotion comes from an image or a video, not from both.")
    given = {"portrait": portrait, "audio": audio, "emotion_image": emotion_image, "emotion_video": emotion_video}
    files = {kind: path.absolute() for kind, path in given.items() if path is not None}
    found = _decode(files, folder, image_size, face, limits, timeout_s, names, resources)
    num_samples = found["speech.f32"].stat().st_size // 4
    return Prepared(num_samples, count_frames(num_samples), image_size, found)


def prepare_portrait(
    portrait: Path,
    folder: Path,
    *,
    image_size: int,
    face: int | None = None,
    limits: Limits | None = None,
    timeout_s: float = 120.0,
    name: str | None = None,
    resources: Resources | None = None,
) -> Path:
    """The same of a portrait alone, whose speech is still to come: portrait.png in a new folder in `folder`."""
    names = {} if name is None else {"portrait": name}
    files = {"portrait": portrait.absolute()}
    return _decode(files, folder, image_size, face, limits, timeout_s, names, resources)["portrait.png"]


def _decode(
    files: Mapping[str, Path],
    folder: Path,
    image_size: int,
    face: int | None,
    limits: Limits | None,
    timeout_s: float,
    names: Mapping[str, str] | None,
    resources: Resources | None,
) -> dict[str, Path]:
    """What the process makes of the files, by its names; after an error nothing is left."""
    resources = resources or Resources()
    called = {kind: path.name for kind, path in files.items()} | dict(names or {})
    results = Path(tempfile.mkdtemp(prefix="prepared-", dir=folder.absolute()))
    task = Task(
        files={kind: str(path) for kind, path in files.items()},
        names={kind: called[kind][:MAX_NAME] for kind in files},
        folder=str(results),
        image_size=image_size,
        motion_size=MOTION_SIZE,
        face=face,
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


def _run(task: Task) -> None:
    """Start the process, wait for its end at most until its time is up, and raise what it failed with."""
    with tempfile.TemporaryFile() as complaints:
        with subprocess.Popen(
            # -P: a folder that a stranger can write to is no place to import from.
            [sys.executable, "-P", "-m", "emotivetalk.actors.serving.intake.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            bufsize=0,  # nothing is left to be flushed into a process that is gone
            cwd="/",
            env=_environment(),
            start_new_session=True,
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            is_late = False
            try:
                with suppress(BrokenPipeError):  # it died at once; its status says so
                    process.stdin.write(json.dumps(asdict(task)).encode())
                process.stdin.close()
                status = process.wait(task.timeout_s)
            except subprocess.TimeoutExpired:
                is_late = True
                status = _kill(process)
            except BaseException:
                _kill(process)
                raise
            os.set_blocking(process.stdout.fileno(), False)
            said = process.stdout.read(MAX_RESULT_BYTES) or b""
        complaints.seek(max(0, complaints.seek(0, os.SEEK_END) - 2000))
        complaint = complaints.read().decode(errors="replace")
    error = _judge(task, _lines(said), status, is_late, complaint)
    if error is not None:
        raise error


def _kill(process: subprocess.Popen[bytes]) -> int:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _judge(
    task: Task, lines: list[dict[str, Any]], status: int, is_late: bool, complaint: str
) -> EmotiveTalkError | None:
    """What a process's end means for who sent the files."""
    if status == 0 and lines and lines[-1].get("done") is True:
        return None
    told = lines[-1].get("error") if status == 0 and lines else None
    if isinstance(told, dict):
        kind = InputError if told.get("is_input") is True else OutputError
        return kind(str(told.get("code")), str(told.get("message")), str(told.get("remedy")))
    reading = [kind for line in lines if isinstance(kind := line.get("reading"), str) and kind in task.files]
    if is_late or status in (-signal.SIGXCPU, -signal.SIGALRM):
        what = _say(task, reading) if reading else "the input"
        return InputError(
            "media_timeout",
            f"{what} took longer than {say_duration(task.timeout_s)} to decode",
            "Make it smaller or shorter, or try again when there is less to do.",
        )
    log.warning("decoding ended with status %d while reading %s: %s", status, reading[-1:], complaint)
    if not reading or status == -signal.SIGKILL:  # our own limits end it otherwise
        return ServingError("intake_unavailable", "uploads cannot be decoded at the moment", "Try again later.")
    return InputError(
        "media_unreadable", f"{_say(task, reading)} cannot be decoded", "Export it again, as PNG, WAV or MP4."
    )


def _say(task: Task, reading: list[str]) -> str:
    kind = reading[-1]
    return f"{kind.replace('_', ' ')} {task.names[kind]!r}"


def _lines(said: bytes) -> list[dict[str, Any]]:
    """The lines that are JSON objects: of a process that was taken over, nothing is believed."""
    found = []
    for line in said.splitlines():
        with suppress(ValueError, RecursionError):
            value = json.loads(line)
            if isinstance(value, dict):
                found.append(value)
    return found


def _collect(results: Path, files: Mapping[str, Path]) -> dict[str, Path]:
    names = ["portrait.png"]
    names += ["speech.f32", "speech.m4a"] if "audio" in files else []
    names += ["emotion.png"] if "emotion_image" in files else []
    names += ["emotion.npy"] if "emotion_video" in files else []
    found = {name: results / name for name in names}
    for path in found.values():
        if path.is_symlink() or not path.is_file():
            raise ServingError("intake_unavailable", f"{path.name} was not written", "Try again later.")
    return found


def _environment() -> dict[str, str]:
    """What the process needs to start, and nothing else that this one knows."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return kept | {
        "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path),
        "PYTHONUTF8": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
