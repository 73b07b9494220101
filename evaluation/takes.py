"""Scenes played by a pipeline and read back, each beside what the reader makes of the renderer's own frames (ours)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from corpus.parameters import EXPRESSION
from evaluation.reader import Reader, Reading, read_frames
from evaluation.scenes import Scene, truth_images
from models.encoders import MOTION_SIZE
from models.pipeline import EmotiveTalkPipeline, Performance

Progress = Callable[[int, int], None]
"""(frames done, of how many)."""

_BLINK = EXPRESSION.index("blink")
_EYES_OPEN = 0.2
_READ_AT_ONCE = 16

Part = UInt8[Tensor, "frames H W 3"]

Perform = Callable[[EmotiveTalkPipeline, Scene, int], Performance]
"""Stands in for V-AID, as some ablations do: (pipeline, scene, seed) to the latents that ETHD renders."""


@dataclass(frozen=True, eq=False)
class Take:
    """A scene, what the reader sees in the generated frames and in the true ones, and a generated frame to look at."""

    scene: Scene
    reading: Reading
    truth: Reading
    picture: UInt8[np.ndarray, "size size 3"]


@dataclass(frozen=True, eq=False)
class Sample:
    """A generated video to look at."""

    name: str
    scene: Scene
    frames: UInt8[np.ndarray, "frames size size 3"]


def frame_to_show(expression: Float[Tensor, "frames 12"]) -> int:
    """The frame nearest to the middle whose eyes are open, or the middle one if they never are."""
    middle = len(expression) // 2
    is_open = (expression[:, _BLINK] < _EYES_OPEN).nonzero()[:, 0].tolist()
    return min(is_open, key=lambda frame: abs(frame - middle), default=middle)


class Camera:
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
        perform: Perform | None = None,
    ) -> None:
        self.pipeline, self.reader = pipeline, reader.eval()
        self.num_steps: int = num_steps or pipeline.config["num_steps"]
        self._seed, self._progress, self._perform = seed, progress, perform
        self._num_frames, self.num_done = num_frames, 0
        self.samples: list[Sample] = []

    def play(self, scene: Scene, number: int = 0) -> Iterator[Part]:
        """The generated frames, as many as the scene has.

        Args:
            number: added to the seed.

        Raises:
            ValueError: the pipeline gave another number of frames.
        """
        num = 0
        for part in self._parts(scene, self._seed + number):
            num += len(part)
            self.heard(len(part))
            yield part
        if num != scene.num_frames:
            raise ValueError(f"the pipeline gave {num} frames for {scene.num_frames} of speech. It must give as many.")

    def excerpts(self, scene: Scene, spans: Sequence[range], number: int = 0) -> Iterator[Part]:
        """The frames of each span, as `play` gives them where no segment's border is near."""
        seed = self._seed + number
        for part in self.pipeline.excerpts(self._performed(scene, seed), spans, seed=seed, num_steps=self.num_steps):
            self.heard(len(part))
            yield part

    def heard(self, num_frames: int) -> None:
        """Counts frames that were made, by `play` or elsewhere."""
        self.num_done += num_frames
        if self._progress is not None:
            self._progress(self.num_done, self._num_frames)

    def shoot(self, scene: Scene, number: int = 0, sample: str | None = None) -> Take:
        """Plays and reads one scene; of its frames one is kept, or all in `samples` under the name of `sample`."""
        frames = torch.cat(list(self.play(scene, number)))
        reading = read_frames(self.reader, frames.split(_READ_AT_ONCE))
        shown = frames[frame_to_show(reading.expression)].clone()
        if sample is not None:
            self.samples.append(Sample(sample, scene, frames.numpy()))
        return Take(scene, reading, self.read_truth(scene), shown.numpy())

    def shoot_all(self, scenes: Sequence[Scene], samples: Sequence[str] = (), first: int = 0) -> list[Take]:
        """Each of them, numbered from `first`; the frames of the first ones are kept under the names of `samples`."""
        named = [*samples[: len(scenes)], *[None] * (len(scenes) - len(samples))]
        return [self.shoot(scene, k, name) for k, (scene, name) in enumerate(zip(scenes, named, strict=True), first)]

    def read_truth(self, scene: Scene) -> Reading:
        """What the reader sees in the renderer's frames of a scene: the ceiling."""
        return read_frames(self.reader, (to_pixels(images) for images in truth_images(scene, MOTION_SIZE)))

    def _performed(self, scene: Scene, seed: int) -> Performance:
        if self._perform is not None:
            return self._perform(self.pipeline, scene, seed)
        return self.pipeline.perform(scene.portrait, scene.waveform, scene.emotion, seed=seed)

    def _parts(self, scene: Scene, seed: int) -> Iterator[Part]:
        if self._perform is not None:
            return self.pipeline.render(self._performed(scene, seed), seed=seed, num_steps=self.num_steps)
        return self.pipeline(scene.portrait, scene.waveform, scene.emotion, seed=seed, num_steps=self.num_steps)


def to_pixels(images: Float[Tensor, "frames 3 H W"]) -> Part:
    """RGB in 0..1 to 0..255."""
    return (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)
