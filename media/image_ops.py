"""Image operations by OpenCV: blur, resize, warp and fill. Arrays are `height width` or `height width channels`."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, Int, Num, Shaped

Image = Num[np.ndarray, "height width *channels"]
Plane = Float[np.ndarray, "height width"]
Border = Literal["mirror", "reflect"]
"""Continuation beyond the edge, named as in SciPy: `mirror` does not repeat the edge pixel, `reflect` does."""

Interpolation = Literal["area", "linear", "cubic"]

_BORDERS = {"mirror": cv2.BORDER_REFLECT_101, "reflect": cv2.BORDER_REFLECT}
_INTERPOLATIONS = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}
_FRACTION_BITS = 4  # of the fixed-point coordinates of triangles


def gaussian_blur(image: Image, sigma_px: float, border: Border = "mirror") -> Image:
    """Blur with a Gaussian of this standard deviation."""
    return cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=_BORDERS[border])


def resize(image: Image, width: int, height: int, interpolation: Interpolation = "linear") -> Image:
    """Resize to `width` x `height` pixels. Use `area` to make an image smaller: it averages."""
    return cv2.resize(image, (width, height), interpolation=_INTERPOLATIONS[interpolation])


def warp_affine(image: Image, matrix: Float[np.ndarray, "2 3"], size: int, interpolation: Interpolation) -> Image:
    """Warp into a square of `size` pixels; beyond the image, its edge is repeated.

    Args:
        matrix: maps a pixel (x, y, 1) of the image to (x, y) of the result.
    """
    return cv2.warpAffine(
        image, matrix, (size, size), flags=_INTERPOLATIONS[interpolation], borderMode=cv2.BORDER_REPLICATE
    )


def remap(image: Image, x: Plane, y: Plane) -> Image:
    """Sample the image at (x, y) for each pixel of the result, bilinearly; beyond the edge it is reflected.

    Args:
        x, y: float32, in pixels of the image.
    """
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def fill_polygon(
    plane: Shaped[np.ndarray, "height width"], corners: Int[np.ndarray, "corners 2"], value: float
) -> None:
    """Fill a polygon in place, without antialiasing.

    Args:
        plane: uint8 or float32.
        corners: (x, y) in pixels, int32.
    """
    cv2.fillPoly(plane, [corners], value)


def rasterize_triangles(corners: Float[np.ndarray, "triangles 3 2"], size: int) -> Int[np.ndarray, "size size"]:
    """Return the index of the triangle at each pixel of a square, or -1. Where triangles overlap, the last one counts.

    Args:
        corners: (x, y) in pixels.
    """
    drawn = np.full((size, size), -1.0, np.float32)
    fixed_point = np.round(corners * 2**_FRACTION_BITS).astype(np.int32)
    for index, triangle in enumerate(fixed_point):
        cv2.fillConvexPoly(drawn, triangle, float(index), cv2.LINE_8, _FRACTION_BITS)
    return drawn.astype(np.int64)


def erode(mask: Plane, side_px: int) -> Plane:
    """Erode by a square: each pixel becomes the minimum of the square round it."""
    return cv2.erode(mask, np.ones((side_px, side_px)))


def guided_filter(guide: Plane, plane: Plane, radius_px: int, smoothness: float) -> Plane:
    """Smooth a plane along the edges of a guide (He et al., 2010, "Guided Image Filtering").

    Args:
        smoothness: variance of the guide below which a window counts as flat.
    """
    window = (2 * radius_px + 1, 2 * radius_px + 1)

    def mean(values: Plane) -> Plane:
        return cv2.blur(values, window)

    mean_guide, mean_plane = mean(guide), mean(plane)
    slope = (mean(guide * plane) - mean_guide * mean_plane) / (mean(guide * guide) - mean_guide**2 + smoothness)
    return mean(slope) * guide + mean(mean_plane - slope * mean_guide)
