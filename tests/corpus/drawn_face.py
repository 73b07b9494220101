"""A drawn face with mean landmarks of a hundred frontal faces, as a synthetic photograph for tests."""

from pathlib import Path

import cv2
import numpy as np

from emotivetalk.corpus.landmarks import (
    LEFT_BROW,
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LOWER_LIP_OUTER,
    OVAL,
    RIGHT_BROW,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    UPPER_LIP_OUTER,
)

MEAN_FACE = np.load(Path(__file__).with_name("mean_face.npz"))["points"]


def drawn_landmarks(size: int = 640, width: float = 0.42, center: tuple[float, float] = (0.5, 0.52)) -> np.ndarray:
    """Return landmarks of the upright mean face with shut lips; `width` is the distance of its cheeks by the picture's side."""
    points = MEAN_FACE.astype(np.float64)
    scale = width * size / (points[454, 0] - points[234, 0])
    middle = (points[234, :2] + points[454, :2]) / 2
    moved = (points[:, :2] - middle) * scale + np.array(center) * size
    moved[14] = moved[13]
    return np.column_stack([moved, points[:, 2] * scale]).astype(np.float32)


def drawn_picture(landmarks: np.ndarray, size: int = 640, skin: tuple[int, int, int] = (200, 150, 125)) -> np.ndarray:
    """Draw the face of these landmarks in front of a striped wall."""
    picture = np.full((size, size, 3), (120, 140, 160), np.uint8)
    picture[:, ::40] = (100, 110, 130)

    def fill(indices: tuple[int, ...], color: tuple[int, int, int]) -> None:
        cv2.fillPoly(picture, [np.round(landmarks[list(indices), :2]).astype(np.int32)], color, cv2.LINE_AA)

    left, right = landmarks[234, :2], landmarks[454, :2]
    width = float(right[0] - left[0])
    cv2.ellipse(
        picture,
        (*np.int32(landmarks[10, :2] + (0, width * 0.2)),),
        (int(width * 0.6),) * 2,
        0,
        0,
        360,
        (60, 40, 30),
        -1,
    )
    cv2.rectangle(picture, (int(left[0]), int(landmarks[152, 1] + 30)), (int(right[0]), size), (70, 90, 60), -1)
    fill(OVAL, skin)
    fill((*UPPER_LIP_OUTER, *LOWER_LIP_OUTER[::-1]), (170, 80, 85))
    for upper, lower, iris, brow in (
        (LEFT_EYE_UPPER, LEFT_EYE_LOWER, 468, LEFT_BROW),
        (RIGHT_EYE_UPPER, RIGHT_EYE_LOWER, 473, RIGHT_BROW),
    ):
        fill((*upper, *lower[::-1]), (235, 232, 228))
        radius = int(np.hypot(*(landmarks[iris + 1, :2] - landmarks[iris, :2])))
        cv2.circle(picture, (*np.int32(landmarks[iris, :2]),), radius, (60, 45, 35), -1, cv2.LINE_AA)
        fill((*brow[:5], *brow[5:][::-1]), (50, 35, 30))
    nose = np.round(landmarks[[98, 2, 327], :2]).astype(np.int32)
    cv2.polylines(picture, [nose], False, tuple(int(0.7 * c) for c in skin), 3, cv2.LINE_AA)
    return cv2.GaussianBlur(picture, (0, 0), 0.8)


def write_portraits(folder: Path, num: int, num_held_out: int) -> Path:
    """Write a folder of portraits of drawn people, the first `num_held_out` of which are held out; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    landmarks = {}
    rows = ["file\tsplit"]
    generator = np.random.default_rng(1)
    for number in range(num):
        points = drawn_landmarks(width=0.36 + 0.01 * number)
        points[:, 0] = 320 + (points[:, 0] - 320) * (1 + 0.01 * number)
        name = f"person_{number}.png"
        picture = drawn_picture(points, skin=tuple(int(c) for c in generator.integers(90, 220, 3)))
        cv2.imwrite(str(folder / name), picture[..., ::-1])
        landmarks[name] = points
        rows.append(f"{name}\t{'held_out' if number < num_held_out else 'train'}")
    np.savez(folder / "landmarks.npz", **landmarks)
    (folder / "portraits.tsv").write_text("\n".join(rows) + "\n")
    return folder
