"""What input is accepted: bounds on pixels, seconds, bytes and streams, checked before anything is decoded."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds on the user's files. Names end with their unit; a picture's sides and a face's width are in pixels."""

    image_pixels: int = 50_000_000
    image_min_side: int = 64
    image_bytes: int = 200_000_000
    face_min_width: int = 48
    audio_s: float = 7200.0
    audio_min_s: float = 0.1
    video_s: float = 60.0
    video_pixels: int = 40_000_000
    video_side: int = 512  # decoded frames are scaled down to it: a minute of them stays near 1 GB
    media_bytes: int = 16_000_000_000
    streams: int = 32

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"limits.{name} is {value}; it must be positive")


def say_duration(seconds: float) -> str:
    """A duration in the unit a person would use: "0.05 s", "90 s", "12.5 min", "3.2 h"."""
    if seconds < 120:
        return f"{float(f'{seconds:.2g}') if seconds < 10 else round(seconds):g} s"
    if seconds < 7200:
        return f"{round(seconds / 60, 1):g} min"
    return f"{round(seconds / 3600, 1):g} h"
