"""Pictures and videos of a face, read from files and framed as the networks want them."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from media.errors import InputError
from media.faces import FaceBox, choose_face, crop_portrait, detect_faces
from media.files import quoted
from media.image import load_image
from media.video import read_frames
from models.encoders import MOTION_SIZE

LOOKS_PER_S = 1  # how often a face is looked for in a video until one is found
FRAME_RATE_HZ = 25


def to_tensor(image: UInt8[np.ndarray, "height width 3"]) -> Float[Tensor, "3 height width"]:
    """RGB in 0..255 to RGB in -1..1."""
    return torch.from_numpy(image).permute(2, 0, 1).float() / 127.5 - 1


def read_emotion_image(path: Path) -> Float[Tensor, "3 size size"]:
    """The largest face of a picture, framed.

    Raises:
        InputError: not a picture, or no face in it.
    """
    image = load_image(path)
    face = _largest_face(image) or choose_face(image, None, str(path))
    return to_tensor(crop_portrait(image, face, MOTION_SIZE).image)


def read_emotion_video(path: Path, max_s: float) -> Float[Tensor, "frames 3 size size"]:
    """The first `max_s` seconds of a video at 25 frames a second, framed by the largest face where first one is found.

    The frame does not follow the head, so that the head's motion is kept.

    Raises:
        InputError: not a video, or no face in it.
    """
    frames = read_frames(path, FRAME_RATE_HZ, max_s)
    looks = range(0, len(frames), FRAME_RATE_HZ // LOOKS_PER_S)
    face = next(filter(None, (_largest_face(frames[index]) for index in looks)), None)
    if face is None:
        message = f"no face was found in video {quoted(path)}"
        raise InputError("face_missing", message, "Use a video of one face that looks into the camera, lit evenly.")
    return torch.stack([to_tensor(crop_portrait(frame, face, MOTION_SIZE).image) for frame in frames])


def _largest_face(image: UInt8[np.ndarray, "height width 3"]) -> FaceBox | None:
    return max(detect_faces(image), key=lambda face: face.width, default=None)
