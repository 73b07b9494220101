"""Writing the result: H.264 and AAC in an MP4, frame by frame, whole or not at all."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import Float32, UInt8

from media.audio import SAMPLE_RATE_HZ
from media.files import atomic_write, check_writable, writing

AUDIO_RATE_HZ = 48_000
AUDIO_BITS_PER_S = 128_000
AUDIO_AHEAD_S = 0.5  # sound is laid so far before the picture it belongs to, as players like it
AUDIO_BLOCK = 4 * SAMPLE_RATE_HZ  # samples that go to the encoder at once
KEYFRAME_S = 2  # between two places a player can jump to


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
        if not (16 <= width <= 16384 and 16 <= height <= 16384):
            raise ValueError(f"frames are {width} x {height}; H.264 takes 16 to 16384 pixels a side.")
        self.path = path
        self.width, self.height, self.fps = width, height, fps
        self.num_frames = 0
        self._metadata = dict(metadata or {})
        self._threads = threads
        self._waveform = np.zeros(0, np.float32) if waveform is None else waveform
        self._samples_written = 0
        self._reformatter = VideoReformatter()
        self._stack = ExitStack()

    def __enter__(self) -> "VideoWriter":
        container = self._stack.enter_context(_mp4(self.path))
        container.metadata.update(self._metadata)
        self._container = container
        self._video = self._add_video(container)
        self._audio = self._add_audio(container) if len(self._waveform) else None
        self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=AUDIO_RATE_HZ)
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
            self._write_audio(len(self._waveform))
            self._finish_audio()
            self._container.mux(self._video.encode(None))

    def write(self, frames: UInt8[np.ndarray, "frames height width 3"]) -> None:
        """Append frames (RGB)."""
        if frames.dtype != np.uint8 or frames.shape[1:] != (self.height, self.width, 3):
            raise ValueError(
                f"frames are {frames.dtype} {frames.shape}; "
                f"this writer takes uint8 [n, {self.height}, {self.width}, 3]."
            )
        with writing(self.path):
            for image in frames:
                self._write_audio(round((self.num_frames / self.fps + AUDIO_AHEAD_S) * SAMPLE_RATE_HZ))
                self._container.mux(self._video.encode(self._to_yuv(image)))
                self.num_frames += 1

    def _add_video(self, container: OutputContainer) -> VideoStream:
        stream = container.add_stream("libx264", rate=self.fps, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height = self.width + self.width % 2, self.height + self.height % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, self.fps)
        context = stream.codec_context
        context.gop_size = KEYFRAME_S * self.fps
        context.thread_count = self._threads
        context.colorspace = Colorspace.ITU709
        context.color_range = ColorRange.MPEG
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709
        return stream

    def _add_audio(self, container: OutputContainer) -> AudioStream:
        stream = container.add_stream("aac", rate=AUDIO_RATE_HZ, layout="mono")
        stream.bit_rate = AUDIO_BITS_PER_S
        return stream

    def _to_yuv(self, image: UInt8[np.ndarray, "height width 3"]) -> av.VideoFrame:
        if self.height % 2 or self.width % 2:
            image = np.pad(image, ((0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            dst_color_primaries=ColorPrimaries.BT709,
            dst_color_trc=ColorTrc.BT709,
            threads=1,  # a frame takes a millisecond: handing it to threads takes longer, on a busy machine much longer
        )
        frame.pts = self.num_frames
        frame.time_base = Fraction(1, self.fps)
        return frame

    def _write_audio(self, until: int) -> None:
        """Encode the sound up to a sample; its time stamps make the muxer lay it between the pictures."""
        until = min(until, len(self._waveform))
        while self._audio is not None and self._samples_written < until:
            block = self._waveform[self._samples_written : min(until, self._samples_written + AUDIO_BLOCK)]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block[None]), format="fltp", layout="mono")
            frame.sample_rate = SAMPLE_RATE_HZ
            frame.pts = self._samples_written
            frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
            self._samples_written += len(block)
            for resampled in self._resampler.resample(frame):
                self._container.mux(self._audio.encode(resampled))

    def _finish_audio(self) -> None:
        if self._audio is None:
            return
        for resampled in self._resampler.resample(None):
            self._container.mux(self._audio.encode(resampled))
        self._container.mux(self._audio.encode(None))


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
