"""Read a folder of portraits and refuse those that cannot be animated (ours).

The pictures are in the folder or in its subfolder `portraits/`. `landmarks.npz` maps each file name to the landmarks of
one face (478 x 3: x, y in pixels and z in the same unit) or of several faces (faces x 478 x 3); `media/face_mesh.py`
writes it. The optional `portraits.tsv` gives the split of each file in its columns `file` and `split`. Without an entry,
a portrait's hash decides, which holds out a tenth.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from emotivetalk.corpus.landmarks import (
    CHIN,
    FOREHEAD,
    LEFT_CHEEK,
    LEFT_CORNER,
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LOWER_LIP_INNER,
    NO_JITTER,
    NOSE_TIP,
    NUM_LANDMARKS,
    RIGHT_CHEEK,
    RIGHT_CORNER,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    UPPER_LIP_INNER,
    CropJitter,
    FramedPortrait,
    frame_portrait,
)
from emotivetalk.errors import InputError
from emotivetalk.media.face_mesh import write_landmarks
from emotivetalk.media.image import load_image

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MIN_FACE_PX = 100
MAX_TURN = 0.50
MAX_MOUTH_OPEN = 0.10
MIN_EYES_OPEN = 0.08

PortraitSplit = Literal["train", "held_out"]


@dataclass(frozen=True)
class Portrait:
    """A picture of one face that can be animated.

    Attributes:
        sha256: hash of the file.
        turn: horizontal turn of the head, -1..1; 0 is frontal.
    """

    path: Path
    sha256: str
    split: PortraitSplit
    turn: float
    landmarks: Float[np.ndarray, "478 3"] = field(repr=False)

    def framed(self, jitter: CropJitter = NO_JITTER) -> FramedPortrait:
        """Read the picture and crop it to the face."""
        return frame_portrait(load_image(self.path), self.landmarks, jitter)


@dataclass(frozen=True)
class Refusal:
    """A picture that cannot be animated, and the reason."""

    path: Path
    sha256: str
    reason: str


@dataclass(frozen=True)
class Portraits:
    """Accepted portraits, sorted by hash, and refused pictures of a folder."""

    folder: Path
    accepted: tuple[Portrait, ...]
    refused: tuple[Refusal, ...]

    def of(self, split: PortraitSplit) -> tuple[Portrait, ...]:
        """Return the accepted portraits of a split."""
        return tuple(portrait for portrait in self.accepted if portrait.split == split)


def read_portraits(folder: Path) -> Portraits:
    """Read a folder of portraits.

    Raises:
        InputError: the folder, its pictures or its landmarks are missing, or the split of a picture is unknown.
    """
    if not folder.is_dir():
        raise InputError(
            "photographs_missing", f"{folder} is not a folder", "Give the folder that holds the portraits."
        )
    pictures = _pictures(folder)
    if not (folder / "landmarks.npz").is_file():
        raise InputError(
            "landmarks_missing",
            f"{folder} has no landmarks.npz",
            "Pass --face-mesh-python the interpreter of an environment with mediapipe to create it.",
        )
    splits = _splits(folder)
    accepted: dict[str, Portrait] = {}
    refused: list[Refusal] = []
    with np.load(folder / "landmarks.npz") as landmarks_by_name:
        for path in pictures:
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            landmarks = (
                landmarks_by_name[path.name] if path.name in landmarks_by_name else np.zeros((0, NUM_LANDMARKS, 3))
            )
            reason = "duplicate of another picture" if sha256 in accepted else reason_to_refuse(landmarks)
            if reason is not None:
                refused.append(Refusal(path, sha256, reason))
                continue
            face = landmarks.reshape(-1, 3)
            split = splits.get(path.name) or ("held_out" if int(sha256[:8], 16) % 10 == 0 else "train")
            accepted[sha256] = Portrait(path, sha256, split, _turn(face), face)
    return Portraits(folder, tuple(accepted[key] for key in sorted(accepted)), tuple(refused))


def reason_to_refuse(landmarks: Float[np.ndarray, "..."]) -> str | None:
    """Return the reason that a picture with these landmarks cannot be animated, or None if it can."""
    faces = landmarks.reshape(-1, NUM_LANDMARKS, 3)
    if len(faces) == 0:
        return "no face was found"
    if len(faces) > 1:
        return f"{len(faces)} faces; the limit is 1"
    face = faces[0]
    points = face[:, :2]
    width = float(np.hypot(*(points[RIGHT_CHEEK] - points[LEFT_CHEEK])))
    height = float(np.hypot(*(points[CHIN] - points[FOREHEAD])))
    if max(width, 0.8 * height) < MIN_FACE_PX:
        return f"too small: the face is {width:.0f} pixels wide; the minimum is {MIN_FACE_PX}"
    if abs(_turn(face)) > MAX_TURN:
        return f"head turned too far: {abs(_turn(face)):.2f}; the limit is {MAX_TURN}"
    gap = np.hypot(*(points[list(LOWER_LIP_INNER)] - points[list(UPPER_LIP_INNER)]).T).max()
    mouth_open = float(gap / np.hypot(*(points[RIGHT_CORNER] - points[LEFT_CORNER])))
    if mouth_open > MAX_MOUTH_OPEN:
        return f"mouth open: {mouth_open:.2f} of its width; the limit is {MAX_MOUTH_OPEN}"
    eyes_open = min(
        np.hypot(*(points[list(lower)] - points[list(upper)]).T).max()
        / np.hypot(*(points[upper[-1]] - points[upper[0]]))
        for upper, lower in ((LEFT_EYE_UPPER, LEFT_EYE_LOWER), (RIGHT_EYE_UPPER, RIGHT_EYE_LOWER))
    )
    if eyes_open < MIN_EYES_OPEN:
        return f"an eye is shut: open by {eyes_open:.2f} of its width; the minimum is {MIN_EYES_OPEN}"
    return None


def write_report(portraits: Portraits, path: Path) -> None:
    """Write a table of accepted and refused pictures with the reasons of refusal."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(["file", "sha256", "accepted", "split", "reason"])
        rows = [(p.path.name, p.sha256, "yes", p.split, "") for p in portraits.accepted]
        rows += [(r.path.name, r.sha256, "no", "", r.reason) for r in portraits.refused]
        table.writerows(sorted(rows))


def find_landmarks(folder: Path, python: Path) -> None:
    """Write `landmarks.npz` into a folder of portraits.

    Args:
        python: interpreter of an environment with mediapipe.

    Raises:
        InputError: the folder has no pictures, or the interpreter cannot be run or fails.
    """
    write_landmarks(folder / "landmarks.npz", _pictures(folder), python)


def _pictures(folder: Path) -> list[Path]:
    subfolder = folder / "portraits"
    source = subfolder if subfolder.is_dir() else folder
    pictures = sorted(path for path in source.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
    if not pictures:
        raise InputError(
            "photographs_missing", f"{source} has no pictures", f"Add files that end in {', '.join(PICTURE_SUFFIXES)}."
        )
    return pictures


def _splits(folder: Path) -> Mapping[str, PortraitSplit]:
    table = folder / "portraits.tsv"
    if not table.is_file():
        return {}
    names: dict[str, PortraitSplit] = {
        "train": "train",
        "held_out": "held_out",
        "held out": "held_out",
        "test": "held_out",
    }
    splits: dict[str, PortraitSplit] = {}
    with table.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            split = row.get("split", "")
            if split not in names:
                raise InputError(
                    "portraits_table_invalid",
                    f"{table}: split {split!r} of {row.get('file')!r} is unknown",
                    "Write train or held_out into the column `split`.",
                )
            splits[row["file"]] = names[split]
    return splits


def _turn(face: Float[np.ndarray, "478 3"]) -> float:
    """Return the position of the nose tip between the cheeks: -1 at the left one, 0 in the middle, 1 at the right one."""
    left, right = face[LEFT_CHEEK, :2], face[RIGHT_CHEEK, :2]
    across = right - left
    return float(2 * (face[NOSE_TIP, :2] - left) @ across / (across @ across) - 1)
