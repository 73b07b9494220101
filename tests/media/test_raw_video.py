"""Footage at 25 frames a second, its cuts, its faces' path, and whether somebody speaks."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotivetalk.errors import InputError
from emotivetalk.media.containers import is_cut_off
from emotivetalk.media.face_detection import FaceBox
from emotivetalk.media.faces import DEFAULT_FRAMING
from emotivetalk.media.image_codec import decode_picture, encode_pictures
from emotivetalk.media.raw_video import PictureReader, index_at_25, probe, read_beside
from emotivetalk.media.shots import cut_scenes, signature
from emotivetalk.media.speech_activity import speech_activity
from emotivetalk.media.tracking import Track, steady_crop

RATES = [Fraction(12), Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(50), Fraction(60000, 1001)]


@given(st.sampled_from(RATES), st.integers(1, 400))
def test_each_moment_shows_the_picture_that_was_on_screen(rate: Fraction, num: int) -> None:
    starts = np.array([float(i / rate) for i in range(num)])
    index = index_at_25(starts, float(num / rate))
    assert len(index) == max(1, round(float(num / rate) * 25)) and (np.diff(index) >= 0).all()
    for frame, picture in enumerate(index):
        exact = (Fraction(2 * frame + 1, 50) + Fraction(1, 10**6)) * rate
        assert picture == min(num - 1, int(exact))


def test_at_25_every_picture_is_shown_once() -> None:
    assert np.array_equal(index_at_25(np.arange(75) / 25, 3.0), np.arange(75))


def test_pictures_of_varying_rate_are_read_by_their_time(write_video, numbered_frames, tmp_path: Path) -> None:
    ticks = [0, 1, 2, 3, 8, 9, 10, 20, 21, 22]
    path = write_video(tmp_path / "v.mp4", numbered_frames(10), ticks=ticks)
    reader = PictureReader(probe(path))
    shown = [round((int(picture[5, 5, 0]) - 40) / 4) for picture in reader.read(range(len(reader)))]
    expected = [max(i for i, tick in enumerate(ticks) if tick <= moment) for moment in range(len(reader))]
    assert shown == expected and len(shown) >= 23


def test_a_cut_file_is_told_from_noise(write_video, numbered_frames, tmp_path: Path) -> None:
    path = write_video(tmp_path / "whole.mp4", numbered_frames(30))
    assert not is_cut_off(path)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(path.read_bytes()[:-200])
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(np.random.default_rng(0).bytes(5000))
    assert is_cut_off(cut) and not is_cut_off(noise)
    for file, code in ((cut, "video_truncated"), (noise, "video_unreadable")):
        with pytest.raises(InputError) as caught:
            probe(file)
        assert caught.value.code == code


def test_sound_that_is_not_there_is_said(write_video, numbered_frames, tmp_path: Path) -> None:
    footage = probe(write_video(tmp_path / "mute.mp4", numbered_frames(10)))
    assert not footage.has_sound
    with pytest.raises(InputError, match="without audio"):
        read_beside(footage, 10)


def test_cuts_are_found_and_motion_is_none() -> None:
    generator = np.random.default_rng(0)
    rooms = [np.kron(generator.integers(0, 255, (4, 4, 3)), np.ones((12, 16, 1))).astype(np.uint8) for _ in range(3)]
    frames = []
    for number, room in enumerate(rooms):
        for frame in range(20 + number):
            picture = np.roll(room, frame // 2, axis=1).astype(int) + generator.integers(-3, 4, room.shape)
            frames.append(np.clip(picture, 0, 255).astype(np.uint8))
    assert cut_scenes(signature(frame) for frame in frames) == [range(20), range(20, 41), range(41, 63)]
    assert cut_scenes([signature(frames[0])]) == [range(1)]


def face(x: float, y: float, width: float = 60.0) -> FaceBox:
    return FaceBox(x, y, width, width)


def test_a_trembling_detector_moves_nothing() -> None:
    generator = np.random.default_rng(0)
    frames = list(range(0, 64, 6))
    boxes = [face(100 + generator.normal(), 80 + generator.normal(), 60 + 3 * generator.normal()) for _ in frames]
    crop = steady_crop(Track(frames, boxes), range(64))
    assert len(set(crop.left)) == len(set(crop.top)) == 1
    assert crop.side == pytest.approx(60 / DEFAULT_FRAMING.width, rel=0.1)


def test_a_walking_face_is_followed_smoothly() -> None:
    frames = list(range(0, 64, 6))
    crop = steady_crop(Track(frames, [face(100 + 2.0 * frame, 80) for frame in frames]), range(64))
    centers = np.array(crop.left) + DEFAULT_FRAMING.center_x * crop.side
    assert np.abs(centers[:58] - (130 + 2.0 * np.arange(58))).max() < 0.08 * crop.side
    assert np.abs(np.diff(centers, 2)).max() <= 1 and len(set(crop.top)) == 1


def test_the_crop_reaches_beyond_the_picture() -> None:
    crop = steady_crop(Track([0], [face(-10, -10)]), range(2))
    assert crop.cut(1, np.full((90, 160, 3), 7, np.uint8), 32).shape == (32, 32, 3)


def test_voice_is_told_from_noise_hum_and_silence(speechlike) -> None:
    rng, time = np.random.default_rng(0), np.arange(16_000 * 3) / 16_000
    pitch = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * time)) / 16_000
    voice = sum(np.sin(k * pitch) / k for k in range(1, 9)) * np.clip(np.sin(9 * time), 0.01, 1) * 0.2
    assert speech_activity(voice.astype(np.float32)).share > 0.4
    for other in (np.zeros(48_000), 0.1 * rng.standard_normal(48_000), 0.2 * np.sin(2 * np.pi * 100 * time)):
        assert speech_activity(other.astype(np.float32)).share < 0.05


def test_stored_pictures_are_nearly_the_pictures() -> None:
    smooth = np.indices((32, 32)).transpose(1, 2, 0).sum(2)[..., None] * np.array([3, 2, 1]) % 200
    picture = smooth.astype(np.uint8)
    (data,) = encode_pictures([picture])
    assert encode_pictures([picture]) == (data,)
    assert np.abs(decode_picture(data).astype(int) - picture).mean() < 3
    with pytest.raises(InputError, match="not a picture"):
        decode_picture(b"nothing")


@pytest.mark.parametrize("num", [30, 61])
def test_files_with_b_frames_are_read_to_the_end(write_video, numbered_frames, tmp_path: Path, num: int) -> None:
    path = write_video(tmp_path / "b.mp4", numbered_frames(50)[np.arange(num) % 50], preset="medium", bf="3")
    footage = probe(path)
    assert footage.has_b_frames
    readings = []
    for _ in range(3):
        reader = PictureReader(footage)
        assert len(reader) == num
        readings.append(np.stack(list(reader.read(range(num)))))
    assert [round((int(picture[5, 5, 0]) - 40) / 4) for picture in readings[0]] == [i % 50 for i in range(num)]
    assert all(np.array_equal(readings[0], other) for other in readings[1:])
    again = list(reader.read([3, 20]))  # backwards
    np.testing.assert_array_equal(again, readings[0][[3, 20]])


def test_what_decord_refuses_is_read_by_pyav(
    write_video, numbered_frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import decord

    def refuse(*args: object, **options: object) -> None:
        raise decord.DECORDError("[12:00:00] video_reader.cc: unable to handle EOF")

    footage = probe(write_video(tmp_path / "v.mp4", numbered_frames(20)))
    expected = np.stack(list(PictureReader(footage).read(range(20))))
    monkeypatch.setattr(decord, "VideoReader", refuse)
    found = np.stack(list(PictureReader(footage).read(range(20))))
    assert np.abs(found.astype(int) - expected).max() <= 2
    footage.path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="unable to handle EOF"):
        PictureReader(footage)
