"""Load what a video is made from: the pipeline, a portrait and speech, each in one call."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.media.audio import load_speech
from emotivetalk.media.checkpoints import find_checkpoint
from emotivetalk.media.faces import choose_face, crop_portrait
from emotivetalk.media.image import load_image
from emotivetalk.models import pipeline as pipelines
from emotivetalk.models.pipeline import EmotiveTalkPipeline
from emotivetalk.pictures import to_tensor


def load_pipeline(checkpoint: str | Path | None = None, device: str = "cpu") -> EmotiveTalkPipeline:
    """Load a checkpoint in the precision that is fast on the device.

    Args:
        checkpoint: folder of a checkpoint; None loads the starter that ships with the package.
        device: PyTorch's name of the device, such as "cpu" or "cuda:0".

    Raises:
        InputError: the folder is no checkpoint.
    """
    return pipelines.load_pipeline(find_checkpoint(None if checkpoint is None else Path(checkpoint)), device)


def load_portrait(path: str | Path, size: int = 256, face: int | None = None) -> Float[Tensor, "3 size size"]:
    """Read a picture and crop it to the face, RGB in -1..1.

    Args:
        size: side of the square; a pipeline's `image_size`.
        face: which face, counted from 1 at the left; needed where the picture shows several.

    Raises:
        InputError: the file is no picture, or has no face or several.
    """
    image = load_image(Path(path))
    return to_tensor(crop_portrait(image, choose_face(image, face, str(path)), size).image)


def load_waveform(path: str | Path, audio_track: int | None = None) -> Float[Tensor, " samples"]:
    """Read the sound of an audio or video file as 16 kHz mono speech.

    Args:
        audio_track: which sound track, counted from 1; None takes the best that has sound.

    Raises:
        InputError: the file has no sound that can be read, or no such track.
    """
    return torch.from_numpy(load_speech(Path(path), audio_track=audio_track).waveform)
