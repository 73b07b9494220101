"""Where the face is: OpenCV's Haar cascades, made dependable by letting many weak looks vote.

ours: one cascade on one grey picture misses one portrait in eight, drawn ones above all. So three cascades look at
four renderings of the picture (luma; red, in which skin of any colour is even; red with its contrast raised twice) and
every raw hit is a vote. A face gathers 50 to 800 of them, a chance likeness rarely 30. The eyes, found within the
face, settle the doubtful cases and the exact size.
"""

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from functools import cache

import cv2
import cv2.data
import numpy as np
from jaxtyping import Float64, UInt8

CASCADES = ("frontalface_alt2", "frontalface_default", "frontalface_alt")
EYE_CASCADES = ("eye", "eye_tree_eyeglasses")
SCALE_STEP = 1.05
SAME_FACE_IOU = 0.45
MIN_SHARE = 0.12  # of the strongest face's votes: a second face has more, cloth and shadows beside a face have less
FACE_PER_EYES = 2.3  # width of the cascades' face box in distances between the eyes
EYE_LEVEL = 0.4  # height of the eyes within that box

Votes = Float64[np.ndarray, "votes 4"]  # x, y, width, height
Image = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True)
class FaceBox:
    """A face's place in pixels: x and y of the upper left corner, width, height. It spans brows to chin."""

    x: float
    y: float
    width: float
    height: float

    @property
    def center(self) -> tuple[float, float]:
        """x, y of the middle."""
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True)
class Search:
    """One pass over the picture: its long side is scaled to `side` if larger; `margin` of it is added all round."""

    side: int
    margin: float
    sure_votes: int  # so many make a face; clutter has more hits at a larger scale


# Most faces are found by the first; the second is for small ones, and for those that touch the picture's edge.
SEARCHES = (Search(side=448, margin=0.0, sure_votes=45), Search(side=800, margin=0.2, sure_votes=120))
SOME_VOTES = 4  # so many do if two eyes are seen in it: dark skin between light hair and beard gets no more
EYE_HITS = 3  # of 8: how many looks must see each eye
MIN_FACE = 32  # pixels, in the scaled picture
MIN_SIDE = 256  # smaller pictures are scaled up to it


def detect_faces(image: Image) -> list[FaceBox]:
    """Find the upright frontal faces of a picture, left to right; empty if there are none."""
    for search in SEARCHES:
        found = _elect(image, _votes(image, search), search.sure_votes)
        if found:
            return sorted(found, key=lambda box: box.center)
    return []


@cache
def _cascade(name: str) -> cv2.CascadeClassifier:
    cascade = cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_{name}.xml")
    assert not cascade.empty(), name
    return cascade


def _renderings(image: Image) -> Iterator[UInt8[np.ndarray, "height width"]]:
    red = np.ascontiguousarray(image[..., 0])
    yield cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    yield red
    yield cv2.createCLAHE(clipLimit=3, tileGridSize=(4, 4)).apply(red)
    yield cv2.createCLAHE(clipLimit=6, tileGridSize=(8, 8)).apply(red)


def _votes(image: Image, search: Search) -> Votes:
    """Every hit of every cascade in every rendering, in the picture's own pixels."""
    long_side = max(image.shape[:2])
    scale = min(search.side, max(MIN_SIDE, long_side)) / long_side
    scaled = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale != 1 else image
    margin = round(search.margin * max(scaled.shape[:2]))
    padded = cv2.copyMakeBorder(scaled, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    hits = [
        np.asarray(_cascade(name).detectMultiScale(rendering, SCALE_STEP, 0, minSize=(MIN_FACE, MIN_FACE)))
        for rendering in _renderings(padded)
        for name in CASCADES
    ]
    votes = np.concatenate([hit.reshape(-1, 4) for hit in hits]).astype(np.float64)
    return (votes - [margin, margin, 0, 0]) / scale


def _elect(image: Image, votes: Votes, sure_votes: int) -> list[FaceBox]:
    """Gather the votes to faces, the most voted first; drop the doubtful, and what lies on a stronger face."""
    found: list[FaceBox] = []
    needed = float(SOME_VOTES)
    while len(votes) >= needed:
        overlaps = np.array([_iou(vote, votes) for vote in votes]) > SAME_FACE_IOU
        together = overlaps[overlaps.sum(axis=1).argmax()]
        strength = together.sum()
        if strength < needed:
            break
        box = FaceBox(*np.median(votes[together], axis=0).tolist())
        votes = votes[~together]
        if any(_touch(box, stronger) for stronger in found):
            continue
        by_eyes = _box_by_eyes(image, box)
        if by_eyes is None and strength < sure_votes:
            continue
        found.append(box if by_eyes is None else _mean(box, by_eyes))
        needed = max(needed, MIN_SHARE * strength)
    return found


def _mean(one: FaceBox, two: FaceBox) -> FaceBox:
    return FaceBox(*((a + b) / 2 for a, b in zip(astuple(one), astuple(two), strict=True)))


def _iou(box: Float64[np.ndarray, "4"], boxes: Votes) -> Float64[np.ndarray, " votes"]:
    """Intersection over union of a box with each of the boxes."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[:2] + box[2:], boxes[:, :2] + boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    return shared / (box[2:].prod() + boxes[:, 2:].prod(axis=1) - shared)


def _touch(box: FaceBox, other: FaceBox) -> bool:
    """Whether the centre of either lies in the other: heads of two people never do."""
    return any(
        abs(box.center[0] - other.center[0]) < outer.width / 2
        and abs(box.center[1] - other.center[1]) < outer.height / 2
        for outer in (box, other)
    )


def _box_by_eyes(image: Image, face: FaceBox) -> FaceBox | None:
    """The box that the two eyes in a face tell; None if they are not found where a face has them.

    The votes' boxes vary by a quarter in width over the expressions of one person, the distance of the eyes by a tenth;
    but it differs between people, who have the votes' box in common. Hence the mean of both.
    """
    beside = 0.2 * face.width  # a doubtful box may be too narrow for both
    left, top = max(0, round(face.x - beside)), max(0, round(face.y))
    patch = image[top : round(face.y + 0.65 * face.height), left : round(face.x + face.width + beside)]
    scale = 160 / face.width
    patch = cv2.resize(patch, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    hits = [
        np.asarray(_cascade(name).detectMultiScale(rendering, SCALE_STEP, 5, minSize=(20, 20), maxSize=(80, 80)))
        for rendering in _renderings(patch)
        for name in EYE_CASCADES
    ]
    eyes = np.concatenate([hit.reshape(-1, 4) for hit in hits]).astype(np.float64)
    centers = (eyes[:, :2] + eyes[:, 2:] / 2) / scale + [left, top]
    on_left = centers[:, 0] < face.center[0]
    if min(on_left.sum(), (~on_left).sum()) < EYE_HITS:
        return None
    one, two = np.median(centers[on_left], axis=0), np.median(centers[~on_left], axis=0)
    distance = float(np.hypot(*(two - one)))
    width = FACE_PER_EYES * distance
    tilt = abs(float(two[1] - one[1])) / distance
    middle = (one + two) / 2
    if not 0.7 < width / face.width < 1.4 or tilt > 0.35 or abs(middle[0] - face.center[0]) > 0.15 * face.width:
        return None
    return FaceBox(float(middle[0]) - width / 2, float(middle[1]) - EYE_LEVEL * width, width, width)
