"""Find face landmarks and face embeddings in frames from standard input, until it ends.

`media/face_observer.py` runs this script with the interpreter of another environment and describes the messages. The
script imports nothing from the project. Packages: mediapipe (landmarks), dlib and face_recognition_models (embeddings).
"""

import json
import os
import sys
from typing import Any, BinaryIO

import mediapipe  # pyright: ignore[reportMissingImports]
import numpy as np

NUM_LANDMARKS, EMBEDDING_SIZE, CHIP_SIZE = 478, 128, 150
DLIB_POINTS = (263, 362, 33, 133, 2)  # corners of the eyes and base of the nose, in the order of dlib's five landmarks


def main(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until they end."""
    embed = load_embedding()
    answers.write(json.dumps({"has_embedding": embed is not None}).encode() + b"\n")
    answers.flush()
    with mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1, refine_landmarks=True) as mesh:
        while line := requests.readline():
            request = json.loads(line)
            shape = request["shape"]
            frames = np.frombuffer(requests.read(int(np.prod(shape))), np.uint8).reshape(shape)
            landmarks = np.stack([find_landmarks(mesh, frame) for frame in frames])
            embeddings = np.full((len(frames), EMBEDDING_SIZE), np.nan, np.float32)
            for index in request["embedded"]:
                if embed is not None and np.isfinite(landmarks[index]).all():
                    embeddings[index] = embed(frames[index], landmarks[index])
            answers.write(landmarks.tobytes() + embeddings.tobytes())
            answers.flush()


def find_landmarks(mesh: Any, frame: np.ndarray) -> np.ndarray:
    """Return 478 points in pixels (z in the same unit), or NaN if no face is found."""
    height, width = frame.shape[:2]
    faces = mesh.process(np.ascontiguousarray(frame)).multi_face_landmarks
    if not faces:
        return np.full((NUM_LANDMARKS, 3), np.nan, np.float32)
    return np.array([(p.x * width, p.y * height, p.z * width) for p in faces[0].landmark], np.float32)


def load_embedding() -> Any:
    """Return the function from a frame and its landmarks to an embedding; None if the packages are missing."""
    try:
        import dlib  # pyright: ignore[reportMissingImports]
        import face_recognition_models  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    network = dlib.face_recognition_model_v1(face_recognition_models.face_recognition_model_location())

    def embed(frame: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        corners = [landmarks[:, :2].min(0), landmarks[:, :2].max(0)]
        box = dlib.rectangle(*(int(value) for corner in corners for value in corner))
        points = dlib.points()
        for index in DLIB_POINTS:
            points.append(dlib.point(*(round(float(value)) for value in landmarks[index, :2])))
        chip = dlib.get_face_chip(np.ascontiguousarray(frame), dlib.full_object_detection(box, points), CHIP_SIZE)
        return np.array(network.compute_face_descriptor(chip), np.float32)

    return embed


if __name__ == "__main__":
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the packages print must not get between the answers
    main(sys.stdin.buffer, output)
