"""The face to animate: choose it, cut out the square that the networks take, and put the result back.

The face is upright and at a fixed place (`Framing`) in the square. A frame is put back with a soft edge, so the rest of
the picture stays as it is. In a picture that is upside down or on its side, the frame is turned back before.
"""

from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Float32, Float64, Int, UInt8

from emotivetalk.errors import InputError
from emotivetalk.limits import Limits
from emotivetalk.media.face_detection import FaceBox, detect_faces
from emotivetalk.media.squares import Image, cut_square, resize_square

__all__ = ["FaceBox", "Framing", "PortraitCrop", "choose_face", "crop_portrait", "detect_faces"]

SNAP_PLACE = 0.12  # of the side: a square picture is used whole if its crop would be moved by less
SNAP_SCALE = 0.2  # and scaled by less
FEATHER = 0.12  # of the side: how far the soft edge reaches inwards


@dataclass(frozen=True)
class Framing:
    """Place of the face box in a crop, as fractions of its side.

    The default is how the corpus frames its avatars: the median over the avatars of 100 seeds. Boxes of the avatars vary
    by 0.4 % of the side (center_x), 1.2 % (center_y) and 2.2 % (width).
    """

    center_x: float = 0.498
    center_y: float = 0.508
    width: float = 0.583


DEFAULT_FRAMING = Framing()


def choose_face(image: Image, index: int | None, source: str, limits: Limits | None = None) -> FaceBox:
    """Find the face to animate.

    Args:
        index: number of the face from the left, from 1; None if the picture must have only one.
        source: name of the picture in messages.

    Raises:
        InputError: there is no face, or none with this number; several, and no number; the face is too small.
    """
    limits = limits or Limits()
    faces = detect_faces(image)
    if not faces:
        raise InputError(
            "face_missing",
            f"no face was found in image {source!r}",
            "Use an upright, evenly lit portrait that looks into the camera, with a face that is at least a tenth of its width.",
        )
    listing = "; ".join(
        f"{number}: {face.width:.0f} px wide at ({face.center[0]:.0f}, {face.center[1]:.0f})"
        for number, face in enumerate(faces, 1)
    )
    if index is None and len(faces) > 1:
        raise InputError(
            "face_ambiguous",
            f"image {source!r} has {len(faces)} faces, left to right {listing}",
            "Choose one with --face N.",
        )
    number = 1 if index is None else index
    if not 1 <= number <= len(faces):
        raise InputError(
            "face_out_of_range",
            f"face {number} was asked for, image {source!r} has {len(faces)}: {listing}",
            f"Choose one with --face N, N from 1 to {len(faces)}.",
        )
    face = faces[number - 1]
    if face.width < limits.face_min_width:
        raise InputError(
            "face_too_small",
            f"the face in image {source!r} is {face.width:.0f} pixels wide; the limit is {limits.face_min_width}",
            "Use a larger picture, or cut it closer to the face.",
        )
    return face


@dataclass(frozen=True)
class PortraitCrop:
    """A square cut from a picture, and the way back.

    Attributes:
        image: the crop, scaled to size x size, the face upright.
        face: the face in the crop's pixels.
        whole: the picture it was cut from; not to be changed.
        left, top, side: the square in the picture's pixels before it is turned; it may reach beyond the picture.
        roll_deg: clockwise angle by which the square is turned about `pivot`.
        pivot: x, y in the picture.
    """

    image: UInt8[np.ndarray, "size size 3"]
    face: FaceBox
    whole: Image = field(repr=False)
    left: int
    top: int
    side: int
    roll_deg: float = 0.0
    pivot: tuple[float, float] = (0.0, 0.0)

    def paste_back(self, frame: UInt8[np.ndarray, "size size 3"]) -> Image:
        """Put a new version of the crop into the whole picture; no pixel outside the crop changes.

        The weight of the frame is 0 at the crop's edge and rises to 1 within an eighth of its side. Where the crop ends
        at the picture's own edge, the weight is 1: there is nothing to blend with.

        Raises:
            ValueError: the frame does not have the crop's size.
        """
        if frame.shape != self.image.shape:
            raise ValueError(f"the frame is {frame.shape}; this crop takes {self.image.shape}.")
        scaled = resize_square(frame, self.side)
        rows, columns = self._rows, self._columns
        if self.roll_deg:
            size = columns.stop - columns.start, rows.stop - rows.start
            inside = cv2.warpAffine(scaled, self._to_rows_and_columns, size, borderMode=cv2.BORDER_REPLICATE)
        else:
            inside = scaled[
                rows.start - self.top : rows.stop - self.top, columns.start - self.left : columns.stop - self.left
            ]
        result = self.whole.copy()
        weight = self._weight
        result[rows, columns] = cv2.blendLinear(
            np.ascontiguousarray(inside), np.ascontiguousarray(self.whole[rows, columns]), weight, 1 - weight
        )
        return result

    @property
    def _rows(self) -> slice:
        return slice(max(0, self._corners[1].min()), min(self.whole.shape[0], self._corners[1].max()))

    @property
    def _columns(self) -> slice:
        return slice(max(0, self._corners[0].min()), min(self.whole.shape[1], self._corners[0].max()))

    @cached_property
    def _corners(self) -> Int[np.ndarray, "2 4"]:
        """X and y of the square's corners in the picture, as whole pixels."""
        x, y = self.left + np.array([0, self.side, 0, self.side]), self.top + np.array([0, 0, self.side, self.side])
        if not self.roll_deg:
            return np.stack([x, y])
        offset = np.stack([x, y]) - np.array(self.pivot)[:, None]
        return np.rint(_rotation(self.roll_deg) @ offset + np.array(self.pivot)[:, None]).astype(int)

    @property
    def _to_rows_and_columns(self) -> Float64[np.ndarray, "2 3"]:
        """The matrix from the square, at its size in the picture, to the pixels that `paste_back` changes."""
        matrix = cv2.invertAffineTransform(_turning(self.roll_deg, self.pivot, self.left, self.top))
        matrix[:, 2] -= [self._columns.start, self._rows.start]
        return matrix

    @cached_property
    def _weight(self) -> Float32[np.ndarray, "rows columns"]:
        height, width = self.whole.shape[:2]
        if self.roll_deg:
            inner = slice(1, 1 + self.side)  # a square with a border on all sides
            ramp = _ramp(inner, 1, self.side, self.side + 2)
            size = self._columns.stop - self._columns.start, self._rows.stop - self._rows.start
            return cv2.warpAffine(np.minimum.outer(ramp, ramp), self._to_rows_and_columns, size)
        return np.minimum.outer(
            _ramp(self._rows, self.top, self.side, height), _ramp(self._columns, self.left, self.side, width)
        )


def crop_portrait(image: Image, face: FaceBox, size: int = 256, framing: Framing = DEFAULT_FRAMING) -> PortraitCrop:
    """Cut the square that has the face where `framing` wants it. Beyond the picture, the picture's edge is repeated.

    A square picture that nearly has this framing is used whole, as detection is not more exact.

    Raises:
        ValueError: the face has no width, or lies outside the picture.
    """
    height, width = image.shape[:2]
    center_x, center_y = face.center
    if face.width <= 0 or not (0 <= center_x <= width and 0 <= center_y <= height):
        raise ValueError(f"{face} is not a face in a picture of {width} x {height} pixels.")
    side = max(2, round(face.width / framing.width))
    left, top = round(center_x - framing.center_x * side), round(center_y - framing.center_y * side)
    moved = max(abs(left + side / 2 - width / 2), abs(top + side / 2 - height / 2))
    if (
        width == height
        and not face.roll_deg
        and abs(side - width) <= SNAP_SCALE * width
        and moved <= SNAP_PLACE * width
    ):
        left, top, side = 0, 0, width
    scale = size / side
    placed = FaceBox((face.x - left) * scale, (face.y - top) * scale, face.width * scale, face.height * scale)
    if face.roll_deg:
        turning = _turning(face.roll_deg, face.center, left, top)
        square = cv2.warpAffine(image, turning, (side, side), borderMode=cv2.BORDER_REPLICATE)
    else:
        square = cut_square(image, left, top, side)
    return PortraitCrop(resize_square(square, size), placed, image, left, top, side, face.roll_deg, face.center)


def _rotation(roll_deg: float) -> Float64[np.ndarray, "2 2"]:
    """Turn clockwise, in coordinates whose y points down."""
    cosine, sine = np.cos(np.radians(roll_deg)), np.sin(np.radians(roll_deg))
    return np.array([[cosine, -sine], [sine, cosine]])


def _turning(roll_deg: float, pivot: tuple[float, float], left: int, top: int) -> Float64[np.ndarray, "2 3"]:
    """The matrix that turns a picture counter-clockwise about a point and moves a corner of the result to (0, 0)."""
    matrix = cv2.getRotationMatrix2D((pivot[0] - 0.5, pivot[1] - 0.5), roll_deg, 1.0)
    matrix[:, 2] -= [left, top]
    return matrix


def _ramp(span: slice, start: int, side: int, limit: int) -> Float32[np.ndarray, " pixels"]:
    """Weights along one axis: 0 at each edge of the crop that lies inside the picture, then rising smoothly to 1."""
    position = np.arange(span.start, span.stop) - start
    reach = max(1.0, FEATHER * side)
    from_low = position / reach if start > 0 else np.ones(len(position))
    from_high = (side - 1 - position) / reach if start + side < limit else np.ones(len(position))
    nearness = np.clip(np.minimum(from_low, from_high), 0, 1)
    return (nearness * nearness * (3 - 2 * nearness)).astype(np.float32)
