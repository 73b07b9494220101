"""The MP4 that comes out: in sync to the millisecond, true in colour, whole or not there at all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from emotivetalk.errors import InputError, OutputError
from emotivetalk.files import check_writable
from emotivetalk.media.audio import load_speech
from emotivetalk.media.mux import VideoWriter, count_frames
from emotivetalk.media.video import read_frames

GREY = np.full((5, 32, 48, 3), 100, np.uint8)


def write_all(path: Path, waveform: np.ndarray, side: int = 32) -> int:
    num_frames = count_frames(len(waveform))
    with VideoWriter(path, side, side, waveform=waveform, threads=1) as writer:
        for start in range(0, num_frames, 7):
            writer.write(np.full((min(7, num_frames - start), side, side, 3), 90, np.uint8))
    return num_frames


def durations_s(path: Path) -> tuple[float, float, int]:
    """Return the durations of picture and sound, and the number of frames."""
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        lengths = [float(stream.duration * stream.time_base) for stream in (video, audio)]
        return lengths[0], lengths[1], sum(1 for _ in container.decode(video))


@pytest.mark.parametrize("duration_s", [0.3, 1.0, 3.217, 12.0])
def test_sound_comes_back_in_place(tmp_path: Path, duration_s: float, speechlike: Callable, lag_ms: Callable) -> None:
    waveform = speechlike(duration_s)
    path = tmp_path / "out.mp4"
    num_frames = write_all(path, waveform)
    found = load_speech(path).waveform
    assert abs(lag_ms(waveform, found)) < 5
    assert abs(len(found) - len(waveform)) / 16_000 < 1024 / 48_000 + 1e-3
    shared = min(len(found), len(waveform))
    assert np.corrcoef(found[:shared], waveform[:shared])[0, 1] > 0.97
    picture_s, sound_s, found_frames = durations_s(path)
    assert found_frames == num_frames == int(np.ceil(round(duration_s * 16_000) / 640))
    assert picture_s == pytest.approx(num_frames / 25, abs=1e-3)
    assert abs(sound_s - duration_s) < 1024 / 48_000 + 1e-3


def test_flash_and_click_coincide(tmp_path: Path) -> None:
    """A white frame and a click at the same moments stay together through the whole file."""
    seconds = [0, 1, 3, 5]
    waveform = np.zeros(6 * 16_000, np.float32)
    frames = np.zeros((150, 32, 32, 3), np.uint8)
    for second in seconds:
        waveform[second * 16_000 : second * 16_000 + 640] = 0.8 * np.sin(np.arange(640) * 0.7)
        frames[second * 25] = 255
    path = tmp_path / "out.mp4"
    with VideoWriter(path, 32, 32, waveform=waveform, threads=1) as writer:
        writer.write(frames)
    bright = np.flatnonzero(read_frames(path).mean(axis=(1, 2, 3)) > 128)
    sound = np.abs(load_speech(path).waveform)
    loud = [int(np.argmax(sound[max(0, second * 16_000 - 4_000) :] > 0.3)) for second in seconds]
    assert bright.tolist() == [second * 25 for second in seconds]
    for second, found in zip(seconds, loud, strict=True):
        assert abs(found - min(second * 16_000, 4_000)) < 80, "5 ms"


def test_sound_lies_between_the_pictures(tmp_path: Path, speechlike: Callable) -> None:
    path = tmp_path / "out.mp4"
    write_all(path, speechlike(8.0))
    with av.open(str(path)) as container:
        latest = {"audio": 0.0, "video": 0.0}
        for packet in container.demux():
            if packet.pts is not None:
                latest[packet.stream.type] = float(packet.pts * packet.time_base)
                assert abs(latest["audio"] - latest["video"]) < 2.1


@pytest.mark.parametrize("size", [(48, 32), (33, 47), (17, 18)])
def test_colours_and_size(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    colours = np.array([[200, 40, 40], [40, 180, 60], [50, 60, 200], [128, 128, 128]], np.uint8)
    frames = np.broadcast_to(colours[:, None, None], (4, height, width, 3))
    path = tmp_path / "out.mp4"
    with VideoWriter(path, width, height, threads=1) as writer:
        writer.write(frames)
    found = read_frames(path)
    assert found.shape == (4, height + height % 2, width + width % 2, 3)
    assert np.abs(found.astype(int) - colours[:, None, None].astype(int)).max() <= 6
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)
        assert not container.streams.audio


def test_index_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path, 48, 32, threads=1) as writer:
        writer.write(GREY)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_nothing_is_left_after_an_exception(tmp_path: Path, speechlike: Callable) -> None:
    path = tmp_path / "out.mp4"
    with pytest.raises(FileNotFoundError, match="mine"), VideoWriter(path, 48, 32, waveform=speechlike(1)) as writer:
        writer.write(GREY)
        raise FileNotFoundError("mine")
    assert list(tmp_path.iterdir()) == []


def test_the_old_file_stays_until_the_new_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, 48, 32) as writer:
        writer.write(GREY)
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    with VideoWriter(path, 48, 32, threads=1) as writer:
        writer.write(GREY)
        assert path.read_text() == "old"
    assert len(read_frames(path)) == 5
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def test_wrong_frames_are_refused(tmp_path: Path) -> None:
    for frames in (GREY[:, :-1], GREY.astype(np.float32), GREY[0]):
        with (
            pytest.raises(ValueError, match=r"takes uint8 \[n, 32, 48, 3\]"),
            VideoWriter(tmp_path / "out.mp4", 48, 32) as writer,
        ):
            writer.write(frames)
    with pytest.raises(ValueError, match="no frames"), VideoWriter(tmp_path / "out.mp4", 48, 32):
        pass
    assert list(tmp_path.iterdir()) == []


def test_unwritable_places_are_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    cases = {
        "no/such/out.mp4": "output_folder_missing",
        "file/out.mp4": "output_folder_missing",
        "folder.mp4": "output_is_folder",
        "pipe.mp4": "output_not_regular",
        "out.avi": "output_format",
    }
    for name, code in cases.items():
        with pytest.raises(InputError) as caught:
            VideoWriter(tmp_path / name, 48, 32)
        assert caught.value.code == code
        assert repr(str(tmp_path / name)) in caught.value.message and caught.value.remedy
    full = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(InputError, match="1 MB free; 32 MB are needed") as caught:
        check_writable(tmp_path / "out.mp4")
    assert caught.value.code == "output_no_space"


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError, match="Permission denied") as caught:
        check_writable(tmp_path / "out.mp4")
    assert caught.value.code == "output_unwritable"


def test_the_disk_fills_up_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError) as caught, VideoWriter(tmp_path / "out.mp4", 48, 32) as writer:
        writer.write(GREY)
        monkeypatch.setattr(os, "fsync", full)
    assert caught.value.code == "output_no_space"
    assert list(tmp_path.iterdir()) == []


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
