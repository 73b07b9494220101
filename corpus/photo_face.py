"""Measure one face in a framed photograph; all motion is placed by these measurements (ours).

Lengths are in half pictures. Lip motion is relative to `mouth`, half the width of the mouth. Jaw motion is relative to
the picture: framing gives every face the same size, so a parameter moves every face by the same amount.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from torch import Tensor

from emotivetalk.corpus.landmarks import (
    CHIN,
    FOREHEAD,
    LEFT_BROW,
    LEFT_CHEEK,
    LEFT_CORNER,
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LEFT_IRIS,
    LOWER_LIP_INNER,
    LOWER_LIP_OUTER,
    NOSE_BASE,
    NOSE_TIP,
    RIGHT_BROW,
    RIGHT_CHEEK,
    RIGHT_CORNER,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    RIGHT_IRIS,
    UPPER_LIP_INNER,
    UPPER_LIP_OUTER,
    FramedPortrait,
)

LINE_SAMPLES = 1025
Line = Float[np.ndarray, "1025"]
"""Height y of a curve at `LINE_SAMPLES` equidistant positions from x = -1 to x = 1."""

_X = np.linspace(-1, 1, LINE_SAMPLES)


@dataclass(frozen=True)
class Eye:
    """Corners, lid edges, iris and brow of one eye. `side` is -1 for the eye on the left of the picture, else 1."""

    side: int
    left: float
    right: float
    upper: Line
    lower: Line
    iris_x: float
    iris_y: float
    iris_radius: float
    brow_y: float
    brow_bottom: float

    @property
    def center(self) -> float:
        return (self.left + self.right) / 2

    @property
    def half(self) -> float:
        return (self.right - self.left) / 2

    @property
    def height(self) -> float:
        """Largest height of the opening."""
        return float((self.lower - self.upper).max())

    @property
    def brow_gap(self) -> float:
        """Distance from the brow to the iris, at least 0.05."""
        return max(self.iris_y - self.brow_y, 0.05)


@dataclass(frozen=True)
class PhotoFace:
    """Positions of the parts of a face.

    Attributes:
        mouth_x, mouth_y: middle of the line between the lips.
        mouth: half the distance between the corners of the mouth.
        mouth_left, mouth_right: distance of each corner from the middle.
        upper_lip, lower_lip: inner edges of the lips, which meet when the mouth is shut.
        lip_top, lip_bottom: outer edges of the lips, towards nose and chin.
        half_width: half the distance between the cheeks.
        center_x: middle between the cheeks.
        top, chin: upper and lower end of the face mesh, without hair.
    """

    mouth_x: float
    mouth_y: float
    mouth: float
    mouth_left: float
    mouth_right: float
    upper_lip: Line
    lower_lip: Line
    lip_top: Line
    lip_bottom: Line
    half_width: float
    center_x: float
    top: float
    chin: float
    nose_x: float
    nose_y: float
    nose_base: float
    eyes: tuple[Eye, Eye]

    def across(self, x: Tensor) -> Tensor:
        """Return the position across the mouth: -1 at the left corner, 0 in the middle, 1 at the right corner."""
        offset = x - self.mouth_x
        return offset / torch.where(offset < 0, self.mouth_left, self.mouth_right)


def measure(portrait: FramedPortrait) -> PhotoFace:
    """Measure the face of a framed portrait."""
    points = portrait.points
    left, right = points[LEFT_CORNER], points[RIGHT_CORNER]
    middle = float(points[[0, 13, 14, 17], 0].mean())
    upper, lower = _line(points, UPPER_LIP_INNER), _line(points, LOWER_LIP_INNER)
    mouth = float(right[0] - left[0]) / 2
    if (lower - upper).max() < 0.10 * mouth:
        seam = _refined_seam(portrait.picture.numpy(), (upper + lower) / 2, float(left[0]), float(right[0]), mouth)
        upper = lower = seam
    at_middle = np.argmin(abs(_X - middle))
    return PhotoFace(
        mouth_x=middle,
        mouth_y=float(upper[at_middle] + lower[at_middle]) / 2,
        mouth=mouth,
        mouth_left=max(middle - float(left[0]), 0.5 * mouth),
        mouth_right=max(float(right[0]) - middle, 0.5 * mouth),
        upper_lip=upper,
        lower_lip=lower,
        lip_top=_line(points, UPPER_LIP_OUTER),
        lip_bottom=_line(points, LOWER_LIP_OUTER),
        half_width=float(points[RIGHT_CHEEK, 0] - points[LEFT_CHEEK, 0]) / 2,
        center_x=float(points[RIGHT_CHEEK, 0] + points[LEFT_CHEEK, 0]) / 2,
        top=float(points[FOREHEAD, 1]),
        chin=float(points[CHIN, 1]),
        nose_x=float(points[NOSE_TIP, 0]),
        nose_y=float(points[NOSE_TIP, 1]),
        nose_base=float(points[NOSE_BASE, 1]),
        eyes=(
            _eye(points, -1, LEFT_EYE_UPPER, LEFT_EYE_LOWER, LEFT_IRIS, LEFT_BROW),
            _eye(points, 1, RIGHT_EYE_UPPER, RIGHT_EYE_LOWER, RIGHT_IRIS, RIGHT_BROW),
        ),
    )


def _eye(points: np.ndarray, side: int, upper: tuple, lower: tuple, iris: tuple, brow: tuple) -> Eye:
    ring = points[list(iris[1:])]
    radius = float(np.hypot(*(ring - ring.mean(0)).T).mean())
    return Eye(
        side=side,
        left=float(points[list(upper), 0].min()),
        right=float(points[list(upper), 0].max()),
        upper=_line(points, upper),
        lower=_line(points, lower),
        iris_x=float(points[iris[0], 0]),
        iris_y=float(points[iris[0], 1]),
        iris_radius=radius,
        brow_y=float(points[list(brow), 1].mean()),
        brow_bottom=float(points[list(brow[5:]), 1].mean()),
    )


def _line(points: np.ndarray, indices: tuple[int, ...]) -> Line:
    chosen = points[list(indices)]
    order = np.argsort(chosen[:, 0])
    return gaussian_filter1d(np.interp(_X, chosen[order, 0], chosen[order, 1]), 4)


def _refined_seam(
    picture: Float[np.ndarray, "3 size size"], seam: Line, left: float, right: float, mouth: float
) -> Line:
    """Find the dark line between shut lips near the mesh's line, which is visibly wrong by a pixel or two."""
    size = picture.shape[-1]
    gray = gaussian_filter(picture.mean(0), (1.0, 2.0))
    columns = np.arange(int((left + 1) / 2 * size) + 1, int((right + 1) / 2 * size))
    reach = max(2, round(0.13 * mouth * size / 2))
    offsets = np.arange(-reach, reach + 1)
    guess = np.interp((columns + 0.5) / size * 2 - 1, _X, seam)
    rows = (guess[:, None] + 1) / 2 * size - 0.5 + offsets
    base = np.clip(np.floor(rows).astype(int), 0, size - 2)
    part = rows - base
    values = gray[base, columns[:, None]] * (1 - part) + gray[base + 1, columns[:, None]] * part
    values = values - values.mean(1, keepdims=True)
    values = gaussian_filter1d(values, 3, axis=0) / (values.std() + 1e-3) + 0.6 * (offsets / reach) ** 2
    weights = np.exp(-4 * (values - values.min(1, keepdims=True)))
    moved = (weights * offsets).sum(1) / weights.sum(1)
    across = (columns - columns.mean()) / (len(columns) / 2)
    moved = gaussian_filter1d(moved, 5) * np.clip((1 - abs(across)) / 0.2, 0, 1)
    shift = np.interp(_X, (columns + 0.5) / size * 2 - 1, moved, left=0, right=0) / size * 2
    return gaussian_filter1d(seam + shift, 4)
