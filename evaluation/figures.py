"""What an evaluation gives: figures with their ceilings and floors, curves, tables and pictures (ours)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from pydantic import BaseModel, ConfigDict, Field

from emotivetalk.evaluation.metrics import Estimate, LagCurve, Motion


class Settings(BaseModel):
    """How much is measured; 0 leaves a part out. All numbers of clips are of clips of `clip_frames` frames.

    The default takes about three quarters of an hour of one core, `slice()` a minute.

    motion_clips: by label, further ones: motion is judged by these and by those of label_clips. edi_clips: of the clips
    by label, how many are made again without EDI. track_clips: with `track_keys` emotions each,
    `track_key_frames` apart. driven_clips: from true conditions. latent_clips: whole, for V-AID alone.
    long_clips: of `long_s` seconds each, of one person each. sample_clips: by label, whose videos are written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip_frames: int = Field(default=48, ge=12)
    audio_clips: int = Field(default=24, ge=0)
    foreign_clips: int = Field(default=16, ge=0)
    label_clips: int = Field(default=48, ge=0)
    motion_clips: int = Field(default=48, ge=0)
    edi_clips: int = Field(default=24, ge=0)
    image_clips: int = Field(default=16, ge=0)
    text_clips: int = Field(default=96, ge=0)
    video_clips: int = Field(default=16, ge=0)
    speech_clips: int = Field(default=24, ge=0)
    level_clips: int = Field(default=14, ge=0)
    track_clips: int = Field(default=8, ge=0)
    track_keys: int = Field(default=3, ge=2)
    track_key_frames: int = Field(default=40, ge=12)
    driven_clips: int = Field(default=8, ge=0)
    latent_clips: int = Field(default=64, ge=0)
    still_frames: int = Field(default=64, ge=0)
    long_s: int = Field(default=60, ge=0)
    long_clips: int = Field(default=3, ge=0)
    sample_clips: int = Field(default=8, ge=0)
    num_steps: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)

    @classmethod
    def slice(cls, num_steps: int | None = None, seed: int = 0) -> Settings:
        """A look at every figure but the sources of emotion, for continuous integration."""
        return cls(
            clip_frames=24,
            audio_clips=4,
            foreign_clips=0,
            label_clips=8,
            motion_clips=0,
            edi_clips=8,
            image_clips=0,
            text_clips=0,
            video_clips=0,
            speech_clips=0,
            level_clips=2,
            track_clips=2,
            track_keys=2,
            track_key_frames=25,
            driven_clips=2,
            latent_clips=8,
            still_frames=12,
            long_s=5,
            long_clips=1,
            sample_clips=0,
            num_steps=num_steps,
            seed=seed,
        )


@dataclass(frozen=True)
class Figure:
    """One number of the report.

    Args:
        key: for programs, such as "mouth_r.held_out".
        title: for people.
        value: of the generated video.
        ceiling: of true frames, read by the same reader; None where there is nothing to compare.
        floor: of a broken pairing; None where there is none.
        unit: behind the value, such as "dB".
        at_least, at_most: what must hold, if anything must.
    """

    key: str
    title: str
    value: Estimate
    ceiling: Estimate | None = None
    floor: Estimate | None = None
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_better_higher(self) -> bool | None:
        """Which way is better: as the bounds say, or the ceiling and the floor; None where nothing tells."""
        if (self.at_least is None) != (self.at_most is None):
            return self.at_least is not None
        if self.ceiling is None or self.floor is None or self.ceiling.value == self.floor.value:
            return None
        return self.ceiling.value > self.floor.value

    @property
    def holds(self) -> bool | None:
        """Whether the value is within what must hold; None where nothing must."""
        if self.at_least is None and self.at_most is None:
            return None
        return (self.at_least is None or self.value.value >= self.at_least) and (
            self.at_most is None or self.value.value <= self.at_most
        )


@dataclass(frozen=True)
class Lags:
    """Correlation of mouth opening with the speech's truth, along lags."""

    title: str
    curve: LagCurve
    ceiling: LagCurve


@dataclass(frozen=True, eq=False)
class Confusion:
    """Clips by the emotion that was asked for (rows) and that is read (columns), in the order of EMOTIONS."""

    title: str
    counts: Int[np.ndarray, "8 8"]


@dataclass(frozen=True)
class MotionRow:
    """How one read parameter moves in generated frames and in true ones."""

    name: str
    generated: Motion
    truth: Motion


@dataclass(frozen=True, eq=False)
class Seam:
    """Change from frame to frame round the borders of long clips, over the median change elsewhere.

    Offset 0 is the step into the border's frame. truth: of the renderer's frames at the same places.
    """

    title: str
    offsets: tuple[int, ...]
    generated: tuple[float, ...]
    truth: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Drift:
    """Of each second of the long clips against their first, the mean in dB: of the generated frames and of the renderer's."""

    generated_db: Float[np.ndarray, " seconds"]
    truth_db: Float[np.ndarray, " seconds"]


@dataclass(frozen=True, eq=False)
class Movie:
    """A video for the report's folder: the generated frames beside the renderer's, with the speech."""

    name: str
    frames: UInt8[np.ndarray, "frames height width 3"]
    waveform: Float[np.ndarray, " samples"]


@dataclass(frozen=True, eq=False)
class Picture:
    """A frame for the contact sheet."""

    label: str
    image: UInt8[np.ndarray, "size size 3"]


@dataclass(frozen=True, eq=False)
class Report:
    """An evaluation. drift: None without a long clip. notes: what was left out, and why."""

    settings: Settings
    figures: tuple[Figure, ...]
    lags: tuple[Lags, ...]
    confusions: tuple[Confusion, ...]
    motions: tuple[MotionRow, ...]
    drift: Drift | None
    seams: tuple[Seam, ...]
    pictures: tuple[Picture, ...]
    movies: tuple[Movie, ...]
    notes: tuple[str, ...]
    num_frames: int
    seconds: float

    def figure(self, key: str) -> Figure:
        """One figure. Raises KeyError if it was not measured."""
        found = {figure.key: figure for figure in self.figures}
        return found[key]

    @property
    def failures(self) -> tuple[Figure, ...]:
        """Figures that miss what must hold."""
        return tuple(figure for figure in self.figures if figure.holds is False)
