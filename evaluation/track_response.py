"""Figures of a time-coded track: how soon after the command the emotion is read from the frames (ours)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from emotivetalk.evaluation import metrics
from emotivetalk.evaluation.figures import Figure
from emotivetalk.evaluation.measurements import Measurement
from emotivetalk.models.emotion import EmotionLabel, EmotionTrack, emotion_index
from emotivetalk.timebase import FRAME_RATE_HZ

_SMOOTHED_FRAMES = 5  # 0.2 s: a blink is no change of emotion
_HELD_FRAMES = 10  # 0.4 s, of which half at least must read as commanded


@dataclass(frozen=True)
class Change:
    """A command: from frame `start` on the emotion fades in, half of it is there at `middle`, the next is at `stop`."""

    emotion: int
    start: int
    middle: float
    stop: int


@dataclass(frozen=True)
class Following:
    """Of one change: seconds from the command's middle until it is read, and whether it ever was.

    One that never was counts as late as the time that it had.
    """

    delay_s: float
    arrived: bool


def track_figures(measurements: Sequence[Measurement]) -> list[Figure]:
    """The median delay, and the share of changes that arrive before the next command.

    Ceiling: the renderer's frames, whose expressions fade as commanded. Floor: the next clip's commands.
    """
    asked = [changes(measurement) for measurement in measurements]
    made = [
        [follow(measurement.reading.emotion, one) for one in some]
        for measurement, some in zip(measurements, asked, strict=True)
    ]
    true = [
        [follow(measurement.truth.emotion, one) for one in some]
        for measurement, some in zip(measurements, asked, strict=True)
    ]
    others = [*asked[1:], asked[0]]
    broken = [
        [follow(measurement.reading.emotion, one) for one in some]
        for measurement, some in zip(measurements, others, strict=True)
    ]

    def figure(key: str, title: str, unit: str, statistic: Callable[[list[Following]], float]) -> Figure:
        estimates = [
            metrics.bootstrap(lambda index, of=of: statistic([f for i in index for f in of[i]]), len(of))
            for of in (made, true, broken)
        ]
        return Figure(key, title, *estimates, unit=unit)

    return [
        figure(
            "track.delay",
            "a time-coded track: the emotion is read after the command by (median)",
            "s",
            lambda found: float(np.median([one.delay_s for one in found])),
        ),
        figure(
            "track.arrives",
            "a time-coded track: changes read before the next one",
            "",
            lambda found: float(np.mean([one.arrived for one in found])),
        ),
    ]


def changes(measurement: Measurement) -> list[Change]:
    """The commands of a take's track after the first, which holds from the start.

    Raises:
        ValueError: the take was not played with a track of labels.
    """
    track = measurement.case.emotion
    if not isinstance(track, EmotionTrack):
        raise ValueError(f"the take's emotion is a {type(track).__name__}. Give one that was played with a track.")
    found = []
    for key, after in zip(track.keys[1:], [*track.keys[2:], None], strict=True):
        if not isinstance(key.source, EmotionLabel):
            raise ValueError("a track can be followed by its labels only. Give one of labels.")
        stop = measurement.case.num_frames if after is None else round(after.time_s * FRAME_RATE_HZ)
        start, middle = key.time_s * FRAME_RATE_HZ, (key.time_s + track.fade_s / 2) * FRAME_RATE_HZ
        found.append(Change(emotion_index(key.source.emotion), round(start), middle, stop))
    return found


def follow(logits: Float[Tensor, "frames 8"], change: Change) -> Following:
    """When the emotion that is read, smoothed over 0.2 s, becomes the commanded one and stays for most of 0.4 s."""
    right = _said(logits) == change.emotion
    for frame in range(change.start, change.stop):
        if right[frame] and right[frame : min(frame + _HELD_FRAMES, change.stop)].mean() >= 0.5:
            return Following((frame - change.middle) / FRAME_RATE_HZ, True)
    return Following((change.stop - change.middle) / FRAME_RATE_HZ, False)


def _said(logits: Float[Tensor, "frames 8"]) -> Int[np.ndarray, " frames"]:
    near = _SMOOTHED_FRAMES // 2
    padded = F.pad(logits.float().T[None], (near, near), mode="replicate")
    return F.avg_pool1d(padded, _SMOOTHED_FRAMES, 1)[0].argmax(0).numpy()
