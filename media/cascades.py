"""Where the face is: OpenCV's Haar cascades, made dependable by letting many weak looks vote.

ours: one cascade on one grey picture misses one portrait in eight, drawn ones above all. So three cascades look at
four renderings of the picture (luma; red, in which skin of any colour is even; red with its contrast raised twice) and
every raw hit is a vote. A face gathers 50 to 800 of them, a chance likeness rarely 30. The eyes, found within the
face, settle its exact size, and stand in where the votes fail.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
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
SAME_EYE_IOU = 0.3
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
    min_votes: int  # clutter has more hits at a larger scale
    scale_step: float = SCALE_STEP
    cascades: tuple[str, ...] = CASCADES


@dataclass(frozen=True)
class EyeSearch:
    """How a face's eyes are looked for: its box is scaled to `side` and searched down to `depth` of its height.

    smallest, largest: width of an eye in pixels; min_neighbors: hits of one look at one place.
    """

    cascades: tuple[str, ...]
    side: int
    depth: float
    smallest: int
    largest: int
    min_neighbors: int
    min_votes: int  # two places with so many are two eyes; a chance likeness has one


# Most faces are found by the first; the last is for small ones, and for those that touch the picture's edge.
FIRST_SEARCH = Search(side=448, margin=0.0, min_votes=45)
LAST_SEARCH = Search(side=800, margin=0.2, min_votes=120)
# What it finds is looked at closely. Of 234 faces it found all, those of all cascades in five renderings 231.
SURVEY = Search(side=448, margin=0.0, min_votes=2, scale_step=1.08, cascades=CASCADES[:1])
EYES = EyeSearch(EYE_CASCADES, side=256, depth=1.0, smallest=20, largest=80, min_neighbors=5, min_votes=3)
# As good within a known face, in a twelfth of the time; the second is for eyes, with glasses say, that the first misses.
QUICK_EYES = tuple(
    EyeSearch((name,), side=160, depth=0.67, smallest=24, largest=50, min_neighbors=3, min_votes=2)
    for name in EYE_CASCADES
)
TRACK_FACE = 72  # pixels: the width to which a known face is scaled
TRACK_REACH = 1.7  # of the face's width: the side of the square in which it is looked for again
TRACK_VOTES = 12
NEW_VOTES = 45  # as TRACK_VOTES, of a face that was not known before: those seen had 62 and more, chance 41 and less
NEW_VOTES_WITH_EYES = 20  # the same where both eyes are seen too
MIN_FACE = 32  # pixels, in the scaled picture
MIN_SIDE = 256  # smaller pictures are scaled up to it


def look_with_one_thread() -> None:
    """For processes of which each CPU has one; besides, hits come in the same order every time. It is for all of OpenCV."""
    cv2.setNumThreads(1)


def detect_faces(image: Image) -> list[FaceBox]:
    """Find the upright frontal faces of a picture, left to right; empty if there are none."""
    found = _elect(image, FIRST_SEARCH)
    if not found:
        # A dark face between light hair and beard gets no votes, but its eyes are seen.
        alone = _box_by_eyes(image)
        found = _elect(image, LAST_SEARCH) if alone is None else [alone]
    return sorted(found, key=lambda box: box.center)


def survey_faces(image: Image, known: Sequence[FaceBox] = (), is_thorough: bool = False) -> list[FaceBox]:
    """Find the new faces of a frame of video, left to right, with fewer looks than `detect_faces` has.

    Their boxes are those of `track_face`. Faces narrower than a fourteenth of the picture's long side are not found.

    Args:
        known: faces that were just seen.
        is_thorough: where none is found, look as `detect_faces` does, which takes ten times as long.
    """
    places = np.array([astuple(box) for box in known]).reshape(-1, 4)
    rough = [
        box
        for box in _elect(image, SURVEY, is_rough=True)
        if not (_iou(np.array(astuple(box)), places) > SAME_FACE_IOU).any()
    ]
    # Twice, as the first box may be a third too large or too small, which is as far as a close look reaches.
    nearer = [_close_look(image, box)[0] for box in rough]
    looks = [_close_look(image, box) for box in nearer]
    found = [box for box, votes in looks if votes >= NEW_VOTES or _is_told_by_eyes(image, box, votes)]
    if is_thorough and not found:
        # A box that its eyes alone told has no votes, and may be any two blurs in a room.
        looks = [_close_look(image, box) for box in detect_faces(image)]
        found = [box for box, votes in looks if votes >= TRACK_VOTES]
    return sorted(found, key=lambda box: box.center)


def track_face(image: Image, near: FaceBox) -> FaceBox | None:
    """The face at about the place and of about the size of one seen a moment before; None if it is not to be seen.

    Its box is the votes' alone, without the eyes': some 6 % wider than that of `detect_faces`. With too few votes it has
    not moved, if both eyes are seen in it.
    """
    box, votes = _close_look(image, near)
    if votes >= TRACK_VOTES:
        return box
    return near if _box_told_quickly(image, near) is not None else None


def refine_by_eyes(image: Image, box: FaceBox) -> FaceBox | None:
    """The box of a face as `detect_faces` has it, the mean of a box of `track_face` and of what the eyes in it tell.

    None if there are no eyes in their places: what looks like a face by chance has none.
    """
    by_eyes = _box_told_quickly(image, box)
    return None if by_eyes is None else _mean(box, by_eyes)


def _is_told_by_eyes(image: Image, box: FaceBox, votes: int) -> bool:
    """Whether its eyes tell that a likeness with few votes is a face."""
    return votes >= NEW_VOTES_WITH_EYES and _box_told_quickly(image, box) is not None


def _close_look(image: Image, near: FaceBox) -> tuple[FaceBox, int]:
    """The median of the votes around a known box, and how many there are."""
    side = TRACK_REACH * near.width
    left, top = max(0, round(near.center[0] - side / 2)), max(0, round(near.center[1] - side / 2))
    part = image[top : round(near.center[1] + side / 2), left : round(near.center[0] + side / 2)]
    if min(part.shape[:2]) < near.width / 2:
        return near, 0
    scale = TRACK_FACE / near.width
    width, height = round(part.shape[1] * scale), round(part.shape[0] * scale)
    small = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    smallest, largest = (round(0.7 * TRACK_FACE),) * 2, (round(1.4 * TRACK_FACE),) * 2
    hits = [
        np.asarray(_cascade(name).detectMultiScale(rendering, SCALE_STEP, 0, minSize=smallest, maxSize=largest))
        for rendering in (*_renderings(small), _negative(small))
        for name in CASCADES
    ]
    votes = np.concatenate([hit.reshape(-1, 4) for hit in hits]).astype(np.float64)
    if len(votes) == 0:
        return near, 0
    x, y, face_width, face_height = (np.median(votes, axis=0) / scale).tolist()
    return FaceBox(x + left, y + top, face_width, face_height), len(votes)


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


def _negative(image: Image) -> UInt8[np.ndarray, "height width"]:
    """Luma, inverted: in dark skin eyes and teeth are bright, which the cascades know the other way round."""
    return 255 - cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _survey_renderings(image: Image) -> Iterator[UInt8[np.ndarray, "height width"]]:
    """The fewest in which every face is seen."""
    luma, *_, contrast = _renderings(image)
    yield luma
    yield contrast
    yield _negative(image)


def _votes(
    image: Image, search: Search, renderings: Callable[[Image], Iterator[UInt8[np.ndarray, "height width"]]]
) -> Votes:
    """Every hit of the search's cascades in every rendering, in the picture's own pixels."""
    long_side = max(image.shape[:2])
    scale = min(search.side, max(MIN_SIDE, long_side)) / long_side
    scaled = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale != 1 else image
    margin = round(search.margin * max(scaled.shape[:2]))
    padded = cv2.copyMakeBorder(scaled, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    hits = [
        np.asarray(_cascade(name).detectMultiScale(rendering, search.scale_step, 0, minSize=(MIN_FACE, MIN_FACE)))
        for rendering in renderings(padded)
        for name in search.cascades
    ]
    votes = np.concatenate([hit.reshape(-1, 4) for hit in hits]).astype(np.float64)
    return (votes - [margin, margin, 0, 0]) / scale


def _elect(image: Image, search: Search, is_rough: bool = False) -> list[FaceBox]:
    """Gather the votes to faces, the most voted first; drop the weak, and what lies on a stronger face.

    Args:
        is_rough: leave out what takes long or may miss a face, for somebody looks closer afterwards.
    """
    votes = _votes(image, search, _survey_renderings if is_rough else _renderings)
    found: list[FaceBox] = []
    needed = float(search.min_votes)
    while len(votes) >= needed:
        overlaps = np.array([_iou(vote, votes) for vote in votes]) > SAME_FACE_IOU
        together = overlaps[overlaps.sum(axis=1).argmax()]
        strength = together.sum()
        if strength < needed:
            break
        if not is_rough:
            needed = max(needed, MIN_SHARE * strength)
        box = FaceBox(*np.median(votes[together], axis=0).tolist())
        votes = votes[~together]
        if not any(_touch(box, stronger) for stronger in found):
            found.append(box if is_rough else _refined_by_eyes(image, box))
    return found


def _refined_by_eyes(image: Image, box: FaceBox) -> FaceBox:
    """The mean of the voted box and of the one that the eyes in it tell.

    The votes vary by a quarter in width over the expressions of one person, the distance of the eyes by a tenth; but
    that differs between people. Hence the mean.
    """
    by_eyes = _box_told_by_eyes(image, box)
    return box if by_eyes is None else _mean(box, by_eyes)


def _box_told_quickly(image: Image, box: FaceBox) -> FaceBox | None:
    """The same as `_box_told_by_eyes` for faces that are looked at again and again."""
    told = (_box_told_by_eyes(image, box, search) for search in QUICK_EYES)
    return next((by_eyes for by_eyes in told if by_eyes is not None), None)


def _box_told_by_eyes(image: Image, box: FaceBox, search: EyeSearch = EYES) -> FaceBox | None:
    """The box that the eyes within another box tell; None if it is of quite another size."""
    left, top = max(0, round(box.x)), max(0, round(box.y))
    part = image[top : round(box.y + search.depth * box.height), left : round(box.x + box.width)]
    by_eyes = _box_by_eyes(part, search) if min(part.shape[:2], default=0) > 0 else None
    if by_eyes is None or not 0.7 < by_eyes.width / box.width < 1.4:
        return None
    return replace(by_eyes, x=by_eyes.x + left, y=by_eyes.y + top)


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


def _box_by_eyes(image: Image, search: EyeSearch = EYES) -> FaceBox | None:
    """The box of a face that fills much of a picture, told by its eyes; None if they are not seen or not so placed."""
    scale = search.side / max(image.shape[:2])
    scaled = cv2.resize(
        image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    smallest, largest = (search.smallest,) * 2, (search.largest,) * 2
    hits = [
        np.asarray(
            _cascade(name).detectMultiScale(
                rendering, SCALE_STEP, search.min_neighbors, minSize=smallest, maxSize=largest
            )
        )
        for rendering in _renderings(scaled)
        for name in search.cascades
    ]
    votes = np.concatenate([hit.reshape(-1, 4) for hit in hits]).astype(np.float64)
    eyes: list[FaceBox] = []
    while len(eyes) < 2 and len(votes) >= search.min_votes:
        overlaps = np.array([_iou(vote, votes) for vote in votes]) > SAME_EYE_IOU
        together = overlaps[overlaps.sum(axis=1).argmax()]
        if together.sum() < search.min_votes:
            break
        eyes.append(FaceBox(*(np.median(votes[together], axis=0) / scale).tolist()))
        votes = votes[~together]
    return _around(*eyes) if len(eyes) == 2 else None


def _around(one: FaceBox, two: FaceBox) -> FaceBox | None:
    """The face of two eyes; None if they are not level, not alike, or too near or far apart for eyes of their size."""
    (x1, y1), (x2, y2) = one.center, two.center
    distance = float(np.hypot(x2 - x1, y2 - y1))
    apart = 2 * distance / (one.width + two.width)
    if not (0.85 < apart < 2.5 and 0.6 < one.width / two.width < 1.67 and abs(y2 - y1) < 0.35 * distance):
        return None
    width = FACE_PER_EYES * distance
    return FaceBox((x1 + x2 - width) / 2, (y1 + y2) / 2 - EYE_LEVEL * width, width, width)
