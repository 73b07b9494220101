"""Writing the result: H.264 and AAC in an MP4, frame by frame, whole or not at all."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import OutputContainer
from jaxtyping import Float32, UInt8

from emotivetalk.files import atomic_write, check_writable, writing
from emotivetalk.media.encoding import PictureEncoder, SpeechEncoder, check_frame_size
from emotivetalk.timebase import SAMPLE_RATE_HZ

AUDIO_AHEAD_S = 0.5  # sound is laid so far before the picture it belongs to, as players like it


def count_frames(num_samples: int, fps: int = 25) -> int:
    """How many frames a video of so many samples (16 kHz) has: the last one covers the sound's end."""
    return -(-num_samples * fps // SAMPLE_RATE_HZ)


class VideoWriter:
    """A context manager that takes frames as they are made and leaves an MP4 at `path`.

    Until the end the file has another name beside it; after an exception nothing is left. Sound is encoded as the
    frames come, so memory does not grow. H.264 (yuv420p, tagged BT.709, crf 18), sides padded to even by their edge;
    AAC at 48 kHz, mono. `moov` comes first, so that playing can begin before all is loaded.

    Args:
        path: ends with .mp4; an existing file is replaced.
        width, height: of the frames, pixels.
        fps: frames a second.
        waveform: the sound, 16 kHz mono in -1..1, or None for a silent film. All of it is written, whatever the number
            of frames; see count_frames.
        metadata: the container's tags; see media/provenance.py.
        threads: x264's; 0 lets it choose.

    Raises:
        InputError: on construction, if the file could not be written.
        OutputError: the disk filled up or went away meanwhile.
        ValueError: frames of another size.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        fps: int = 25,
        waveform: Float32[np.ndarray, " samples"] | None = None,
        metadata: Mapping[str, str] | None = None,
        threads: int = 0,
    ) -> None:
        check_writable(path, (".mp4",))
        check_frame_size(width, height)
        self.path = path
        self.width, self.height, self.fps = width, height, fps
        self.num_frames = 0
        self._metadata = dict(metadata or {})
        self._threads = threads
        self._waveform = np.zeros(0, np.float32) if waveform is None else waveform
        self._stack = ExitStack()

    def __enter__(self) -> "VideoWriter":
        container = self._stack.enter_context(_mp4(self.path))
        container.metadata.update(self._metadata)
        self._container = container
        self._video = PictureEncoder(container, self.width, self.height, self.fps, self._threads)
        self._audio = SpeechEncoder(container, self._waveform) if len(self._waveform) else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack, writing(self.path):
            if self.num_frames == 0:
                raise ValueError("the video has no frames; write at least one.")
            if self._audio is not None:
                self._container.mux(list(self._audio.finish()))
            self._container.mux(self._video.finish())

    def write(self, frames: UInt8[np.ndarray, "frames height width 3"]) -> None:
        """Append frames (RGB)."""
        if frames.dtype != np.uint8 or frames.shape[1:] != (self.height, self.width, 3):
            raise ValueError(
                f"frames are {frames.dtype} {frames.shape}; "
                f"this writer takes uint8 [n, {self.height}, {self.width}, 3]."
            )
        with writing(self.path):
            for image in frames:
                if self._audio is not None:  # its time stamps make the muxer lay it between the pictures
                    until = round((self.num_frames / self.fps + AUDIO_AHEAD_S) * SAMPLE_RATE_HZ)
                    self._container.mux(list(self._audio.encode(until)))
                self._container.mux(self._video.encode(image, self.num_frames))
                self.num_frames += 1


@contextmanager
def _mp4(path: Path) -> Iterator[OutputContainer]:
    """An MP4 that takes its name when it is complete, and is gone if an exception passes."""
    # use_metadata_tags: else MP4 keeps only the tags it has names for, and drops digitalSourceType.
    options = {"movflags": "faststart+use_metadata_tags"}
    with atomic_write(path) as temporary:
        with writing(path):
            container = av.open(str(temporary), "w", format="mp4", container_options=options)
        try:
            yield container
        except BaseException:
            with suppress(OSError, ValueError):  # of a file that is about to be removed
                container.close()
            raise
        with writing(path):
            container.close()
