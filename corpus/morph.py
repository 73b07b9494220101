"""Morph several portraits into a new person (ours).

Landmarks are averaged. Each portrait is warped to the average by a piecewise affine map over Delaunay triangles, and the
warped faces are averaged. Hair, clothes, background and skin color come from the first portrait.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter
from scipy.spatial import Delaunay

from emotivetalk.corpus.landmarks import OVAL, SOURCE_SIZE, FramedPortrait, Points
from emotivetalk.media.image_ops import erode, fill_polygon, gaussian_blur, rasterize_triangles, remap, resize

_CELL = 4  # pixels: resolution of the warp maps, which are interpolated
_EDGE = np.array([(a, b) for a in np.linspace(-1, 1, 9) for b in np.linspace(-1, 1, 9) if max(abs(a), abs(b)) == 1])
_TONE_SCALE = 40  # pixels: coarser structure is skin color and light, and is kept from the first portrait

FloatPicture = Float[np.ndarray, "size size 3"]


def morph(people: Sequence[FramedPortrait], weights: Sequence[float]) -> FramedPortrait:
    """Blend several portraits into one.

    Args:
        people: portraits; the first gives hair, background and skin color.
        weights: one positive weight per portrait; they are scaled to a sum of 1.

    Raises:
        ValueError: there are no portraits, or not one positive weight for each.
    """
    if not people or len(people) != len(weights) or min(weights) <= 0:
        raise ValueError(
            f"got {len(people)} portraits and weights {list(weights)}. Give one positive weight for each portrait."
        )
    shares = np.array(weights) / sum(weights)
    points = np.tensordot(shares, np.stack([person.points for person in people]), 1)
    depth = np.tensordot(shares, np.stack([person.depth for person in people]), 1)
    warped = [_warped(person, points) for person in people]
    inside = _face_mask(points)
    first = warped[0]
    face = sum(
        share * (picture if picture is first else _recolored(picture, first, inside))
        for share, picture in zip(shares, warped, strict=True)
    )
    blended = first + (face - first) * inside[..., None]
    picture = torch.from_numpy(np.clip(blended, 0, 1)).permute(2, 0, 1).float().contiguous()
    return FramedPortrait(picture, points, depth)


def _warped(person: FramedPortrait, points: Points) -> FloatPicture:
    """Warp the portrait so that its landmarks are at `points`."""
    size = SOURCE_SIZE
    target, source = np.concatenate([points[:468], _EDGE]), np.concatenate([person.points[:468], _EDGE])
    axis = (np.arange(0, size, _CELL) + _CELL / 2) / size * 2 - 1
    cells = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    triangles = Delaunay(target)
    simplices = triangles.simplices[_triangle_of_cells(triangles, len(axis))]
    shift = _interpolated(cells, target[simplices], (source - target)[simplices]).reshape(len(axis), len(axis), 2)
    shift = resize(shift.astype(np.float32), size, size) * (size / 2)
    columns, rows = np.meshgrid(np.arange(size, dtype=np.float32), np.arange(size, dtype=np.float32))
    picture = person.picture.permute(1, 2, 0).numpy()
    return remap(picture, columns + shift[..., 0], rows + shift[..., 1])


def _interpolated(
    points: Float[np.ndarray, "n 2"], corners: Float[np.ndarray, "n 3 2"], values: Float[np.ndarray, "n 3 2"]
) -> Float[np.ndarray, "n 2"]:
    """Interpolate the corners' values at one point of each triangle (barycentric coordinates)."""
    (ax, ay), (bx, by) = (corners[:, 0] - corners[:, 2]).T, (corners[:, 1] - corners[:, 2]).T
    px, py = (points - corners[:, 2]).T
    area = ax * by - ay * bx
    first, second = (px * by - py * bx) / area, (ax * py - ay * px) / area
    return (
        values[:, 2] + first[:, None] * (values[:, 0] - values[:, 2]) + second[:, None] * (values[:, 1] - values[:, 2])
    )


def _triangle_of_cells(triangles: Delaunay, num_cells: int) -> Int[np.ndarray, " cells"]:
    """Return the triangle index of each cell. Rasterizing is a hundred times as fast as `find_simplex`."""
    corners = (triangles.points + 1) / 2 * num_cells - 0.5
    return np.maximum(rasterize_triangles(corners[triangles.simplices], num_cells).ravel(), 0)


def _face_mask(points: Points) -> Float[np.ndarray, "size size"]:
    """Return a mask that is 1 in the face and 0 outside, with a wide soft edge inside the outline."""
    drawn = np.zeros((SOURCE_SIZE, SOURCE_SIZE), np.float32)
    outline = np.round((points[list(OVAL)] + 1) / 2 * SOURCE_SIZE).astype(np.int32)
    fill_polygon(drawn, outline, 1.0)
    return gaussian_blur(erode(drawn, 27), 12)


def _recolored(picture: FloatPicture, reference: FloatPicture, inside: Float[np.ndarray, "size size"]) -> FloatPicture:
    """Give a face the coarse colors of `reference`. Colors are averaged in the face only."""
    step = 8
    weight = inside[::step, ::step, None] + 1e-3
    sigma = (_TONE_SCALE / step, _TONE_SCALE / step, 0)

    def coarse(image: FloatPicture) -> FloatPicture:
        small = resize(image, SOURCE_SIZE // step, SOURCE_SIZE // step, "area")
        return gaussian_filter(small * weight, sigma) / gaussian_filter(weight, sigma)

    ratio = np.clip((coarse(reference) + 0.02) / (coarse(picture) + 0.02), 0.4, 2.5)
    return np.clip(picture * resize(ratio.astype(np.float32), SOURCE_SIZE, SOURCE_SIZE), 0, 1)
