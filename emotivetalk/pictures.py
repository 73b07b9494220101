"""Read pictures and videos of a face from files, framed for the networks, as tensors."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotivetalk.media.expressions import read_expression_image, read_expression_video
from emotivetalk.models.encoders import MOTION_SIZE


def to_tensor(image: UInt8[np.ndarray, "height width 3"]) -> Float[Tensor, "3 height width"]:
    """Convert RGB in 0..255 to RGB in -1..1."""
    return torch.from_numpy(image).permute(2, 0, 1).float() / 127.5 - 1


def read_emotion_image(path: Path) -> Float[Tensor, "3 size size"]:
    """Read a picture, framed on its largest face.

    Raises:
        InputError: the file is no picture, or has no face in it.
    """
    return to_tensor(read_expression_image(path, MOTION_SIZE))


def read_emotion_video(path: Path, max_s: float) -> Float[Tensor, "frames 3 size size"]:
    """Read the first `max_s` seconds of a video at 25 frames a second, framed on the largest face of the first frame with one.

    Raises:
        InputError: the file is no video, or has no face in it.
    """
    return torch.stack([to_tensor(image) for image in read_expression_video(path, MOTION_SIZE, max_s)])
