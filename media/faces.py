"""The face to animate, and the square around it that the networks see: chosen, cut out, and put back.

The crop is a square with the face at a canonical place (Framing); what the networks make of it is laid back into the
whole picture with a soft edge, so that shoulders and room stay as they were.
"""

from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from emotivetalk.errors import InputError
from emotivetalk.limits import Limits
from emotivetalk.media.cascades import FaceBox, Image, detect_faces

__all__ = [
    "FaceBox",
    "Framing",
    "PortraitCrop",
    "choose_face",
    "crop_portrait",
    "cut_square",
    "detect_faces",
    "resize_square",
]

SNAP_PLACE = 0.12  # of the side: an already framed portrait is not moved by less
SNAP_SCALE = 0.2  # detection varies so much in size between the expressions of one person
FEATHER = 0.12  # of the side: how far the soft edge reaches inwards


@dataclass(frozen=True)
class Framing:
    """Where a crop has the face box, as fractions of its side.

    The default is how the corpus frames its avatars (measured: the median box over some thirty people of all
    expressions, to within 1 %).
    """

    center_x: float = 0.495
    center_y: float = 0.52
    width: float = 0.587


DEFAULT_FRAMING = Framing()
Square = UInt8[np.ndarray, "side side 3"]


def choose_face(image: Image, index: int | None, source: str, limits: Limits | None = None) -> FaceBox:
    """Find the one face to animate.

    Args:
        index: which, counted from 1 at the left; None if there is to be only one.
        source: what the picture is called in messages.

    Raises:
        InputError: no face, several and none chosen, no such face, too small.
    """
    limits = limits or Limits()
    faces = detect_faces(image)
    if not faces:
        raise InputError(
            "face_missing",
            f"no face was found in image {source!r}",
            "Use a portrait that looks into the camera, upright, lit evenly, its face at least a tenth of the picture.",
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
        image: the crop, scaled to size x size.
        face: the face in the crop's pixels.
        whole: the picture it was cut from; not to be changed.
        left, top, side: the square in the picture's pixels; it may reach beyond the picture.
    """

    image: UInt8[np.ndarray, "size size 3"]
    face: FaceBox
    whole: Image = field(repr=False)
    left: int
    top: int
    side: int

    def paste_back(self, frame: UInt8[np.ndarray, "size size 3"]) -> Image:
        """Lay a new version of the crop into the whole picture; outside the crop no pixel changes.

        The frame's weight is 0 along the crop's edge and rises to 1 within an eighth of its side. Where the crop ends
        at the picture's own edge there is nothing to blend with, and the weight is 1.

        Raises:
            ValueError: the frame is not of the crop's size.
        """
        if frame.shape != self.image.shape:
            raise ValueError(f"the frame is {frame.shape}; this crop takes {self.image.shape}.")
        scaled = resize_square(frame, self.side)
        rows, columns = self._rows, self._columns
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
        return slice(max(0, self.top), min(self.whole.shape[0], self.top + self.side))

    @property
    def _columns(self) -> slice:
        return slice(max(0, self.left), min(self.whole.shape[1], self.left + self.side))

    @cached_property
    def _weight(self) -> Float32[np.ndarray, "rows columns"]:
        height, width = self.whole.shape[:2]
        return np.minimum.outer(
            _ramp(self._rows, self.top, self.side, height), _ramp(self._columns, self.left, self.side, width)
        )


def crop_portrait(image: Image, face: FaceBox, size: int = 256, framing: Framing = DEFAULT_FRAMING) -> PortraitCrop:
    """Cut the square that has the face where `framing` wants it. Beyond the picture, its edge is repeated.

    A square picture that is framed nearly so already is taken as it is: detection is only so exact.

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
    if width == height and abs(side - width) <= SNAP_SCALE * width and moved <= SNAP_PLACE * width:
        left, top, side = 0, 0, width
    scale = size / side
    placed = FaceBox((face.x - left) * scale, (face.y - top) * scale, face.width * scale, face.height * scale)
    return PortraitCrop(resize_square(cut_square(image, left, top, side), size), placed, image, left, top, side)


def cut_square(image: Image, left: int, top: int, side: int) -> Square:
    """The square of a picture whose upper left corner is given; beyond the picture, its edge is repeated."""
    height, width = image.shape[:2]
    inside = image[max(0, top) : min(height, top + side), max(0, left) : min(width, left + side)]
    below, right = max(0, top + side - height), max(0, left + side - width)
    return cv2.copyMakeBorder(inside, max(0, -top), below, max(0, -left), right, cv2.BORDER_REPLICATE)


def resize_square(image: Image, side: int) -> Square:
    """A square picture at another size: averaged down, or interpolated up."""
    if image.shape[0] == side:
        return image.copy()
    interpolation = cv2.INTER_AREA if side < image.shape[0] else cv2.INTER_CUBIC
    return cv2.resize(image, (side, side), interpolation=interpolation)


def _ramp(span: slice, start: int, side: int, limit: int) -> Float32[np.ndarray, " pixels"]:
    """Weights along one axis: smoothly from 0 at each edge of the crop that lies inside the picture, else 1."""
    position = np.arange(span.start, span.stop) - start
    reach = max(1.0, FEATHER * side)
    from_low = position / reach if start > 0 else np.ones(len(position))
    from_high = (side - 1 - position) / reach if start + side < limit else np.ones(len(position))
    nearness = np.clip(np.minimum(from_low, from_high), 0, 1)
    return (nearness * nearness * (3 - 2 * nearness)).astype(np.float32)
