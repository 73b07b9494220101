"""How pictures and sound are encoded: H.264 and AAC, the same in a whole file and in fragments."""

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from jaxtyping import Float32, UInt8

from emotivetalk.timebase import SAMPLE_RATE_HZ

AUDIO_RATE_HZ = 48_000
AUDIO_BITS_PER_S = 128_000
AUDIO_BLOCK = 4 * SAMPLE_RATE_HZ  # samples that go to the encoder at once
KEYFRAME_S = 2  # between two places a player can jump to


class PictureEncoder:
    """Adds a track of H.264 (yuv420p, tagged BT.709, crf 18) to a container and encodes frames for it.

    Sides are padded to even by their edge.

    Args:
        width, height: of the frames, pixels.
        threads: x264's; 0 lets it choose.
        reordered: whether frames may be stored in another order than they are shown in (B-frames).

    Raises:
        ValueError: H.264 takes no frames of this size.
    """

    def __init__(
        self, container: OutputContainer, width: int, height: int, fps: int, threads: int, reordered: bool = True
    ) -> None:
        check_frame_size(width, height)
        options = {"crf": "18", "preset": "veryfast"} | ({} if reordered else {"bf": "0"})
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        context = stream.codec_context
        context.gop_size = KEYFRAME_S * fps
        context.thread_count = threads
        context.colorspace = Colorspace.ITU709
        context.color_range = ColorRange.MPEG
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709
        self._stream = stream
        self._fps = fps
        self._reformatter = VideoReformatter()

    def encode(self, image: UInt8[np.ndarray, "height width 3"], index: int) -> list[av.Packet]:
        """Packets that are ready once the frame with this index (RGB) is given."""
        height, width = image.shape[:2]
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            dst_color_primaries=ColorPrimaries.BT709,
            dst_color_trc=ColorTrc.BT709,
            threads=1,  # a frame takes a millisecond: handing it to threads takes longer, on a busy machine much longer
        )
        frame.pts = index
        frame.time_base = Fraction(1, self._fps)
        return self._stream.encode(frame)

    def finish(self) -> list[av.Packet]:
        """The packets that the encoder still holds."""
        return self._stream.encode(None)


class SpeechStream:
    """Adds a track of AAC (48 kHz, mono) to a container and encodes speech for it, piece by piece as it comes."""

    def __init__(self, container: OutputContainer) -> None:
        self.track = container.add_stream("aac", rate=AUDIO_RATE_HZ, layout="mono")
        self.track.bit_rate = AUDIO_BITS_PER_S
        self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=AUDIO_RATE_HZ)
        self._num_pushed = 0

    def push(self, samples: Float32[np.ndarray, " samples"]) -> Iterator[av.Packet]:
        """Packets that are ready once these samples (16 kHz mono in -1..1, at least one) are given."""
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        frame.pts = self._num_pushed
        frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
        self._num_pushed += len(samples)
        for resampled in self._resampler.resample(frame):
            yield from self.track.encode(resampled)

    def finish(self) -> Iterator[av.Packet]:
        """The packets that the encoder still holds."""
        for resampled in self._resampler.resample(None):
            yield from self.track.encode(resampled)
        yield from self.track.encode(None)


class SpeechEncoder:
    """Encodes a waveform that is there for a container's track of AAC, as far as it is asked to.

    Args:
        waveform: 16 kHz mono in -1..1.
    """

    def __init__(self, container: OutputContainer, waveform: Float32[np.ndarray, " samples"]) -> None:
        self._stream = SpeechStream(container)
        self._waveform = waveform
        self._num_encoded = 0

    def encode(self, until: int) -> Iterator[av.Packet]:
        """Packets that are ready once the samples before `until` are given, or all of them if there are fewer."""
        until = min(until, len(self._waveform))
        while self._num_encoded < until:
            block = self._waveform[self._num_encoded : min(until, self._num_encoded + AUDIO_BLOCK)]
            self._num_encoded += len(block)
            yield from self._stream.push(block)

    def finish(self) -> Iterator[av.Packet]:
        """Packets of what is left of the waveform, and those that the encoder still holds."""
        yield from self.encode(len(self._waveform))
        yield from self._stream.finish()


def check_frame_size(width: int, height: int) -> None:
    """Raise ValueError if H.264 takes no frames of so many pixels."""
    if not (16 <= width <= 16384 and 16 <= height <= 16384):
        raise ValueError(f"frames are {width} x {height}; H.264 takes 16 to 16384 pixels a side.")
