"""Separation of foreground and background in an image: GrabCut, morphology and connected components by OpenCV."""

from __future__ import annotations

from enum import IntEnum

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

Mask = Bool[np.ndarray, "height width"]


class GrabCutLabel(IntEnum):
    """Prior knowledge about a pixel. GrabCut changes the labels that are only probable."""

    BACKGROUND = cv2.GC_BGD
    FOREGROUND = cv2.GC_FGD
    PROBABLE_BACKGROUND = cv2.GC_PR_BGD
    PROBABLE_FOREGROUND = cv2.GC_PR_FGD


def grab_cut(
    image: UInt8[np.ndarray, "height width 3"], labels: UInt8[np.ndarray, "height width"], num_iterations: int
) -> Mask:
    """Segment the foreground by GrabCut (Rother et al., 2004). The same arguments give the same mask.

    Args:
        labels: a `GrabCutLabel` for each pixel; both foreground and background must occur.
    """
    cv2.setRNGSeed(0)  # GrabCut clusters colors from random starts
    background_model, foreground_model = np.zeros((1, 65)), np.zeros((1, 65))
    segmented, _, _ = cv2.grabCut(
        image, labels.copy(), (0, 0, 1, 1), background_model, foreground_model, num_iterations, cv2.GC_INIT_WITH_MASK
    )
    return np.isin(segmented, (GrabCutLabel.FOREGROUND, GrabCutLabel.PROBABLE_FOREGROUND))


def open_and_close(mask: Mask, opening_px: int, closing_px: int) -> Mask:
    """Remove specks by morphological opening, then holes by closing, with squares of these sides."""
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((opening_px, opening_px)))
    return cv2.morphologyEx(opened, cv2.MORPH_CLOSE, np.ones((closing_px, closing_px))) > 0


def connected_component(mask: Mask, row: int, column: int) -> Mask:
    """Return the 8-connected component that contains a pixel; the whole background if the pixel is not in the mask."""
    _, components = cv2.connectedComponents(mask.astype(np.uint8))
    return components == components[row, column]
