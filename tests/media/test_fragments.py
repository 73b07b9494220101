"""Fragments: the film in pieces is the film, whichever process made each piece, and whichever are there."""

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from emotivetalk.errors import InputError
from emotivetalk.media.audio import load_speech
from emotivetalk.media.fragments import ClipAudio, GrowingAudio, encode_audio, fragment, init_segment
from emotivetalk.media.mux import count_frames
from emotivetalk.media.provenance import Provenance, read_provenance
from emotivetalk.media.video import read_frames

SIDE = 32
LENGTHS = [7, 1, 1, 13, 2, 60, 5, 11]  # 100 frames, some fragments of one, one longer than a group of pictures
DURATION_S = 3.97  # 100 frames; the last AAC packet is not full
TAGS = Provenance("starter@1", 7).tags()


def make_frames(first: int, num: int, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """Grey frames whose brightness says their number."""
    levels = (20 + 2 * (np.arange(first, first + num) % 100)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (num, height, width, 3)).copy()


@dataclass(frozen=True)
class Film:
    init: bytes
    fragments: list[bytes]
    waveform: np.ndarray
    audio: Path

    @property
    def starts(self) -> list[int]:
        return [0, *accumulate(LENGTHS)][: len(LENGTHS)]

    def until(self, number: int | None = None) -> bytes:
        return self.init + b"".join(self.fragments[:number])


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    """A sine whose pitch rises slowly: any gap, overlap or step in it is heard and measured."""
    time_s = np.arange(round(DURATION_S * 16_000)) / 16_000
    waveform = (0.5 * np.sin(2 * np.pi * (300 + 100 * time_s) * time_s)).astype(np.float32)
    assert count_frames(len(waveform)) == sum(LENGTHS)
    path = tmp_path_factory.mktemp("film") / "speech.m4a"
    encode_audio(waveform, path)
    with ClipAudio(path) as audio:
        return Film(init_segment(SIDE, SIDE, tags=TAGS), make_fragments(audio), waveform, path)


def make_fragments(audio: ClipAudio) -> list[bytes]:
    starts = [0, *accumulate(LENGTHS)]
    return [
        fragment(make_frames(start, num), start, audio, is_last=start + num == sum(LENGTHS), sequence=number)
        for number, (start, num) in enumerate(zip(starts, LENGTHS))
    ]


def decode(data: bytes) -> tuple[list[VideoFrame], list[AudioFrame]]:
    frames: dict[type, list] = {VideoFrame: [], AudioFrame: []}
    with av.open(io.BytesIO(data)) as container:
        for frame in container.decode():
            frames[type(frame)].append(frame)
    return frames[VideoFrame], frames[AudioFrame]


def sound(frames: list[AudioFrame]) -> np.ndarray:
    return np.concatenate([frame.to_ndarray()[0] for frame in frames]) if frames else np.zeros(0, np.float32)


def numbers(frames: list[VideoFrame]) -> list[int]:
    """Return the numbers of the frames, exactly, from their time stamps."""
    times = [frame.pts * frame.time_base * 25 for frame in frames]
    assert all(time.denominator == 1 for time in times)
    return [int(time) for time in times]


def boxes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """All boxes of fragments, at any depth, in order."""
    offset = 0
    while offset < len(data):
        size, name = int.from_bytes(data[offset : offset + 4]), data[offset + 4 : offset + 8].decode()
        body = data[offset + 8 : offset + size]
        yield name, body
        if name in ("moof", "traf"):
            yield from boxes(body)
        offset += size


def test_every_frame_at_its_time(film: Film) -> None:
    pictures, _ = decode(film.until())
    assert numbers(pictures) == list(range(100))
    levels = [frame.to_ndarray(format="gray").mean() for frame in pictures]
    expected = [make_frames(index, 1).mean() for index in range(100)]
    assert np.abs(np.diff(levels) - np.diff(expected) * 219 / 255).max() < 1.5
    assert all(pictures[start].key_frame for start in film.starts)


def test_length_is_exact(film: Film) -> None:
    with av.open(io.BytesIO(film.until())) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.duration * video.time_base == 4
        packets = [packet for packet in container.demux(audio) if packet.pts is not None]
        assert packets[-1].pts + packets[-1].duration == len(film.waveform) * 3


def test_sound_is_that_of_the_single_file(film: Film) -> None:
    """Sample by sample: so nothing is lost, doubled or moved, and there is no click at a border."""
    _, frames = decode(film.until())
    with av.open(str(film.audio)) as container:
        whole = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    np.testing.assert_array_equal(sound(frames), np.concatenate(whole))
    ends = np.array([frame.pts + frame.samples for frame in frames])
    assert frames[0].pts == 0 and (ends[:-1] == [frame.pts for frame in frames[1:]]).all()


def test_sound_is_in_time_and_has_no_clicks(film: Film, tmp_path: Path, lag_ms: Callable) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(film.until())
    found = load_speech(path).waveform
    shared = min(len(found), len(film.waveform))
    assert abs(len(found) - len(film.waveform)) < 1024 / 3
    assert abs(lag_ms(film.waveform, found)) < 1
    assert np.corrcoef(found[:shared], film.waveform[:shared])[0, 1] > 0.999
    error = np.abs(found[:shared] - film.waveform[:shared])[2000:-400]  # without the encoder's settling at the ends
    assert error.max() < 0.03


def test_flash_and_click_coincide(tmp_path: Path) -> None:
    waveform = np.zeros(4 * 16_000, np.float32)
    frames = np.zeros((100, SIDE, SIDE, 3), np.uint8)
    for second in (0, 1, 3):
        waveform[second * 16_000 : second * 16_000 + 640] = 0.8 * np.sin(np.arange(640) * 0.7)
        frames[second * 25] = 255
    encode_audio(waveform, tmp_path / "speech.m4a")
    path = tmp_path / "film.mp4"
    with ClipAudio(tmp_path / "speech.m4a") as audio:
        pieces = [
            fragment(frames[start : start + 19], start, audio, is_last=start == 95, sequence=start // 19)
            for start in range(0, 100, 19)
        ]
    path.write_bytes(init_segment(SIDE, SIDE) + b"".join(pieces))
    assert np.flatnonzero(read_frames(path).mean(axis=(1, 2, 3)) > 128).tolist() == [0, 25, 75]
    loud = np.abs(load_speech(path).waveform)
    for second in (0, 1, 3):
        before = max(0, second * 16_000 - 4_000)
        assert abs(before + int(np.argmax(loud[before:] > 0.3)) - second * 16_000) < 80, "5 ms"


def test_cut_after_any_fragment_it_still_plays(film: Film) -> None:
    _, whole = decode(film.until())
    for number, end in enumerate(accumulate(LENGTHS), 1):
        pictures, frames = decode(film.until(number))
        assert numbers(pictures) == list(range(end))
        got = sound(frames)
        assert len(got) >= min(end * 1920 - 1024, len(film.waveform) * 3)
        np.testing.assert_array_equal(got, sound(whole)[: len(got)])


def test_each_fragment_plays_alone_at_its_time(film: Film) -> None:
    _, frames = decode(film.until())
    whole = sound(frames)
    for start, num, piece in zip(film.starts, LENGTHS, film.fragments):
        pictures, frames = decode(film.init + piece)
        assert numbers(pictures) == list(range(start, start + num))
        # What is decoded first lacks what it overlaps with.
        for frame in frames[1:]:
            np.testing.assert_allclose(frame.to_ndarray()[0], whole[frame.pts : frame.pts + frame.samples], atol=1e-4)
        assert num == 1 or frames[0].pts < start * 1920 + 3 * 1024


def test_places_and_numbers_in_the_boxes(film: Film) -> None:
    ticks = 0
    for number, (start, piece) in enumerate(zip(film.starts, film.fragments)):
        found = list(boxes(piece))
        assert [name for name, _ in found if name in ("moof", "mdat", "mfhd")] == ["moof", "mfhd", "mdat"]
        assert int.from_bytes(dict(found)["mfhd"][4:]) == number + 1
        video, audio = [int.from_bytes(body[4:]) for name, body in found if name == "tfdt"]
        assert Fraction(video, 12_800) == Fraction(start, 25)
        assert audio >= ticks and audio % 1024 == 0, "in the order of decoding"
        ticks = audio + 1


def test_a_last_frame_without_sound(tmp_path: Path) -> None:
    """The last packet of the sound may begin before the last frame does."""
    waveform = (0.3 * np.sin(np.arange(640 * 3 + 100) * 0.3)).astype(np.float32)
    encode_audio(waveform, tmp_path / "speech.m4a")
    with ClipAudio(tmp_path / "speech.m4a") as audio:
        one = fragment(make_frames(0, 3), 0, audio, is_last=False, sequence=0)
        two = fragment(make_frames(3, 1), 3, audio, is_last=True, sequence=1)
    pictures, frames = decode(init_segment(SIDE, SIDE) + one + two)
    assert numbers(pictures) == list(range(4)) and len(sound(frames)) >= 3 * len(waveform)
    assert [name for name, _ in boxes(two)].count("traf") == 1


REMAKE = """
import sys
from pathlib import Path
from emotivetalk.media.fragments import ClipAudio
from tests.media.test_fragments import digests
print(*digests(Path(sys.argv[1])))
"""


def digests(path: Path) -> list[str]:
    with ClipAudio(path) as audio:
        made = [init_segment(SIDE, SIDE, tags=TAGS), *reversed(make_fragments(audio))]
    return [hashlib.sha256(piece).hexdigest() for piece in made]


def test_made_again_in_another_process_byte_for_byte(film: Film) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", REMAKE, film.audio],
        env=environment, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    expected = [hashlib.sha256(piece).hexdigest() for piece in (film.init, *reversed(film.fragments))]
    assert run.stdout.split() == expected


def test_packets_of_any_division_are_all_of_them(film: Film) -> None:
    with av.open(str(film.audio)) as container:
        expected = [(packet.pts, bytes(packet)) for packet in container.demux() if packet.pts is not None]
    borders = np.sort(np.random.default_rng(0).integers(0, 4000, 30)).tolist()
    edges = [Fraction(-1024, 48_000), *(Fraction(border, 1000) for border in borders), Fraction(5)]
    with ClipAudio(film.audio) as audio:
        parts = {pair: audio.packets(*pair) for pair in list(zip(edges, edges[1:]))[::-1]}
    found = [(packet.pts, bytes(packet)) for pair in zip(edges, edges[1:]) for packet in parts[pair]]
    assert found == expected


def test_provenance_is_in_the_init_segment(film: Film, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(film.until(1))
    assert read_provenance(path) == Provenance("starter@1", 7)


def test_threads_and_odd_sides(film: Film) -> None:
    """The init segment's headers fit whatever number of threads made the fragments."""
    frames = make_frames(0, 9, height=33, width=47)
    with ClipAudio(film.audio) as audio:
        piece = fragment(frames, 0, audio, is_last=False, sequence=0, threads=3)
    pictures, _ = decode(init_segment(47, 33) + piece)
    assert numbers(pictures) == list(range(9))
    assert (pictures[0].width, pictures[0].height) == (48, 34)
    assert np.abs(pictures[4].to_ndarray(format="rgb24").astype(int) - frames[4, 0, 0, 0]).max() <= 6


def test_decord_counts_the_same(film: Film) -> None:
    decord = pytest.importorskip("decord")
    assert len(decord.VideoReader(io.BytesIO(film.until()))) == 100


def test_wrong_arguments(film: Film, tmp_path: Path) -> None:
    good = make_frames(0, 3)
    with ClipAudio(film.audio) as audio:
        for bad in (good[:0], good.astype(np.float32), good[0], good[..., :1]):
            with pytest.raises(ValueError, match="takes uint8"):
                fragment(bad, 0, audio, is_last=False, sequence=0)
        with pytest.raises(ValueError, match="neither may be negative"):
            fragment(good, -1, audio, is_last=False, sequence=0)
    with pytest.raises(InputError, match="16 to 8688"):
        init_segment(8, 8)
    (tmp_path / "a.m4a").write_text("hello")
    with pytest.raises(InputError, match="not a media file"):
        ClipAudio(tmp_path / "a.m4a")
    with pytest.raises(InputError, match="does not end with"):
        encode_audio(film.waveform, tmp_path / "a.mp3")


def test_other_sound_is_refused(tmp_path: Path, write_audio: Callable, speechlike: Callable) -> None:
    waveform = speechlike(0.5)
    with pytest.raises(ValueError, match="not sound at 48000 Hz"):
        ClipAudio(write_audio(tmp_path / "a.m4a", waveform, "aac", 16_000, format="mp4"))
    with pytest.raises(ValueError, match="begins at sample 0"):
        ClipAudio(write_audio(tmp_path / "a.m4a", waveform, "alac", 48_000, format="mp4"))


@pytest.mark.parametrize("piece", [40_000, 640, 777])
def test_sound_that_comes_piece_by_piece_is_the_same(film: Film, piece: int) -> None:
    """One encoder runs two frames ahead; each fragment equals, byte for byte, that of sound encoded in one go."""
    audio, pushed = GrowingAudio(), 0
    for number, (start, num) in enumerate(zip(film.starts, LENGTHS)):
        until = min(len(film.waveform), (start + num + 2) * 640)
        while pushed < until:
            stop = min(until, pushed + piece)
            audio.push(film.waveform[pushed:stop])
            pushed = stop
        if pushed == len(film.waveform):
            audio.finish()
        is_last = start + num == sum(LENGTHS)
        sound = audio.take(None if is_last else Fraction(start + num, 25))
        assert (
            fragment(make_frames(start, num), start, sound, is_last=is_last, sequence=number) == film.fragments[number]
        )
