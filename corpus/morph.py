"""New people from the portraits of several (ours).

Shapes are averaged landmark by landmark; every portrait is warped to the average by a piecewise affine map over its
Delaunay triangles, and the faces are averaged. Hair, clothes and background are those of the first person, and so is the
color of the skin.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter
from scipy.spatial import Delaunay

from emotivetalk.corpus.landmarks import OVAL, SOURCE_SIZE, FramedPortrait, Points

_CELL = 4  # pixels: the maps are computed this coarsely, and interpolated
_EDGE = np.array([(a, b) for a in np.linspace(-1, 1, 9) for b in np.linspace(-1, 1, 9) if max(abs(a), abs(b)) == 1])
_TONE_SCALE = 40  # pixels: what is coarser than this is skin color and light, and stays the first person's

FloatPicture = Float[np.ndarray, "size size 3"]


def morph(people: Sequence[FramedPortrait], weights: Sequence[float]) -> FramedPortrait:
    """Blend several people into one.

    Args:
        people: the first gives hair, background and color of the skin.
        weights: of each, positive; scaled to a sum of 1.

    Raises:
        ValueError: nobody, or not one positive weight for each.
    """
    if not people or len(people) != len(weights) or min(weights) <= 0:
        raise ValueError(f"{len(people)} people and weights {list(weights)}: give one positive weight for each person")
    shares = np.array(weights) / sum(weights)
    points = np.tensordot(shares, np.stack([person.points for person in people]), 1)
    depth = np.tensordot(shares, np.stack([person.depth for person in people]), 1)
    warped = [_warped(person, points) for person in people]
    inside = _face_of(points)
    first = warped[0]
    face = sum(
        share * (picture if picture is first else _recolored(picture, first, inside))
        for share, picture in zip(shares, warped, strict=True)
    )
    blended = first + (face - first) * inside[..., None]
    picture = torch.from_numpy(np.clip(blended, 0, 1)).permute(2, 0, 1).float().contiguous()
    return FramedPortrait(picture, points, depth)


def _warped(person: FramedPortrait, points: Points) -> FloatPicture:
    """The portrait with its landmarks moved to `points`."""
    size = SOURCE_SIZE
    target, source = np.concatenate([points[:468], _EDGE]), np.concatenate([person.points[:468], _EDGE])
    axis = (np.arange(0, size, _CELL) + _CELL / 2) / size * 2 - 1
    cells = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    triangles = Delaunay(target)
    found = _triangle_of(triangles, len(axis))
    corners, moved = target[triangles.simplices[found]], (source - target)[triangles.simplices[found]]
    shift = _interpolated(cells, corners, moved).reshape(len(axis), len(axis), 2)
    shift = cv2.resize(shift.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR) * (size / 2)
    columns, rows = np.meshgrid(np.arange(size, dtype=np.float32), np.arange(size, dtype=np.float32))
    picture = person.picture.permute(1, 2, 0).numpy()
    return cv2.remap(
        picture, columns + shift[..., 0], rows + shift[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )


def _interpolated(
    places: Float[np.ndarray, "n 2"], corners: Float[np.ndarray, "n 3 2"], values: Float[np.ndarray, "n 3 2"]
) -> Float[np.ndarray, "n 2"]:
    """Values at places in triangles, linear between the corners' values (barycentric coordinates)."""
    (ax, ay), (bx, by) = (corners[:, 0] - corners[:, 2]).T, (corners[:, 1] - corners[:, 2]).T
    px, py = (places - corners[:, 2]).T
    area = ax * by - ay * bx
    first, second = (px * by - py * bx) / area, (ax * py - ay * px) / area
    return (
        values[:, 2] + first[:, None] * (values[:, 0] - values[:, 2]) + second[:, None] * (values[:, 1] - values[:, 2])
    )


def _triangle_of(triangles: Delaunay, num_cells: int) -> Int[np.ndarray, " cells"]:
    """The triangle of each cell. Drawing their numbers is a hundred times as fast as searching (`find_simplex`)."""
    drawn = np.full((num_cells, num_cells), -1.0, np.float32)
    fraction = 4  # bits of a cell
    corners = np.round(((triangles.points + 1) / 2 * num_cells - 0.5) * 2**fraction).astype(np.int32)
    for number, simplex in enumerate(triangles.simplices):
        cv2.fillConvexPoly(drawn, corners[simplex], float(number), cv2.LINE_8, fraction)
    return np.maximum(drawn.astype(np.int64).ravel(), 0)


def _face_of(points: Points) -> Float[np.ndarray, "size size"]:
    """1 inside the face, 0 outside, with a wide soft edge within the outline."""
    drawn = np.zeros((SOURCE_SIZE, SOURCE_SIZE), np.float32)
    outline = np.round((points[list(OVAL)] + 1) / 2 * SOURCE_SIZE).astype(np.int32)
    cv2.fillPoly(drawn, [outline], 1.0)
    return cv2.GaussianBlur(cv2.erode(drawn, np.ones((27, 27))), (0, 0), 12)


def _recolored(picture: FloatPicture, like: FloatPicture, inside: Float[np.ndarray, "size size"]) -> FloatPicture:
    """The face with the coarse colors of another one, both averaged within the face alone."""
    step = 8
    weight = inside[::step, ::step, None] + 1e-3
    sigma = (_TONE_SCALE / step, _TONE_SCALE / step, 0)

    def coarse(image: FloatPicture) -> FloatPicture:
        small = cv2.resize(image, None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_AREA)
        return gaussian_filter(small * weight, sigma) / gaussian_filter(weight, sigma)

    ratio = np.clip((coarse(like) + 0.02) / (coarse(picture) + 0.02), 0.4, 2.5)
    return np.clip(picture * cv2.resize(ratio.astype(np.float32), picture.shape[1::-1]), 0, 1)
