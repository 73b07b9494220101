"""Detection of hard cuts by the change of colors and thumbnails between frames (ours).

A cut changes both the color histogram and the thumbnail, far more than the neighboring frames do. A gesture changes only
the thumbnail, flickering light only the histogram. Dissolves are not detected.
"""

from collections.abc import Iterable

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

NUM_BINS = 16
THUMBNAIL = (16, 12)  # width, height
MIN_COLOUR, MIN_PLACE = 0.15, 0.04  # least changes of histogram and thumbnail at a cut, of 1
TIMES_AROUND = 4.0  # least ratio to the median change of the neighboring frames
AROUND = 12  # neighboring frames on either side

Signature = Float32[np.ndarray, " signature"]


def signature(picture: UInt8[np.ndarray, "height width 3"]) -> Signature:
    """Compute what is compared: the histograms of the channels, 1 in sum, then a thumbnail in 0..1."""
    bins = [np.bincount(picture[..., channel].ravel() >> 4, minlength=NUM_BINS) for channel in range(3)]
    histogram = np.concatenate(bins).astype(np.float32) / (3 * picture[..., 0].size)
    small = cv2.resize(picture, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32).ravel() / 255
    return np.concatenate([histogram, small])


def cut_scenes(signatures: Iterable[Signature]) -> list[range]:
    """The scenes of a video, as ranges of its frames that follow each other and cover it."""
    rows = np.stack(list(signatures))
    steps = np.abs(np.diff(rows, axis=0))
    colour = steps[:, : 3 * NUM_BINS].sum(1) / 2
    place = steps[:, 3 * NUM_BINS :].mean(1)
    change = colour + place
    cuts = [0]
    for index in np.flatnonzero((colour > MIN_COLOUR) & (place > MIN_PLACE)).tolist():
        around = np.concatenate([change[max(0, index - AROUND) : index], change[index + 1 : index + 1 + AROUND]])
        if len(around) == 0 or change[index] > TIMES_AROUND * np.median(around):
            cuts.append(index + 1)
    return [range(start, stop) for start, stop in zip(cuts, [*cuts[1:], len(rows)])]
