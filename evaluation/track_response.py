"""Figures of emotion tracks: the delay between a commanded change and its appearance in the frames (ours)."""

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

_SMOOTHING_FRAMES = 5  # 0.2 s; longer than a blink
_HOLD_FRAMES = 10  # 0.4 s; the emotion must be recognized in at least half of them


@dataclass(frozen=True)
class Command:
    """A commanded change of emotion.

    Attributes:
        emotion: index of the new emotion.
        start: frame at which it starts to fade in.
        middle: frame at which half of it has faded in.
        stop: frame of the next command, or the end of the clip.
    """

    emotion: int
    start: int
    middle: float
    stop: int


@dataclass(frozen=True)
class Response:
    """Reaction to a command.

    Attributes:
        delay_s: seconds from the command's middle until the emotion is recognized, or until the command's end.
        is_reached: True if the emotion was recognized before the next command.
    """

    delay_s: float
    is_reached: bool


def track_figures(measurements: Sequence[Measurement]) -> list[Figure]:
    """Return the median delay, and the share of commands that are reached before the next one.

    Ceiling: the true frames, whose expressions fade as commanded. Floor: the commands of the next clip.
    """
    own_commands = [commands(measurement) for measurement in measurements]
    next_commands = [*own_commands[1:], own_commands[0]]
    generated, truth = [m.reading.emotion for m in measurements], [m.truth.emotion for m in measurements]
    responses = [
        [[response_to(command, logits) for command in clip] for logits, clip in zip(readings, lists, strict=True)]
        for readings, lists in ((generated, own_commands), (truth, own_commands), (generated, next_commands))
    ]

    def figure(key: str, title: str, unit: str, statistic: Callable[[list[Response]], float]) -> Figure:
        estimates = [
            metrics.bootstrap(
                lambda index, by_clip=by_clip: statistic([response for i in index for response in by_clip[i]]),
                len(by_clip),
            )
            for by_clip in responses
        ]
        return Figure(key, title, *estimates, unit=unit)

    return [
        figure(
            "track.delay",
            "a time-coded track: the emotion is read after the command by (median)",
            "s",
            lambda found: float(np.median([response.delay_s for response in found])),
        ),
        figure(
            "track.arrives",
            "a time-coded track: changes read before the next one",
            "",
            lambda found: float(np.mean([response.is_reached for response in found])),
        ),
    ]


def commands(measurement: Measurement) -> list[Command]:
    """List the commands of a case's track except the first, which holds from the start.

    Raises:
        ValueError: the case has no track, or one with other keys than labels.
    """
    track = measurement.case.emotion
    if not isinstance(track, EmotionTrack):
        raise ValueError(f"the emotion source is a {type(track).__name__}. Give a case with an emotion track.")
    found = []
    for key, following in zip(track.keys[1:], [*track.keys[2:], None], strict=True):
        if not isinstance(key.source, EmotionLabel):
            raise ValueError(f"the track has a {type(key.source).__name__} key. Give a track of labels only.")
        stop = measurement.case.num_frames if following is None else round(following.time_s * FRAME_RATE_HZ)
        start, middle = key.time_s * FRAME_RATE_HZ, (key.time_s + track.fade_s / 2) * FRAME_RATE_HZ
        found.append(Command(emotion_index(key.source.emotion), round(start), middle, stop))
    return found


def response_to(command: Command, logits: Float[Tensor, "frames 8"]) -> Response:
    """Find the first frame at which the smoothed emotion is the commanded one and stays for most of 0.4 s."""
    matches = _smoothed_emotion(logits) == command.emotion
    for frame in range(command.start, command.stop):
        if matches[frame] and matches[frame : min(frame + _HOLD_FRAMES, command.stop)].mean() >= 0.5:
            return Response((frame - command.middle) / FRAME_RATE_HZ, True)
    return Response((command.stop - command.middle) / FRAME_RATE_HZ, False)


def _smoothed_emotion(logits: Float[Tensor, "frames 8"]) -> Int[np.ndarray, " frames"]:
    margin = _SMOOTHING_FRAMES // 2
    padded = F.pad(logits.float().T[None], (margin, margin), mode="replicate")
    return F.avg_pool1d(padded, _SMOOTHING_FRAMES, 1)[0].argmax(0).numpy()
