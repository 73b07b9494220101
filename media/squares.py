"""Squares of a picture: cut out, turned, scaled."""

import cv2
import numpy as np
from jaxtyping import UInt8

Image = UInt8[np.ndarray, "height width 3"]
Square = UInt8[np.ndarray, "side side 3"]


def cut_square(image: Image, left: int, top: int, side: int) -> Square:
    """Cut the square with the given upper left corner. Beyond the picture, the picture's edge is repeated."""
    height, width = image.shape[:2]
    inside = image[max(0, top) : min(height, top + side), max(0, left) : min(width, left + side)]
    below, right = max(0, top + side - height), max(0, left + side - width)
    return cv2.copyMakeBorder(inside, max(0, -top), below, max(0, -left), right, cv2.BORDER_REPLICATE)


def resize_square(image: Image, side: int) -> Square:
    """Scale a square picture: average it down, or interpolate it up."""
    if image.shape[0] == side:
        return image.copy()
    interpolation = cv2.INTER_AREA if side < image.shape[0] else cv2.INTER_CUBIC
    return cv2.resize(image, (side, side), interpolation=interpolation)
