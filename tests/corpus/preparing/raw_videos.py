"""Synthetic raw videos with known results: avatars in rooms, in many formats, with cuts, offsets and defects."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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

NUM_FRAMES = 66  # at 25 a second; a clip of 64 frames fits at every frame rate
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
class RawVideoSpec:
    """A raw video to write, and the expected result of its preparation.

    Attributes:
        kind: a key of OUTCOMES.
        people: identity seeds of the people in it.
        late: frames at 25 a second by which the sound is late.
        expected: "kept", or the reason of its clips or of the file.
        num_clips: number of clips that should be kept.
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


def plan(num: int, people: Sequence[int] | None = None) -> list[RawVideoSpec]:
    """List raw videos with alternating kinds, frame rates, sizes and codecs, named by number and kind."""
    people = people or range(FIRST_HELD_OUT_IDENTITY, FIRST_HELD_OUT_IDENTITY + 12)
    codecs = list(CODECS)
    raws = []
    for number in range(num):
        kind = KINDS[number % len(KINDS)]
        shown_people = tuple(
            people[(number + offset) % len(people)] for offset in range(2 if kind in ("cut", "two_faces") else 1)
        )
        late = {"late": (number * 5) % 17 - 8 or 4, "too_late": 13 if number % 2 else -13}.get(kind, 0)
        expected, num_clips = OUTCOMES[kind]
        codec = codecs[number % len(codecs)]
        rate, size = RATES[(number + number // 7) % len(RATES)], SIZES[(number * 2 + number // 5) % len(SIZES)]
        size = SMALL_SIZES[number % 2] if kind == "small" else size  # in larger pictures the face would not be detected
        raws.append(
            RawVideoSpec(f"{number:03d}_{kind}", kind, shown_people, codec, rate, size, late, expected, num_clips)
        )
    return raws


@lru_cache(maxsize=12)
def rendered_person(person: int) -> tuple[Clip, np.ndarray]:
    """Synthesize a clip of a person and its frames: uint8, frames 256 256 3."""
    clip = synthesize_clip(person, "held_out", person, person % 8, 1.0, NUM_FRAMES)
    images = draw_clip(clip, size=256).images
    return clip, (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def room(size: tuple[int, int], number: int) -> np.ndarray:
    """Make a blurred background that depends on the number."""
    rough = np.random.default_rng(number).integers(30, 220, (5, 7, 3)).astype(np.uint8)
    return cv2.resize(rough, size, interpolation=cv2.INTER_CUBIC)


def compose_video(raw: RawVideoSpec, number: int) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Compose the shots of a raw video at 25 frames a second, and its sound at 16 kHz."""
    face_videos, sounds = [], []
    width, height = raw.size
    for person in raw.people:
        clip, faces = rendered_person(person)
        face_videos.append(faces)
        sounds.append(clip.waveform)
    if raw.kind == "short":
        face_videos, sounds = [face_videos[0][:40]], [sounds[0][: 40 * SAMPLES_PER_FRAME]]
    side = 92 if raw.kind == "small" else min(300, height - 20, width - 20)
    if raw.kind == "two_faces":
        side = min((width - 20) // 2, height - 20, 300)
    shots = []
    if raw.kind == "two_faces":
        places = [(10, (height - side) // 2), (width - side - 10, (height - side) // 2)]
        shots.append(_compose(room(raw.size, number), list(zip(face_videos, places)), side))
        sounds = sounds[:1]
    else:
        for index, faces in enumerate(face_videos):
            left = (width - side) * (index + 1) // (len(face_videos) + 1)
            layers = [] if raw.kind == "no_face" else [(faces, (left, (height - side) // 2))]
            shots.append(_compose(room(raw.size, 7 * number + index), layers, side, len(faces)))
    if raw.kind == "blurred":
        shots = [np.stack([cv2.GaussianBlur(frame, (0, 0), 5) for frame in shot]) for shot in shots]
    sound = np.concatenate(sounds)
    if raw.late:
        sound = np.roll(np.pad(sound, 20 * SAMPLES_PER_FRAME), raw.late * SAMPLES_PER_FRAME)
        sound = sound[20 * SAMPLES_PER_FRAME : -20 * SAMPLES_PER_FRAME]
    if raw.kind == "silent":
        sound = np.zeros_like(sound)
    if raw.kind == "noise":
        sound = (0.1 * np.random.default_rng(number).standard_normal(len(sound))).astype(np.float32)
    return shots, None if raw.kind == "no_sound" else sound


def _compose(
    background: np.ndarray, layers: list[tuple[np.ndarray, tuple[int, int]]], side: int, num: int = NUM_FRAMES
) -> np.ndarray:
    frames = np.repeat(background[None], num, axis=0)
    for faces, (left, top) in layers:
        for frame, face in zip(frames, faces):
            frame[top : top + side, left : left + side] = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    return frames


def write_raw(raw: RawVideoSpec, number: int, folder: Path) -> Path:
    """Compose a raw video and write it into its codec's container."""
    suffix, options = CODECS[raw.codec]
    path = folder / f"{raw.name}{suffix}"
    if raw.kind == "fake":
        path = folder / f"{raw.name}.mp4"
        path.write_bytes(np.random.default_rng(number).bytes(20_000))
        return path
    shots, sound = compose_video(raw, number)
    write_video(path, np.concatenate(shots), raw.rate, sound, raw.codec, options)
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
    """Write frames of 25 a second at another rate; picture i of the file is the frame at (i + 1/2) / rate seconds."""
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
        index = min(int((number + Fraction(1, 2)) / rate * 25), len(frames) - 1)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frames[index]), format="rgb24")
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


def write_all(num: int, folder: Path) -> list[RawVideoSpec]:
    """Write `num` raw videos, except those that exist. Each depends on its number alone."""
    folder.mkdir(parents=True, exist_ok=True)
    raws = plan(num)
    for number, raw in enumerate(raws):
        if not any(folder.glob(f"{raw.name}.*")):
            temporary = folder / ".unfinished"
            temporary.mkdir(exist_ok=True)
            path = write_raw(raw, number, temporary)
            os.replace(path, folder / path.name)
    return raws


def named(raws: Sequence[RawVideoSpec]) -> dict[str, RawVideoSpec]:
    """Index raw videos by name."""
    return {raw.name: raw for raw in raws}
