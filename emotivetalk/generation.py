"""From files to a file: what `emotivetalk generate` does once its options are checked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from emotivetalk import __version__
from emotivetalk.checks import as_input_error
from emotivetalk.emotion_options import EmotionOptions
from emotivetalk.limits import Limits
from emotivetalk.media.audio import load_speech
from emotivetalk.media.checkpoints import checkpoint_id
from emotivetalk.media.faces import PortraitCrop, choose_face, crop_portrait
from emotivetalk.media.image import load_image
from emotivetalk.media.mux import VideoWriter
from emotivetalk.media.provenance import Provenance
from emotivetalk.models.emotion import EmotionSource, MeaninglessTextError
from emotivetalk.models.pipeline import EmotiveTalkPipeline, Progress, load_pipeline
from emotivetalk.models.sentence_encoder import SentenceEncoderError
from emotivetalk.pictures import to_tensor
from emotivetalk.progress import progress_bar


@dataclass(frozen=True)
class Sampling:
    """How the video is drawn. `num_steps` None is the checkpoint's own; `guidance` 1 shows the emotion as asked."""

    seed: int = 0
    num_steps: int | None = None
    guidance: float = 1.0


@dataclass(frozen=True)
class Request:
    """One video to make. `face` counts from 1 at the left, None where there is to be only one."""

    portrait: Path
    audio: Path
    output: Path
    checkpoint: Path
    emotion: EmotionOptions
    sampling: Sampling = Sampling()
    face: int | None = None
    paste_back: bool = False


@dataclass(frozen=True)
class Timings:
    """Seconds: of the video, of reading and loading, until the first frame and in all (both with the loading)."""

    video_s: float
    load_s: float
    first_frame_s: float
    total_s: float

    @property
    def realtime_factor(self) -> float:
        """How many times its own length the video took to make, without the loading; below 1 is faster than it plays."""
        return (self.total_s - self.load_s) / self.video_s


def generate_video(request: Request, limits: Limits | None = None) -> Timings:
    """Read, generate and write; the video appears at `request.output` when it is complete.

    Raises:
        InputError: something about the portrait, the speech or the emotion; EmotiveTalkError: the rest.
    """
    start = time.perf_counter()
    limits = limits or Limits()
    speech = load_speech(request.audio, limits)
    emotion = request.emotion.source(speech.duration_s)
    picture = load_image(request.portrait, limits)
    face = choose_face(picture, request.face, str(request.portrait), limits)
    pipeline = load_pipeline(request.checkpoint)
    crop = crop_portrait(picture, face, pipeline.image_size)
    load_s = time.perf_counter() - start

    height, width = (picture if request.paste_back else crop.image).shape[:2]
    made_by = Provenance(checkpoint_id(request.checkpoint), request.sampling.seed, f"EmotiveTalk {__version__}")
    first_frame_s: float | None = None
    with (
        VideoWriter(request.output, width, height, waveform=speech.waveform, metadata=made_by.tags()) as writer,
        progress_bar("chunks denoised") as bar,
    ):
        for frames in _frames(pipeline, crop, speech.waveform, emotion, request.sampling, bar.at):
            if first_frame_s is None:
                first_frame_s = time.perf_counter() - start
            for frame in frames:
                writer.write((crop.paste_back(frame) if request.paste_back else frame)[None])
    assert first_frame_s is not None  # the writer refuses to finish a video without frames
    return Timings(speech.duration_s, load_s, first_frame_s, time.perf_counter() - start)


def _frames(
    pipeline: EmotiveTalkPipeline,
    crop: PortraitCrop,
    waveform: Float32[np.ndarray, " samples"],
    emotion: EmotionSource,
    sampling: Sampling,
    progress: Progress,
) -> Iterator[UInt8[np.ndarray, "frames size size 3"]]:
    """The pipeline's call: batches of frames, in order, as they are finished."""
    try:
        batches = pipeline(
            to_tensor(crop.image),
            torch.from_numpy(waveform),
            emotion,
            seed=sampling.seed,
            num_steps=sampling.num_steps,
            emotion_strength=sampling.guidance,
            progress=progress,
        )
    except SentenceEncoderError as error:
        raise as_input_error("text_encoder_missing", error) from error
    except MeaninglessTextError as error:
        raise as_input_error("emotion_invalid", error) from error
    for frames in batches:
        yield frames.numpy()
