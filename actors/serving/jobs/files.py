"""A job's folder in the artifact store: the normalised inputs, and what is kept so that work is never done twice."""

from __future__ import annotations

import io

import numpy as np
import torch
from jaxtyping import Float, Float32
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from torch import Tensor

from emotivetalk.actors.errors import ArtifactNotFoundError
from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.replicas.messages import BlockData, LivePortrait
from emotivetalk.media.image import load_image
from emotivetalk.models.emotion import EmotionImage, EmotionSource, EmotionVideo, emotion_source
from emotivetalk.request import ImageEmotion, VideoEmotion, VideoRequest

BYTES_PER_SAMPLE = 4


class JobFiles:
    """The files of one job by what they mean."""

    def __init__(self, artifacts: ArtifactStore, job_id: str) -> None:
        self.artifacts, self.folder = artifacts, f"jobs/{job_id}"

    def input(self, name: str) -> str:
        """A normalised input, such as "portrait.png"."""
        return f"{self.folder}/{name}"

    @property
    def audio(self) -> str:
        """The encoded sound."""
        return f"{self.folder}/speech.m4a"

    @property
    def init(self) -> str:
        """The head of the video."""
        return f"{self.folder}/init.mp4"

    @property
    def video(self) -> str:
        """The finished video."""
        return f"{self.folder}/video.mp4"

    def fragment(self, index: int, fence: int) -> str:
        """A segment's fragment, as made under a fence."""
        return f"{self.folder}/segments/{index:05d}-{fence}.m4s"

    def tail(self, index: int, fence: int) -> str:
        """The latents to which the next segment is pinned."""
        return f"{self.folder}/segments/{index:05d}-{fence}.safetensors"

    def portrait(self) -> Float[Tensor, "3 height width"]:
        """-1..1."""
        return self._picture("portrait.png")

    def speech(self, num_samples: int) -> StoredSpeech:
        """16 kHz mono, read where it is looked at."""
        return StoredSpeech(self.artifacts, f"{self.folder}/speech.f32", num_samples)

    def emotion(self, request: VideoRequest) -> EmotionSource:
        """The emotion source, with its file read if it has one."""
        if isinstance(request.emotion, ImageEmotion):
            return EmotionImage(self._picture("emotion.png"))
        if isinstance(request.emotion, VideoEmotion):
            frames = np.load(io.BytesIO(self.artifacts.read(f"{self.folder}/emotion.npy")), allow_pickle=False)
            return EmotionVideo(_signed(torch.from_numpy(frames)).permute(0, 3, 1, 2))
        return emotion_source(request.emotion)

    def read_block(self, index: int) -> BlockData | None:
        """A block of V-AID's that was made before."""
        try:
            arrays = load_arrays(self.artifacts.read(self._block(index)))
        except ArtifactNotFoundError:
            return None
        return BlockData(int(arrays["start"][0]), arrays["lip"], arrays["expression"], arrays["expression_reference"])

    def write_block(self, index: int, block: BlockData) -> None:
        """Keep a block for runs to come."""
        arrays = {
            "start": np.array([block.start]),
            "lip": block.lip,
            "expression": block.expression,
            "expression_reference": block.expression_reference,
        }
        self.artifacts.write(self._block(index), save_arrays(arrays))

    def read_tail(self, path: str) -> Float[Tensor, "frames channels h w"]:
        """The end of a segment that was made before."""
        return torch.from_numpy(load_arrays(self.artifacts.read(path))["latents"])

    def write_tail(self, path: str, latents: Float[Tensor, "frames channels h w"]) -> None:
        """Keep the end of a segment for runs to come."""
        self.artifacts.write(path, save_arrays({"latents": latents.contiguous().numpy()}))

    def _block(self, index: int) -> str:
        return f"{self.folder}/blocks/{index:05d}.safetensors"

    def _picture(self, name: str) -> Float[Tensor, "3 height width"]:
        with self.artifacts.local(f"{self.folder}/{name}") as path:
            return _signed(torch.from_numpy(load_image(path))).permute(2, 0, 1)


class StoredSpeech:
    """Raw float32 samples in the artifact store, of which a slice reads its own stretch: a `emotivetalk.models.motion_generator.Samples`."""

    def __init__(self, artifacts: ArtifactStore, path: str, num_samples: int) -> None:
        self._artifacts, self._path, self._num_samples = artifacts, path, num_samples

    def __len__(self) -> int:
        return self._num_samples

    def __getitem__(self, stretch: slice) -> Float[Tensor, " samples"]:
        start, stop, step = stretch.indices(self._num_samples)
        assert step == 1
        data = self._artifacts.read_range(self._path, BYTES_PER_SAMPLE * start, BYTES_PER_SAMPLE * max(start, stop))
        return torch.from_numpy(np.frombuffer(data, dtype="<f4").copy())


class SpokenSpeech:
    """A stretch of samples with silence before and after it, also a `emotivetalk.models.motion_generator.Samples`."""

    def __init__(self, speech: Float32[np.ndarray, " samples"], first: int, num_samples: int) -> None:
        self._speech, self._first, self._num_samples = speech, first, num_samples

    def __len__(self) -> int:
        return self._num_samples

    def __getitem__(self, stretch: slice) -> Float[Tensor, " samples"]:
        start, stop, step = stretch.indices(self._num_samples)
        assert step == 1
        samples = torch.zeros(max(0, stop - start))
        begin, end = max(start, self._first), min(stop, self._first + len(self._speech))
        if begin < end:
            given = self._speech[begin - self._first : end - self._first]
            samples[begin - start : end - start] = torch.from_numpy(given.copy())
        return samples


def live_portrait(portrait: LivePortrait) -> Float[Tensor, "3 height width"]:
    """-1..1."""
    return _signed(torch.from_numpy(portrait.pixels.copy())).permute(2, 0, 1)


def _signed(picture: Tensor) -> Tensor:
    return picture.float() / 127.5 - 1
