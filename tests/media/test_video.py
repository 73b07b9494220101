"""Frames at 25 a second from any rate: each is what was on screen at that moment."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from emotivetalk.limits import Limits
from emotivetalk.media.video import read_frames

Write = Callable[..., Path]


def numbers(frames: np.ndarray) -> np.ndarray:
    """Return the number of each frame, from its brightness."""
    return np.rint((frames.mean(axis=(1, 2, 3)) - 40) / 4).astype(int)


@pytest.mark.parametrize("fps", [10, 24, 25, 30, 50])
def test_frame_rate_conversion(tmp_path: Path, fps: int, write_video: Write, numbered_frames: Callable) -> None:
    num = 40
    frames = read_frames(write_video(tmp_path / "a.mp4", numbered_frames(num), fps))
    assert frames.dtype == np.uint8 and frames.shape[1:] == (48, 64, 3)
    assert len(frames) == pytest.approx(num * 25 / fps, abs=1)
    on_screen = (np.arange(len(frames)) + 0.5) / 25 * fps
    assert np.all(np.abs(numbers(frames) + 0.5 - on_screen) <= 1.01)
    assert np.all(np.diff(numbers(frames)) >= 0)


def test_varying_rate_goes_by_time_stamps(tmp_path: Path, write_video: Write, numbered_frames: Callable) -> None:
    ticks = [0, 1, 2, 10, 11, 20]  # at 25 a second: the third picture stands for 8 frames
    frames = read_frames(write_video(tmp_path / "a.mp4", numbered_frames(6), 25, ticks=ticks))
    assert numbers(frames).tolist() == [0, 1] + [2] * 8 + [3] + [4] * 9 + [5]


def test_reads_only_the_beginning(tmp_path: Path, write_video: Write, numbered_frames: Callable) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(50))
    frames = read_frames(path, max_s=0.4, limits=Limits(video_s=1.0))
    assert numbers(frames).tolist() == list(range(10))


def test_large_frames_are_scaled_down(tmp_path: Path, write_video: Write, numbered_frames: Callable) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(3, height=100, width=200))
    assert read_frames(path, limits=Limits(video_side=64)).shape == (3, 32, 64, 3)


def test_pixels_become_square(tmp_path: Path, write_video: Write, numbered_frames: Callable) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(3, height=64, width=64), sample_aspect=Fraction(2))
    assert read_frames(path).shape == (3, 64, 128, 3)


def test_slow_rate_repeats(tmp_path: Path, write_video: Write, numbered_frames: Callable) -> None:
    frames = read_frames(write_video(tmp_path / "a.mp4", numbered_frames(2), 1))
    assert numbers(frames).tolist() == [0] * 25 + [1] * 25
