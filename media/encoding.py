"""Encoders of pictures and sound: H.264 and AAC, the same for a whole file and for fragments."""

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from jaxtyping import Float32, UInt8

from emotivetalk.errors import InputError
from emotivetalk.timebase import SAMPLE_RATE_HZ

AUDIO_RATE_HZ = 48_000
AUDIO_BITS_PER_S = 128_000
AUDIO_BLOCK = 4 * SAMPLE_RATE_HZ  # samples that go to the encoder at once
KEYFRAME_S = 2  # between two places that a player can jump to
# H.264 level 5.2, the highest that phones and browsers decode: blocks of 16 x 16 pixels, and pixels of a side.
BLOCK, MAX_BLOCKS, MAX_SIDE, MIN_SIDE = 16, 36_864, 8_688, 16


class PictureEncoder:
    """Adds a track of H.264 (yuv420p, tagged BT.709, crf 18) to a container and encodes frames for it.

    Sides are padded to even by their edge. Frames that are too large for `LARGEST_LEVEL` are scaled down, see `playable_size`.

    Args:
        width, height: of the frames, pixels.
        threads: of x264; 0 lets it choose.
        reordered: True allows B-frames, which are stored in another order than they are displayed.

    Raises:
        InputError: H.264 has no frames of this shape.
    """

    def __init__(
        self, container: OutputContainer, width: int, height: int, fps: int, threads: int, reordered: bool = True
    ) -> None:
        self.width, self.height = playable_size(width, height)
        options = {"crf": "18", "preset": "veryfast"} | ({} if reordered else {"bf": "0"})
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height = self.width, self.height
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
        """Encode the frame with this index (RGB); return the packets that are ready."""
        height, width = image.shape[:2]
        is_scaled = self.width < width
        if not is_scaled and (height % 2 or width % 2):
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24"),
            width=self.width,
            height=self.height,
            format="yuv420p",
            interpolation="AREA" if is_scaled else None,
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
        """Return the packets that the encoder still holds."""
        return self._stream.encode(None)


class SpeechStream:
    """Adds a track of AAC (48 kHz, mono) to a container and encodes speech for it, piece by piece."""

    def __init__(self, container: OutputContainer) -> None:
        self.track = container.add_stream("aac", rate=AUDIO_RATE_HZ, layout="mono")
        self.track.bit_rate = AUDIO_BITS_PER_S
        self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=AUDIO_RATE_HZ)
        self._num_pushed = 0

    def push(self, samples: Float32[np.ndarray, " samples"]) -> Iterator[av.Packet]:
        """Encode samples (16 kHz mono in -1..1, at least one); yield the packets that are ready."""
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        frame.pts = self._num_pushed
        frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
        self._num_pushed += len(samples)
        for resampled in self._resampler.resample(frame):
            yield from self.track.encode(resampled)

    def finish(self) -> Iterator[av.Packet]:
        """Return the packets that the encoder still holds."""
        for resampled in self._resampler.resample(None):
            yield from self.track.encode(resampled)
        yield from self.track.encode(None)


class SpeechEncoder:
    """Encodes a whole waveform for a track of AAC, in steps.

    Args:
        waveform: 16 kHz mono in -1..1.
    """

    def __init__(self, container: OutputContainer, waveform: Float32[np.ndarray, " samples"]) -> None:
        self._stream = SpeechStream(container)
        self._waveform = waveform
        self._num_encoded = 0

    def encode(self, until: int) -> Iterator[av.Packet]:
        """Encode the samples before `until`, or all of them if there are fewer; yield the packets that are ready."""
        until = min(until, len(self._waveform))
        while self._num_encoded < until:
            block = self._waveform[self._num_encoded : min(until, self._num_encoded + AUDIO_BLOCK)]
            self._num_encoded += len(block)
            yield from self._stream.push(block)

    def finish(self) -> Iterator[av.Packet]:
        """Encode the rest of the waveform; yield all packets that are left."""
        yield from self.encode(len(self._waveform))
        yield from self._stream.finish()


def playable_size(width: int, height: int) -> tuple[int, int]:
    """Return the size at which frames are encoded: even sides, scaled down to what players decode (H.264 level 5.2).

    Raises:
        InputError: a side would be shorter than 16 pixels.
    """
    blocks = -(-width // BLOCK) * -(-height // BLOCK)
    scale = 1.0
    # The level limits the number of blocks and each side. Rounding up to blocks may need another step.
    while blocks > MAX_BLOCKS or max(width, height) * scale > MAX_SIDE:
        scale *= min((MAX_BLOCKS / blocks) ** 0.5, MAX_SIDE / (max(width, height) * scale), 0.999)
        blocks = -(-int(width * scale) // BLOCK) * -(-int(height * scale) // BLOCK)
    if scale == 1:
        size = width + width % 2, height + height % 2
    else:
        size = int(width * scale) // 2 * 2, int(height * scale) // 2 * 2
    if min(width, height) < MIN_SIDE or min(size) < MIN_SIDE:
        raise InputError(
            "video_size",
            f"frames of {width} x {height} pixels cannot be encoded: H.264 takes {MIN_SIDE} to {MAX_SIDE} pixels a side",
            "Cut the picture to a less extreme shape, or leave out --paste-back.",
        )
    return size
