"""Scenes played by a pipeline and read back, each beside what the reader makes of the renderer's own frames (ours)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotivetalk.corpus.parameters import EXPRESSION
from emotivetalk.evaluation.reader import Reader, Reading, read_frames
from emotivetalk.evaluation.test_cases import TestCase, true_frames
from emotivetalk.models.encoders import MOTION_SIZE
from emotivetalk.models.pipeline import EmotiveTalkPipeline, MotionSequence

Progress = Callable[[int, int], None]
"""(frames done, of how many)."""

_BLINK = EXPRESSION.index("blink")
_EYES_OPEN = 0.2
_READ_AT_ONCE = 16

Part = UInt8[Tensor, "frames H W 3"]

MotionSource = Callable[[EmotiveTalkPipeline, TestCase, int], MotionSequence]
"""Stands in for V-AID, as some ablations do: (pipeline, scene, seed) to the latents that ETHD renders."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """A scene, what the reader sees in the generated frames and in the true ones, and a generated frame to look at."""

    case: TestCase
    reading: Reading
    truth: Reading
    picture: UInt8[np.ndarray, "size size 3"]


@dataclass(frozen=True, eq=False)
class GeneratedVideo:
    """A generated video to look at."""

    name: str
    case: TestCase
    frames: UInt8[np.ndarray, "frames size size 3"]


def frame_to_show(expression: Float[Tensor, "frames 12"]) -> int:
    """The frame nearest to the middle whose eyes are open, or the middle one if they never are."""
    middle = len(expression) // 2
    is_open = (expression[:, _BLINK] < _EYES_OPEN).nonzero()[:, 0].tolist()
    return min(is_open, key=lambda frame: abs(frame - middle), default=middle)


class CaseRunner:
    """Plays scenes and reads them.

    Args:
        pipeline: what is measured.
        reader: the instrument.
        num_steps: ETHD's; None is the checkpoint's own.
        seed: of the noise; scene k of several has seed + k, or all would blink at the same moments.
        num_frames: how many frames all scenes will have, for the progress.
        progress: told after each part of a video.
        perform: makes the latents instead of V-AID, if given.
    """

    def __init__(
        self,
        pipeline: EmotiveTalkPipeline,
        reader: Reader,
        num_steps: int | None,
        seed: int,
        num_frames: int,
        progress: Progress | None,
        generate_motion: MotionSource | None = None,
    ) -> None:
        self.pipeline, self.reader = pipeline, reader.eval()
        self.num_steps: int = num_steps or pipeline.config["num_steps"]
        self._seed, self._progress, self._generate_motion = seed, progress, generate_motion
        self._num_frames, self.num_done = num_frames, 0
        self.samples: list[GeneratedVideo] = []

    def play(self, case: TestCase, number: int = 0) -> Iterator[Part]:
        """The generated frames, as many as the scene has.

        Args:
            number: added to the seed.

        Raises:
            ValueError: the pipeline gave another number of frames.
        """
        num = 0
        for part in self._parts(case, self._seed + number):
            num += len(part)
            self.heard(len(part))
            yield part
        if num != case.num_frames:
            raise ValueError(f"the pipeline gave {num} frames for {case.num_frames} of speech. It must give as many.")

    def excerpts(self, case: TestCase, spans: Sequence[range], number: int = 0) -> Iterator[Part]:
        """The frames of each span, as `play` gives them where no segment's border is near."""
        seed = self._seed + number
        for part in self.pipeline.excerpts(self._performed(case, seed), spans, seed=seed, num_steps=self.num_steps):
            self.heard(len(part))
            yield part

    def heard(self, num_frames: int) -> None:
        """Counts frames that were made, by `play` or elsewhere."""
        self.num_done += num_frames
        if self._progress is not None:
            self._progress(self.num_done, self._num_frames)

    def measure(self, case: TestCase, number: int = 0, sample: str | None = None) -> Measurement:
        """Plays and reads one scene; of its frames one is kept, or all in `samples` under the name of `sample`."""
        frames = torch.cat(list(self.play(case, number)))
        reading = read_frames(self.reader, frames.split(_READ_AT_ONCE))
        shown = frames[frame_to_show(reading.expression)].clone()
        if sample is not None:
            self.samples.append(GeneratedVideo(sample, case, frames.numpy()))
        return Measurement(case, reading, self.read_truth(case), shown.numpy())

    def measure_all(self, cases: Sequence[TestCase], samples: Sequence[str] = (), first: int = 0) -> list[Measurement]:
        """Each of them, numbered from `first`; the frames of the first ones are kept under the names of `samples`."""
        named = [*samples[: len(cases)], *[None] * (len(cases) - len(samples))]
        return [self.measure(case, k, name) for k, (case, name) in enumerate(zip(cases, named, strict=True), first)]

    def read_truth(self, case: TestCase) -> Reading:
        """What the reader sees in the renderer's frames of a scene: the ceiling."""
        return read_frames(self.reader, (to_pixels(images) for images in true_frames(case, MOTION_SIZE)))

    def _performed(self, case: TestCase, seed: int) -> MotionSequence:
        if self._generate_motion is not None:
            return self._generate_motion(self.pipeline, case, seed)
        return self.pipeline.generate_motion(case.portrait, case.waveform, case.emotion, seed=seed)

    def _parts(self, case: TestCase, seed: int) -> Iterator[Part]:
        if self._generate_motion is not None:
            return self.pipeline.render(self._performed(case, seed), seed=seed, num_steps=self.num_steps)
        return self.pipeline(case.portrait, case.waveform, case.emotion, seed=seed, num_steps=self.num_steps)


def to_pixels(images: Float[Tensor, "frames 3 H W"]) -> Part:
    """RGB in 0..1 to 0..255."""
    return (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)
