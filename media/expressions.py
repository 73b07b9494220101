"""References for an expression: read a face from a picture or a video, framed for the networks."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from emotivetalk.errors import InputError
from emotivetalk.files import quoted
from emotivetalk.limits import Limits
from emotivetalk.media.faces import FaceBox, choose_face, crop_portrait, detect_faces
from emotivetalk.media.image import load_image
from emotivetalk.media.video import read_frames
from emotivetalk.timebase import FRAME_RATE_HZ

SEARCHES_PER_S = 1  # face searches per second of video, until one is found


def read_expression_image(path: Path, size: int, limits: Limits | None = None) -> UInt8[np.ndarray, "size size 3"]:
    """Read the largest face of a picture, framed, RGB.

    Args:
        size: side of the result, pixels.

    Raises:
        InputError: not a picture, or no face in it.
    """
    image = load_image(path, limits)
    face = _largest_face(image) or choose_face(image, None, str(path), limits)
    return crop_portrait(image, face, size).image


def read_expression_video(
    path: Path, size: int, max_s: float, limits: Limits | None = None
) -> UInt8[np.ndarray, "frames size size 3"]:
    """Read the first `max_s` seconds of a video at 25 frames per second, framed by the first face that is found.

    The largest face of that frame counts. The crop does not follow the head, which keeps the motion of the head.

    Args:
        size: side of the result, pixels.

    Raises:
        InputError: not a video, or no face in it.
    """
    frames = read_frames(path, FRAME_RATE_HZ, max_s, limits)
    searched = range(0, len(frames), FRAME_RATE_HZ // SEARCHES_PER_S)
    face = next(filter(None, (_largest_face(frames[index]) for index in searched)), None)
    if face is None:
        message = f"no face was found in video {quoted(path)}"
        raise InputError("face_missing", message, "Use a video of one face that looks into the camera, lit evenly.")
    return np.stack([crop_portrait(frame, face, size).image for frame in frames])


def _largest_face(image: UInt8[np.ndarray, "height width 3"]) -> FaceBox | None:
    return max(detect_faces(image), key=lambda face: face.width, default=None)
