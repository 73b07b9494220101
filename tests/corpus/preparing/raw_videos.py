"""Raw videos whose truth is known: avatars in rooms, filmed oddly, cut, mute, late, broken."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import cv2
import numpy as np

from emotivetalk.corpus.drawing import draw_clip
from emotivetalk.corpus.records import Clip
from emotivetalk.corpus.synthesize import FIRST_HELD_OUT_IDENTITY, synthesize_clip
from emotivetalk.timebase import SAMPLES_PER_FRAME

NUM_FRAMES = 66  # of 25 a second: a clip of 64 fits in, wherever the source's frames end
CODECS = {
    "libx264": (".mp4", {"preset": "ultrafast", "crf": "18"}),
    "mpeg4": (".avi", {"qscale": "3"}),
    "mjpeg": (".mov", {"qscale": "3"}),
    "libvpx": (".webm", {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "4M"}),
    "libvpx-vp9": (".mkv", {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"}),
}
RATES = (Fraction(25), Fraction(12), Fraction(24000, 1001), Fraction(30), Fraction(50), Fraction(60000, 1001))
SMALL_SIZES = ((480, 480), (482, 362))
SIZES = ((640, 360), (480, 480), (360, 640), (854, 480), (482, 362))


@dataclass(frozen=True)
class Raw:
    """What is filmed and how, and what should become of it.

    Attributes:
        kind: plain, cut, two_faces, no_face, small, blurred, no_sound, silent, noise, short, truncated, fake, or late:
            a plain one whose sound is off.
        late: frames of 25 a second by which the sound is late.
        people: whom it shows, an identity's seed each.
        expected: "kept", a reason of its clips, or of the file.
        num_clips: that should be kept.
    """

    name: str
    kind: str
    people: tuple[int, ...]
    codec: str = "libx264"
    rate: Fraction = Fraction(25)
    size: tuple[int, int] = (640, 360)
    late: int = 0
    expected: str = "kept"
    num_clips: int = 1


OUTCOMES = {
    "plain": ("kept", 1),
    "late": ("kept", 1),
    "cut": ("kept", 2),
    "two_faces": ("several_faces", 0),
    "no_face": ("no_face", 0),
    "small": ("face_too_small", 0),
    "blurred": ("blurred", 0),
    "no_sound": ("no_sound", 0),
    "silent": ("no_speech", 0),
    "noise": ("no_speech", 0),
    "short": ("too_short", 0),
    "too_late": ("audio_offset", 0),
    "truncated": ("truncated", 0),
    "fake": ("unreadable", 0),
}
KINDS = (
    *("plain", "late", "cut", "late", "two_faces", "no_sound", "truncated", "fake"),
    *("plain", "late", "silent", "too_late", "small", "late", "short", "no_face"),
    *("plain", "late", "cut", "blurred", "noise", "late", "truncated", "two_faces"),
)


def plan(num: int, people: Sequence[int] | None = None) -> list[Raw]:
    """Raw videos of every kind, rate, size and codec in turn, named by number and kind."""
    people = people or range(FIRST_HELD_OUT_IDENTITY, FIRST_HELD_OUT_IDENTITY + 12)
    codecs = list(CODECS)
    raws = []
    for number in range(num):
        kind = KINDS[number % len(KINDS)]
        who = tuple(
            people[(number + offset) % len(people)] for offset in range(2 if kind in ("cut", "two_faces") else 1)
        )
        late = {"late": (number * 5) % 17 - 8 or 4, "too_late": 13 if number % 2 else -13}.get(kind, 0)
        expected, num_clips = OUTCOMES[kind]
        codec = codecs[number % len(codecs)]
        rate, size = RATES[(number + number // 7) % len(RATES)], SIZES[(number * 2 + number // 5) % len(SIZES)]
        size = SMALL_SIZES[number % 2] if kind == "small" else size  # in larger ones it would not be found at all
        raws.append(Raw(f"{number:03d}_{kind}", kind, who, codec, rate, size, late, expected, num_clips))
    return raws


@lru_cache(maxsize=12)
def performance(person: int) -> tuple[Clip, np.ndarray]:
    """What somebody says, and the pictures of it: uint8, frames 256 256 3."""
    clip = synthesize_clip(person, "held_out", person, person % 8, 1.0, NUM_FRAMES)
    images = draw_clip(clip, size=256).images
    return clip, (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def room(size: tuple[int, int], number: int) -> np.ndarray:
    """A blurred backdrop, another for each number."""
    rough = np.random.default_rng(number).integers(30, 220, (5, 7, 3)).astype(np.uint8)
    return cv2.resize(rough, size, interpolation=cv2.INTER_CUBIC)


def film(raw: Raw, number: int) -> tuple[list[np.ndarray], np.ndarray | None]:
    """The scenes of a raw video, each 25 frames a second of it, and the sound, 16 kHz."""
    shows, sounds = [], []
    width, height = raw.size
    for person in raw.people:
        clip, faces = performance(person)
        shows.append(faces)
        sounds.append(clip.waveform)
    if raw.kind == "short":
        shows, sounds = [shows[0][:40]], [sounds[0][: 40 * SAMPLES_PER_FRAME]]
    side = 92 if raw.kind == "small" else min(300, height - 20, width - 20)
    if raw.kind == "two_faces":
        side = min((width - 20) // 2, height - 20, 300)
    scenes = []
    if raw.kind == "two_faces":
        places = [(10, (height - side) // 2), (width - side - 10, (height - side) // 2)]
        scenes.append(_compose(room(raw.size, number), list(zip(shows, places)), side))
        sounds = sounds[:1]
    else:
        for index, faces in enumerate(shows):
            left = (width - side) * (index + 1) // (len(shows) + 1)
            layers = [] if raw.kind == "no_face" else [(faces, (left, (height - side) // 2))]
            scenes.append(_compose(room(raw.size, 7 * number + index), layers, side, len(faces)))
    if raw.kind == "blurred":
        scenes = [np.stack([cv2.GaussianBlur(frame, (0, 0), 5) for frame in scene]) for scene in scenes]
    sound = np.concatenate(sounds)
    if raw.late:
        sound = np.roll(np.pad(sound, 20 * SAMPLES_PER_FRAME), raw.late * SAMPLES_PER_FRAME)
        sound = sound[20 * SAMPLES_PER_FRAME : -20 * SAMPLES_PER_FRAME]
    if raw.kind == "silent":
        sound = np.zeros_like(sound)
    if raw.kind == "noise":
        sound = (0.1 * np.random.default_rng(number).standard_normal(len(sound))).astype(np.float32)
    return scenes, None if raw.kind == "no_sound" else sound


def _compose(
    backdrop: np.ndarray, layers: list[tuple[np.ndarray, tuple[int, int]]], side: int, num: int = NUM_FRAMES
) -> np.ndarray:
    frames = np.repeat(backdrop[None], num, axis=0)
    for faces, (left, top) in layers:
        for frame, face in zip(frames, faces):
            frame[top : top + side, left : left + side] = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    return frames


def write_raw(raw: Raw, number: int, folder: Path) -> Path:
    """Film it, and write it as its codec's container has it."""
    suffix, options = CODECS[raw.codec]
    path = folder / f"{raw.name}{suffix}"
    if raw.kind == "fake":
        path = folder / f"{raw.name}.mp4"
        path.write_bytes(np.random.default_rng(number).bytes(20_000))
        return path
    scenes, sound = film(raw, number)
    write_video(path, np.concatenate(scenes), raw.rate, sound, raw.codec, options)
    if raw.kind == "truncated":
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 6 // 10])
    return path


def write_video(
    path: Path,
    frames: np.ndarray,
    rate: Fraction,
    sound: np.ndarray | None,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> None:
    """Frames of 25 a second at another rate: picture i of the file is what is to be seen at (i + 1/2) / rate."""
    duration = Fraction(len(frames), 25)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=dict(options or {}))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = 1 / rate
        audio = None
        if sound is not None:
            name = {".webm": "libopus", ".mkv": "libopus", ".avi": "pcm_s16le", ".mov": "pcm_s16le"}.get(
                path.suffix, "aac"
            )
            audio = container.add_stream(name, rate=48_000, layout="mono")
        packets = list(_pictures(frames, rate, duration, stream))
        if audio is not None:
            packets += list(_sound(sound, audio))
        for packet in sorted(packets, key=lambda packet: float((packet.dts or 0) * packet.time_base)):
            container.mux(packet)


def _pictures(frames: np.ndarray, rate: Fraction, duration: Fraction, stream) -> Iterator[av.Packet]:
    for number in range(int(duration * rate)):
        shown = min(int((number + Fraction(1, 2)) / rate * 25), len(frames) - 1)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frames[shown]), format="rgb24")
        frame.pts, frame.time_base = number, 1 / rate
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _sound(sound: np.ndarray, stream) -> Iterator[av.Packet]:
    frame = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
    resampler = av.AudioResampler(stream.codec_context.format, "mono", 48_000, stream.codec_context.frame_size or 1024)
    for block in [*resampler.resample(frame), *resampler.resample(None)]:
        yield from stream.encode(block)
    yield from stream.encode(None)


def write_all(num: int, folder: Path) -> list[Raw]:
    """`num` raw videos; what is there already stays. They depend on nothing but their number."""
    folder.mkdir(parents=True, exist_ok=True)
    raws = plan(num)
    for number, raw in enumerate(raws):
        if not any(folder.glob(f"{raw.name}.*")):
            temporary = folder / ".unfinished"
            temporary.mkdir(exist_ok=True)
            path = write_raw(raw, number, temporary)
            os.replace(path, folder / path.name)
    return raws


def named(raws: Sequence[Raw]) -> dict[str, Raw]:
    """By name."""
    return {raw.name: replace(raw) for raw in raws}
