"""Where one shot ends and another begins: hard cuts, by how colours and small pictures change from frame to frame (ours).

A cut changes both the colours' histogram and the places of light and dark, at once and far more than the frames around
it do. A gesture changes the second only, a flicker of the light the first only. Dissolves are no cuts.
"""

from collections.abc import Iterable

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

NUM_BINS = 16
THUMBNAIL = (16, 12)  # width, height
MIN_COLOUR, MIN_PLACE = 0.15, 0.04  # of 1, least changes at a cut
TIMES_AROUND = 4.0  # of the median change of the frames around
AROUND = 12  # frames to either side

Signature = Float32[np.ndarray, " signature"]


def signature(picture: UInt8[np.ndarray, "height width 3"]) -> Signature:
    """What is compared: the three channels' histograms, each a third of 1 in all, then a thumbnail in 0..1."""
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
