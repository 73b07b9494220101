"""Write an MP4 (H.264 and AAC) frame by frame, whole or not at all."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import OutputContainer
from jaxtyping import Float32, UInt8

from emotivetalk.files import atomic_write, check_writable, writing
from emotivetalk.media.encoding import PictureEncoder, SpeechEncoder, playable_size
from emotivetalk.timebase import FRAME_RATE_HZ, SAMPLE_RATE_HZ

AUDIO_AHEAD_S = 0.5  # by which sound precedes its picture in the file: players read ahead less


def count_frames(num_samples: int, fps: int = FRAME_RATE_HZ) -> int:
    """Count the frames of a video for a sound of `num_samples` at 16 kHz: the last one covers the sound's end."""
    return -(-num_samples * fps // SAMPLE_RATE_HZ)


class VideoWriter:
    """A context manager that takes frames one after another and leaves an MP4 at `path`.

    Until the end the file has a temporary name beside `path`; after an exception nothing is left. Sound is encoded with the
    frames, so memory does not grow. H.264 (yuv420p, tagged BT.709, crf 18), sides padded to even by their edge, scaled
    down to H.264 level 5.2; AAC at 48 kHz, mono. `moov` comes first, so that players can start before all is loaded.

    Args:
        path: ends with .mp4.
        width, height: of the frames, pixels.
        fps: frames per second.
        waveform: the sound, 16 kHz mono in -1..1, or None for a video without sound. All of it is written, whatever the
            number of frames; see count_frames.
        metadata: the container's tags; see media/provenance.py.
        threads: of x264; 0 lets it choose.
        overwrite: False keeps a file that another program writes at `path` in the meantime.

    Raises:
        InputError: the file cannot be written, or H.264 has no frames of this shape; at the end, the file exists.
        OutputError: the disk filled up or was removed while writing.
        ValueError: frames of another size.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        fps: int = FRAME_RATE_HZ,
        waveform: Float32[np.ndarray, " samples"] | None = None,
        metadata: Mapping[str, str] | None = None,
        threads: int = 0,
        overwrite: bool = True,
    ) -> None:
        check_writable(path, (".mp4",))
        playable_size(width, height)
        self.path = path
        self.width, self.height, self.fps = width, height, fps
        self.num_frames = 0
        self._metadata = dict(metadata or {})
        self._threads = threads
        self._overwrite = overwrite
        self._waveform = np.zeros(0, np.float32) if waveform is None else waveform
        self._stack = ExitStack()

    def __enter__(self) -> "VideoWriter":
        container = self._stack.enter_context(_mp4(self.path, self._overwrite))
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
                if self._audio is not None:  # the muxer interleaves it with the pictures by time stamp
                    until = round((self.num_frames / self.fps + AUDIO_AHEAD_S) * SAMPLE_RATE_HZ)
                    self._container.mux(list(self._audio.encode(until)))
                self._container.mux(self._video.encode(image, self.num_frames))
                self.num_frames += 1


@contextmanager
def _mp4(path: Path, overwrite: bool) -> Iterator[OutputContainer]:
    """An MP4 that gets its name when it is complete, and is removed by an exception."""
    # use_metadata_tags: else MP4 keeps only the tags it has names for, and drops digitalSourceType.
    options = {"movflags": "faststart+use_metadata_tags"}
    with atomic_write(path, keep_existing=not overwrite) as temporary:
        with writing(path):
            container = av.open(str(temporary), "w", format="mp4", container_options=options)
        try:
            yield container
        except BaseException:
            with suppress(OSError, ValueError):  # the file is removed anyway
                container.close()
            raise
        with writing(path):
            container.close()
