"""Fragmented MP4 whose fragments can be made in any process, and repeated byte for byte.

`init_segment` and the fragments in their order are the finished file; players can start with the first ones. Each fragment
is a closed group of pictures with its place on the clip's time line. The sound is encoded once for the whole clip
(`encode_audio`), and its packets are interleaved with the pictures (`fragment`), so there are no joints.

The AAC encoder puts 1024 samples of its own before the sound. The init segment's edit list says so: the sound's track
begins so much earlier than the picture's, and players leave the priming out.
"""

import io
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from jaxtyping import Float32, UInt8

from emotivetalk.files import atomic_write, check_writable, writing
from emotivetalk.limits import Limits
from emotivetalk.media.containers import open_media
from emotivetalk.media.encoding import AUDIO_RATE_HZ, PictureEncoder, SpeechEncoder, SpeechStream
from emotivetalk.timebase import FRAME_RATE_HZ

PRIMING_SAMPLES = 1024  # what FFmpeg's AAC encoder puts before the sound
# One fragment, when we say so; no index at the end. use_metadata_tags: see media/mux.py.
MOVFLAGS = "frag_custom+default_base_moof+skip_trailer+use_metadata_tags"


def init_segment(width: int, height: int, fps: int = FRAME_RATE_HZ, tags: Mapping[str, str] | None = None) -> bytes:
    """Build the header before the first fragment: `ftyp`, and a `moov` that declares the tracks but has no frames.

    Track 1 is H.264, track 2 AAC at 48 kHz, mono.

    Args:
        width, height: of the frames, pixels; odd sides are padded by one.
        tags: the container's metadata; see media/provenance.py.

    Raises:
        InputError: H.264 has no frames of this shape.
    """
    # The muxer learns the codecs' headers and the priming from packets: so we give it a black frame, and cut it off.
    file = io.BytesIO()
    with _container(file, {"movflags": f"{MOVFLAGS}+delay_moov"}) as container:
        container.metadata.update(tags or {})
        pictures = PictureEncoder(container, width, height, fps, threads=1, reordered=False)
        speech = SpeechEncoder(container, np.zeros(PRIMING_SAMPLES, np.float32))
        pictures_packets = [*pictures.encode(np.zeros((height, width, 3), np.uint8), 0), *pictures.finish()]
        for packet in [*pictures_packets, *speech.finish()]:
            container.mux(packet)
    data = file.getvalue()
    return data[: _offset_of_moof(data)]


def encode_audio(waveform: Float32[np.ndarray, " samples"], path: Path) -> None:
    """Encode a clip's whole sound as AAC, as `fragment` wants it. The file takes its name when it is complete.

    Args:
        waveform: 16 kHz mono in -1..1, not empty.
        path: ends with .m4a.

    Raises:
        InputError: the file could not be written; OutputError: the disk filled up meanwhile.
    """
    check_writable(path, (".m4a",))
    with atomic_write(path) as temporary, writing(path), av.open(str(temporary), "w", format="mp4") as container:
        for packet in SpeechEncoder(container, waveform).finish():
            container.mux(packet)


class ClipAudio:
    """A clip's encoded sound, opened for reading any part of it; a context manager. Not for several threads at once.

    Args:
        path: a file of `encode_audio`.

    Raises:
        InputError: not a media file; ValueError: one that `encode_audio` did not write.
    """

    def __init__(self, path: Path) -> None:
        with ExitStack() as stack:
            self._container = stack.enter_context(open_media(path, "audio", Limits()))
            stream = self._container.streams.best("audio")
            if not isinstance(stream, AudioStream) or stream.time_base != Fraction(1, AUDIO_RATE_HZ):
                raise ValueError(f"{path} is not sound at {AUDIO_RATE_HZ} Hz; write it with encode_audio.")
            first = next(iter(self._container.demux(stream)))
            if first.pts != -PRIMING_SAMPLES:
                raise ValueError(f"{path} begins at sample {first.pts}; write it with encode_audio.")
            self.stream = stream
            self._stack = stack.pop_all()

    def __enter__(self) -> "ClipAudio":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def packets(self, start_s: Fraction, stop_s: Fraction) -> list[av.Packet]:
        """The packets that begin in start_s <= time < stop_s, in order. The first of a clip begins before 0 s.

        So the packets of adjoining ranges are all of them, each once, wherever the borders lie.
        """
        start, stop = start_s * AUDIO_RATE_HZ, stop_s * AUDIO_RATE_HZ
        self._container.seek(max(-PRIMING_SAMPLES, int(start) - PRIMING_SAMPLES), stream=self.stream)
        found = []
        for packet in self._container.demux(self.stream):
            if packet.pts is None or packet.pts >= stop:  # None: the mark of the end
                break
            if packet.pts >= start:
                found.append(packet)
        return found


@dataclass(frozen=True)
class SoundPackets:
    """One fragment's sound by value, for a process that does not have the clip's.

    Attributes:
        packets: in order: first sample at 48 kHz in the clip, how many samples, AAC.
    """

    packets: tuple[tuple[int, int, bytes], ...]


class GrowingAudio:
    """A clip's sound that is encoded while it is spoken, by one encoder: the packets are those of `encode_audio`."""

    def __init__(self) -> None:
        # The container is there for the encoder's sake, nothing is ever written into it.
        self._stream = SpeechStream(_container(io.BytesIO(), {}))
        self._packets: list[tuple[int, int, bytes]] = []
        self._is_finished = False

    def push(self, samples: Float32[np.ndarray, " samples"]) -> None:
        """Encode the next samples: 16 kHz mono in -1..1, possibly none."""
        if len(samples):
            self._keep(self._stream.push(samples))

    def finish(self) -> None:
        """End the sound. Further calls do nothing."""
        if not self._is_finished:
            self._is_finished = True
            self._keep(self._stream.finish())

    def take(self, stop_s: Fraction | None) -> SoundPackets:
        """The packets that begin before and were not taken yet; None: all of them.

        What was pushed less than two frames ago may still be in the encoder.
        """
        taken = [packet for packet in self._packets if stop_s is None or packet[0] < stop_s * AUDIO_RATE_HZ]
        self._packets = self._packets[len(taken) :]
        return SoundPackets(tuple(taken))

    def _keep(self, packets: Iterable[av.Packet]) -> None:
        for packet in packets:
            assert packet.pts is not None and packet.duration is not None
            self._packets.append((packet.pts, packet.duration, bytes(packet)))


def fragment(
    frames: UInt8[np.ndarray, "frames height width 3"],
    start_frame: int,
    audio: ClipAudio | SoundPackets,
    *,
    is_last: bool,
    sequence: int,
    fps: int = FRAME_RATE_HZ,
    threads: int = 1,
    num_frames: int | None = None,
    picture_frames: int = 1,
) -> bytes:
    """Frames and the sound that belongs to them as `moof` and `mdat`: the same arguments give the same bytes.

    Args:
        frames: RGB, of the size that the init segment was made for, at least one.
        start_frame: index of the first of them in the clip.
        audio: the clip's sound; for a live clip, what `GrowingAudio` returned for these frames.
        is_last: no fragment follows: it gets all sound that is left.
        sequence: the fragment's number in the clip, from 0.
        fps: frames a second.
        threads: x264's. Another number gives other bytes, though as good ones.
        num_frames: the fragment's length, frames; None is the number of `frames`.
        picture_frames: for how many frames each of `frames` stays, the last one up to `num_frames`. It is the sample's
            duration in the file, so dropped frames take no bytes and the time line stays true.

    Raises:
        ValueError: frames of another kind, or none; a negative place; frames that do not fill `num_frames`.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or len(frames) == 0:
        raise ValueError(f"frames are {frames.dtype} {frames.shape}; a fragment takes uint8 [n, height, width, 3].")
    if start_frame < 0 or sequence < 0:
        raise ValueError(f"fragment {sequence} from frame {start_frame}: neither may be negative.")
    num_frames = len(frames) if num_frames is None else num_frames
    if picture_frames < 1 or len(frames) != -(-num_frames // picture_frames):
        raise ValueError(f"{len(frames)} frames of {picture_frames} each do not make {num_frames}.")
    file = io.BytesIO()
    options = {
        # frag_discont: the time stamps are the places in the clip, although nothing came before. The muxer is neither
        # to shift them to 0 nor to add an edit list.
        "movflags": f"{MOVFLAGS}+empty_moov+frag_discont",
        "fragment_index": str(sequence + 1),
        "use_editlist": "0",
        "avoid_negative_ts": "disabled",
    }
    with _container(file, options) as container:
        height, width = frames.shape[1:3]
        pictures = PictureEncoder(container, width, height, fps, threads, reordered=False)
        if isinstance(audio, SoundPackets):
            sound, sound_packets = SpeechStream(container).track, _as_packets(audio)
        else:
            sound = container.add_stream_from_template(audio.stream)
            sound_packets = audio.packets(*_sound_range(start_frame, num_frames, is_last, fps))
        packets = [
            packet
            for image, index in zip(frames, count(start_frame, picture_frames))
            for packet in pictures.encode(image, index)
        ]
        packets += pictures.finish()
        for packet in packets:
            # The encoder leaves it open, and the last frame of a fragment has no next one to tell it.
            assert packet.pts is not None
            packet.duration = min(picture_frames, start_frame + num_frames - packet.pts)
        for packet in sound_packets:
            assert packet.pts is not None
            packet.stream = sound
            packet.pts = packet.dts = packet.pts + PRIMING_SAMPLES  # the init segment's edit list takes it off
            packets.append(packet)
        for packet in packets:
            container.mux(packet)
    data = file.getvalue()
    return data[_offset_of_moof(data) :]


def first_frame_jpeg(data: bytes) -> bytes:
    """Return the first frame of a fragmented MP4 (the initialisation segment and a fragment) as a JPEG."""
    with av.open(io.BytesIO(data), "r") as container:
        frame = next(container.decode(video=0))
    file = io.BytesIO()
    frame.to_image().save(file, "JPEG", quality=85)
    return file.getvalue()


def _sound_range(start_frame: int, num_frames: int, is_last: bool, fps: int) -> tuple[Fraction, Fraction]:
    """Return start and stop, in seconds, of the packets of these frames; the clip's ends include packets beyond them."""
    start = Fraction(start_frame, fps) if start_frame else Fraction(-PRIMING_SAMPLES, AUDIO_RATE_HZ)
    stop = Fraction(10**9) if is_last else Fraction(start_frame + num_frames, fps)
    return start, stop


def _as_packets(sound: SoundPackets) -> list[av.Packet]:
    packets = []
    for pts, duration, data in sound.packets:
        packet = av.Packet(data)
        packet.pts = packet.dts = pts
        packet.duration, packet.time_base = duration, Fraction(1, AUDIO_RATE_HZ)
        packet.is_keyframe = True
        packets.append(packet)
    return packets


def _container(file: io.BytesIO, options: dict[str, str]) -> OutputContainer:
    return av.open(file, "w", format="mp4", container_options=options)


def _offset_of_moof(data: bytes) -> int:
    """Byte offset of the first fragment, which follows `ftyp` and `moov`."""
    offset = 0
    while data[offset + 4 : offset + 8] != b"moof":
        size = int.from_bytes(data[offset : offset + 4])
        assert 8 <= size <= len(data) - offset, "the muxer has written a fragment"
        offset += size
    return offset
