"""Pictures as bytes: how a corpus keeps the frames of real video."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from emotivetalk.errors import InputError

JPEG_QUALITY = 95
NOISE_PIXELS = 1.2  # standard deviation of the Gaussian that takes away what a codec adds

Picture = UInt8[np.ndarray, "height width 3"]


def encode_pictures(pictures: Sequence[Picture]) -> tuple[bytes, ...]:
    """RGB as one JPEG each, colour at full resolution (lips are small and red). The same pictures, the same bytes."""
    options = [
        *(cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    ]
    encoded = []
    for picture in pictures:
        is_written, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
        assert is_written
        encoded.append(data.tobytes())
    return tuple(encoded)


def decode_picture(data: bytes, size: int | None = None) -> Picture:
    """RGB from a JPEG.

    Args:
        size: side in pixels of the result, averaged down or interpolated up to; as it is, if None.

    Raises:
        InputError: the bytes are no picture.
    """
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if decoded is None:
        raise InputError(
            "corpus_picture_corrupt", "a frame of the corpus is no picture", "Prepare the corpus again from its videos."
        )
    rgb = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    return rgb if size is None else scaled(rgb, size, size)


def scaled(picture: Picture, width: int, height: int) -> Picture:
    """A picture at another size: averaged if it becomes smaller, interpolated if larger."""
    if picture.shape[:2] == (height, width):
        return picture
    is_smaller = width * height < picture.shape[0] * picture.shape[1]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_CUBIC)


def sharpness(face: UInt8[np.ndarray, "side side 3"]) -> float:
    """Variance of the Laplacian of a framed face, without the corners around it, in grey levels squared.

    The face is smoothed a little first: a codec's blocks and noise are no sharpness. Measured on faces of 256 pixels: sharp
    ones have 17 and more, ones blurred by 5 pixels at most 1.8; without the smoothing it would be 89 and 30.
    """
    height, width = face.shape[:2]
    inner = cv2.cvtColor(face[height // 5 : height * 9 // 10, width // 5 : width * 4 // 5], cv2.COLOR_RGB2GRAY)
    smoothed = cv2.GaussianBlur(inner.astype(np.float64), (0, 0), NOISE_PIXELS)
    return float(cv2.Laplacian(smoothed, cv2.CV_64F).var())
