"""Running evaluation cases: generate each video, and read its frames and the true frames (ours)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotivetalk.corpus.parameters import EXPRESSION
from emotivetalk.evaluation.cases import EvaluationCase, true_frames
from emotivetalk.evaluation.observed_faces import ObservedFaces, observe_faces
from emotivetalk.evaluation.reader import Reader, Reading, read_frames
from emotivetalk.media.face_observer import FaceObserver
from emotivetalk.models.encoders import MOTION_SIZE
from emotivetalk.models.pipeline import EmotiveTalkPipeline, MotionSequence

Progress = Callable[[int, int], None]
"""Callback with (frames done, frames in total)."""

_BLINK = EXPRESSION.index("blink")
_EYES_OPEN_BELOW = 0.2
_FRAMES_PER_READ = 16

FrameBatch = UInt8[Tensor, "frames H W 3"]

MotionSource = Callable[[EmotiveTalkPipeline, EvaluationCase, int], MotionSequence]
"""Replacement of V-AID for some ablations: (pipeline, case, seed) to the latents that ETHD renders."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """A case, the readings of its generated and its true frames, and one generated frame for the report.

    Attributes:
        faces: what the face mesh sees; None if it was not asked.
    """

    case: EvaluationCase
    reading: Reading
    truth: Reading
    picture: UInt8[np.ndarray, "size size 3"]
    faces: ObservedFaces | None = None


@dataclass(frozen=True, eq=False)
class GeneratedVideo:
    """A generated video that is saved with the report."""

    name: str
    case: EvaluationCase
    frames: UInt8[np.ndarray, "frames size size 3"]


def open_eyes_frame(expression: Float[Tensor, "frames 12"]) -> int:
    """Return the frame with open eyes nearest to the middle; the middle itself if the eyes never open."""
    middle = len(expression) // 2
    is_open = (expression[:, _BLINK] < _EYES_OPEN_BELOW).nonzero()[:, 0].tolist()
    return min(is_open, key=lambda frame: abs(frame - middle), default=middle)


class CaseRunner:
    """Generator and reader of evaluation cases.

    Args:
        pipeline: pipeline to measure.
        reader: network that reads the frames.
        num_steps: ETHD's solver steps; None uses the checkpoint's own.
        seed: noise seed. Case k of a series uses seed + k; with one seed all clips would blink at the same time.
        progress: called after each batch of frames.
        num_frames: number of frames of all cases, for the progress.
        num_done: number of frames that were generated before, for the progress.
        generate_motion: replacement of V-AID.
        observer: face mesh that also looks at the frames of the cases that are to be observed.

    Attributes:
        num_done: number of frames generated so far.
        saved_videos: videos that were saved under a name.
    """

    def __init__(
        self,
        pipeline: EmotiveTalkPipeline,
        reader: Reader,
        num_steps: int | None,
        seed: int,
        progress: Progress | None = None,
        num_frames: int = 0,
        num_done: int = 0,
        generate_motion: MotionSource | None = None,
        observer: FaceObserver | None = None,
    ) -> None:
        self.pipeline, self.reader, self.observer = pipeline, reader.eval(), observer
        self.num_steps: int = num_steps or pipeline.config["num_steps"]
        self._seed, self._progress, self._generate_motion = seed, progress, generate_motion
        self._num_frames, self.num_done = num_frames, num_done
        self.saved_videos: list[GeneratedVideo] = []

    @property
    def replaces_vaid(self) -> bool:
        """True if an ablation replaces V-AID."""
        return self._generate_motion is not None

    def generate(self, case: EvaluationCase, number: int = 0) -> Iterator[FrameBatch]:
        """Generate the frames of a case.

        Args:
            number: index of the case, added to the seed.

        Raises:
            ValueError: the pipeline returned another number of frames than the case has.
        """
        num = 0
        for batch in self._generated(case, self._seed + number):
            num += len(batch)
            self.count_frames(len(batch))
            yield batch
        if num != case.num_frames:
            raise ValueError(
                f"the pipeline returned {num} frames for {case.num_frames} frames of speech. Return as many."
            )

    def excerpts(self, case: EvaluationCase, spans: Sequence[range], number: int = 0) -> Iterator[FrameBatch]:
        """Generate spans of frames as `generate` does away from segment borders."""
        seed = self._seed + number
        for batch in self.pipeline.excerpts(self._motion(case, seed), spans, seed=seed, num_steps=self.num_steps):
            self.count_frames(len(batch))
            yield batch

    def count_frames(self, num_frames: int) -> None:
        """Add generated frames to the progress."""
        self.num_done += num_frames
        if self._progress is not None:
            self._progress(self.num_done, self._num_frames)

    def measure(
        self, case: EvaluationCase, number: int = 0, video_name: str | None = None, is_observed: bool = False
    ) -> Measurement:
        """Generate and read one case; with a name, also keep its frames in `saved_videos`.

        Args:
            is_observed: show the frames to the face mesh too, if there is one.
        """
        frames = torch.cat(list(self.generate(case, number)))
        reading = read_frames(self.reader, frames.split(_FRAMES_PER_READ))
        picture = frames[open_eyes_frame(reading.expression)].clone()
        if video_name is not None:
            self.saved_videos.append(GeneratedVideo(video_name, case, frames.numpy()))
        faces = self._observe(case, frames) if is_observed else None
        return Measurement(case, reading, self.read_truth(case), picture.numpy(), faces)

    def measure_all(
        self, cases: Sequence[EvaluationCase], video_names: Sequence[str] = (), first: int = 0, num_observed: int = 0
    ) -> list[Measurement]:
        """Measure cases, numbered from `first`; save the videos of the first ones under `video_names`.

        Args:
            num_observed: number of cases, from the first one, whose frames the face mesh sees too.
        """
        names = [*video_names[: len(cases)], *[None] * (len(cases) - len(video_names))]
        return [
            self.measure(case, first + k, name, is_observed=k < num_observed)
            for k, (case, name) in enumerate(zip(cases, names, strict=True))
        ]

    def read_truth(self, case: EvaluationCase) -> Reading:
        """Read the true frames of a case; this gives the ceiling of each figure."""
        return read_frames(self.reader, (to_pixels(images) for images in true_frames(case, MOTION_SIZE)))

    def _observe(self, case: EvaluationCase, frames: FrameBatch) -> ObservedFaces | None:
        if self.observer is None:
            return None
        truth = to_pixels(torch.cat(list(true_frames(case, self.pipeline.image_size))))
        portrait = to_pixels((case.portrait[None] + 1) / 2)[0]
        return observe_faces(self.observer, portrait.numpy(), frames.numpy(), truth.numpy())

    def _motion(self, case: EvaluationCase, seed: int) -> MotionSequence:
        if self._generate_motion is not None:
            return self._generate_motion(self.pipeline, case, seed)
        return self.pipeline.generate_motion(case.portrait, case.waveform, case.emotion, seed=seed)

    def _generated(self, case: EvaluationCase, seed: int) -> Iterator[FrameBatch]:
        if self._generate_motion is not None:
            return self.pipeline.render(self._motion(case, seed), seed=seed, num_steps=self.num_steps)
        return self.pipeline(case.portrait, case.waveform, case.emotion, seed=seed, num_steps=self.num_steps)


def to_pixels(images: Float[Tensor, "frames 3 H W"]) -> FrameBatch:
    """Convert RGB in 0..1 to 8-bit pixels, channels last."""
    return (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)
