"""`emotivetalk generate` from files to a file, after its options are checked."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from emotivetalk import __version__
from emotivetalk.errors import InputError
from emotivetalk.limits import Limits
from emotivetalk.media.audio import load_speech
from emotivetalk.media.checkpoints import checkpoint_id
from emotivetalk.media.encoding import playable_size
from emotivetalk.media.faces import PortraitCrop, choose_face, crop_portrait
from emotivetalk.media.image import load_image
from emotivetalk.media.mux import VideoWriter
from emotivetalk.media.provenance import Provenance
from emotivetalk.models.emotion import EmotionImage, EmotionSource, EmotionVideo, emotion_source
from emotivetalk.models.pipeline import EmotiveTalkPipeline, Progress, load_pipeline
from emotivetalk.models.sentence_encoder import SentenceEncoderError
from emotivetalk.pictures import read_emotion_image, read_emotion_video, to_tensor
from emotivetalk.progress import progress_bar
from emotivetalk.request import Emotion, ImageEmotion, SamplingSettings, VideoEmotion, VideoSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """The files of a video, and its emotion. An emotion by image or video has its file in `emotion_file`."""

    portrait: Path
    audio: Path
    emotion: Emotion | None = None
    emotion_file: Path | None = None

    def emotion_source(self, duration_s: float) -> EmotionSource:
        """Return the emotion source, with its file read.

        Args:
            duration_s: length of the speech; no more of an emotion video is read.

        Raises:
            InputError: the file cannot be used.
        """
        if isinstance(self.emotion, ImageEmotion) and self.emotion_file is not None:
            return EmotionImage(read_emotion_image(self.emotion_file))
        if isinstance(self.emotion, VideoEmotion) and self.emotion_file is not None:
            return EmotionVideo(read_emotion_video(self.emotion_file, duration_s))
        return emotion_source(self.emotion)


@dataclass(frozen=True)
class Timings:
    """Seconds: length of the video, loading, time to the first frame and total time (both include the loading)."""

    video_s: float
    load_s: float
    first_frame_s: float
    total_s: float

    @property
    def realtime_factor(self) -> float:
        """Time without loading, divided by the video's length; below 1 is faster than real time."""
        return (self.total_s - self.load_s) / self.video_s


def generate_video(
    inputs: Inputs,
    output: Path,
    checkpoint: Path,
    settings: VideoSettings | None = None,
    *,
    paste_back: bool = False,
    overwrite: bool = True,
    limits: Limits | None = None,
) -> Timings:
    """Read, generate and write; the video appears at `output` when it is complete.

    Raises:
        InputError: the portrait, the speech or the emotion cannot be used; EmotiveTalkError: anything else failed.
    """
    start = time.perf_counter()
    limits, settings = limits or Limits(), settings or VideoSettings()
    speech = load_speech(inputs.audio, limits, settings.audio_track)
    emotion = inputs.emotion_source(speech.duration_s)
    picture = load_image(inputs.portrait, limits)
    face = choose_face(picture, settings.face, str(inputs.portrait), limits)
    if paste_back:
        _check_video_size(picture)
    pipeline = load_pipeline(checkpoint)
    crop = crop_portrait(picture, face, pipeline.image_size)
    load_s = time.perf_counter() - start

    height, width = (picture if paste_back else crop.image).shape[:2]
    made_by = Provenance(checkpoint_id(checkpoint), settings.seed, f"EmotiveTalk {__version__}")
    first_frame_s: float | None = None
    with (
        VideoWriter(
            output, width, height, waveform=speech.waveform, metadata=made_by.tags(), overwrite=overwrite
        ) as writer,
        progress_bar("chunks denoised") as bar,
    ):
        for frames in _frames(pipeline, crop, speech.waveform, emotion, settings, bar.at):
            if first_frame_s is None:
                first_frame_s = time.perf_counter() - start
            for frame in frames:
                writer.write((crop.paste_back(frame) if paste_back else frame)[None])
    assert first_frame_s is not None  # the writer refuses to finish a video without frames
    return Timings(speech.duration_s, load_s, first_frame_s, time.perf_counter() - start)


def _check_video_size(picture: UInt8[np.ndarray, "height width 3"]) -> None:
    """Raise InputError if the whole picture cannot be a video; log a warning if it has to be scaled down."""
    height, width = picture.shape[:2]
    size = playable_size(width, height)
    if size[0] < width:
        log.warning("the video is %d x %d, not %d x %d: players decode no larger H.264", *size, width, height)


def _frames(
    pipeline: EmotiveTalkPipeline,
    crop: PortraitCrop,
    waveform: Float32[np.ndarray, " samples"],
    emotion: EmotionSource,
    settings: SamplingSettings,
    progress: Progress,
) -> Iterator[UInt8[np.ndarray, "frames size size 3"]]:
    """Yield batches of frames, in order, as the pipeline finishes them."""
    try:
        batches = pipeline(
            to_tensor(crop.image),
            torch.from_numpy(waveform),
            emotion,
            seed=settings.seed,
            num_steps=settings.num_steps,
            emotion_strength=settings.emotion_strength,
            progress=progress,
        )
    except SentenceEncoderError as error:
        raise InputError(error.code, error.message, error.remedy) from error
    for frames in batches:
        yield frames.numpy()
