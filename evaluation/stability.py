"""Long video: do lips stay in time, does the picture drift, and can borders of chunks and segments be seen (ours)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from emotivetalk.evaluation import metrics
from emotivetalk.evaluation.figures import Drift, Figure, Seam
from emotivetalk.evaluation.measurements import CaseRunner, Part, to_pixels
from emotivetalk.evaluation.metrics import Estimate
from emotivetalk.evaluation.reader import Reading, mouth_opening, read_frames
from emotivetalk.evaluation.test_cases import TestCase, true_frames
from emotivetalk.models.encoders import MOTION_SIZE
from emotivetalk.models.long_video_plan import LongVideoConfig, LongVideoPlan
from emotivetalk.timebase import FRAME_RATE_HZ

_SIZE = 64  # frames are averaged down to it; drift and seams are no fine detail
_QUARTERS = 4
_PIECE_FRAMES = 75  # of 3 s: what the intervals of one clip's figures are drawn from
_NEAR_BORDER = 6

Small = Float[Tensor, "frames 3 64 64"]
Steps = Float[np.ndarray, " steps"]


@dataclass(frozen=True, eq=False)
class LongClip:
    """A scene as it was made and as it truly is: the frames, averaged down, and what the reader sees in both."""

    case: TestCase
    frames: Small
    true_frames: Small
    reading: Reading
    truth: Reading
    inside: Steps
    """The change into the first frame of each segment but the first, where the clip is made in one segment."""


@dataclass(frozen=True, eq=False)
class LongFindings:
    """What long clips show."""

    figures: tuple[Figure, ...]
    drift: Drift
    seams: tuple[Seam, ...]


def long_findings(
    runner: CaseRunner, cases: Sequence[TestCase], somebody_else: Float[Tensor, "3 size size"]
) -> LongFindings:
    """Mouth r in each quarter and its fall, drift, and seams, over clips of equal length.

    Args:
        somebody_else: a portrait of nobody in the scenes, RGB in -1..1: what drift would be if the picture became theirs.

    Raises:
        ValueError: the scenes are shorter than two seconds.
    """
    segments, chunks = borders(runner.pipeline.long_video, cases[0].num_frames, runner.num_steps)
    clips = [_shot(runner, case, segments, k) for k, case in enumerate(cases)]
    other = F.adaptive_avg_pool2d((somebody_else + 1) / 2, _SIZE)
    drift, drift_figure = _drift(clips, other)
    seams = [seam_of(name, clips, at) for name, at in (("segments", segments), ("chunks", chunks)) if at]
    figures = [*_quarters(clips), drift_figure, *(figure for figure, _ in seams)]
    if segments:
        figures.append(unbroken_figure(clips, segments))
    return LongFindings(tuple(figures), drift, tuple(seam for _, seam in seams))


def borders(config: LongVideoConfig, num_frames: int, num_steps: int) -> tuple[list[int], list[int]]:
    """Frames at which segments begin, and those at which chunks of the last step do inside segments."""
    segments, chunks = [], []
    for segment in LongVideoPlan(config, num_frames, num_steps).segments():
        first = segment.result.frames.start
        segments += [first] if first else []
        starts = {source.frames.start for source in segment.result.sources}
        chunks += sorted(start for start in starts if start > first)
    return segments, chunks


def seam_of(name: str, clips: Sequence[LongClip], at: Sequence[int]) -> tuple[Figure, Seam]:
    """The change at borders over the change elsewhere in the same clip, and its course round the borders.

    The value is the median over the borders of all clips. Ceiling: the renderer's frames at the same places, which says
    what chance makes of so many borders. Floor: as if another moment of the clip, half its length away, followed at
    each border. Intervals are over borders.

    Raises:
        ValueError: no border lies inside the clips, or nothing else does.
    """
    made = [metrics.frame_changes(clip.frames) for clip in clips]
    true = [metrics.frame_changes(clip.true_frames) for clip in clips]
    cut = [_cut(clip.frames, changes, at) for clip, changes in zip(clips, made, strict=True)]

    def ratio(measurements: Sequence[np.ndarray]) -> Estimate:
        shares = np.concatenate([metrics.border_ratios(changes, at) for changes in measurements])
        return metrics.bootstrap(lambda index: float(np.median(shares[index])), len(shares))

    figure = Figure(
        f"long.seam_{name}",
        f"long clips, change at borders of {name} over change elsewhere",
        ratio(made),
        ratio(true),
        ratio(cut),
    )
    offsets = tuple(range(-_NEAR_BORDER, _NEAR_BORDER + 1))
    return figure, Seam(f"borders of {name} ({len(clips) * len(at)})", offsets, _course(made, at), _course(true, at))


def unbroken_figure(clips: Sequence[LongClip], at: Sequence[int]) -> Figure:
    """The change at borders of segments over the change into the same frames where the clip is made in one segment.

    More moves at some moments than at others, and of so few borders the median still tells of that; here it does not.
    The value is the median over the borders of all clips. Floor: as in `seam_of`. Intervals are over borders.
    """
    steps = [border - 1 for border in at]

    def ratio(made: Callable[[LongClip], Steps]) -> Estimate:
        shares = np.concatenate([made(clip)[steps] / np.maximum(clip.inside, 1e-9) for clip in clips])
        return metrics.bootstrap(lambda index: float(np.median(shares[index])), len(shares))

    return Figure(
        "long.seam_unbroken",
        "long clips, change at borders of segments over the same frames' inside one segment",
        ratio(lambda clip: metrics.frame_changes(clip.frames)),
        floor=ratio(lambda clip: _cut(clip.frames, metrics.frame_changes(clip.frames), at)),
    )


def _cut(frames: Small, changes: Steps, at: Sequence[int]) -> Steps:
    cut = changes.copy()
    for border in at:
        elsewhere = frames[(border + len(frames) // 2) % len(frames)]
        cut[border - 1] = float((elsewhere - frames[border - 1]).abs().mean())
    return cut


def _course(measurements: Sequence[Steps], at: Sequence[int]) -> tuple[float, ...]:
    """The median change at each offset from a border, over the median of all in the same clip."""
    shares = [changes / max(float(np.median(changes)), 1e-9) for changes in measurements]
    course = []
    for offset in range(-_NEAR_BORDER, _NEAR_BORDER + 1):
        places = [border - 1 + offset for border in at if 0 <= border - 1 + offset < len(shares[0])]
        course.append(float(np.median([share[places] for share in shares])) if places else float("nan"))
    return tuple(course)


def _shot(runner: CaseRunner, case: TestCase, segments: Sequence[int], number: int) -> LongClip:
    made: list[Tensor] = []
    true: list[Tensor] = []
    reading = read_frames(runner.reader, _watched(runner.play(case, number), made))
    drawn = (to_pixels(images) for images in true_frames(case, MOTION_SIZE))
    truth = read_frames(runner.reader, _watched(drawn, true))
    pairs = runner.excerpts(case, [range(border - 1, border + 1) for border in segments], number)
    inside = [metrics.frame_changes(_averaged(pair)) for pair in pairs] if segments else []
    steps = np.concatenate(inside) if inside else np.empty(0)
    return LongClip(case, torch.cat(made), torch.cat(true), reading, truth, steps)


def _drift(clips: Sequence[LongClip], other: Float[Tensor, "3 64 64"]) -> tuple[Drift, Figure]:
    """The mask of still parts is each video's own. Floor: somebody else's picture against the first second's."""
    stills = [metrics.still_mask(clip.frames) for clip in clips]
    made = np.stack([metrics.drift(clip.frames, still) for clip, still in zip(clips, stills, strict=True)])
    true = np.stack([metrics.drift(clip.true_frames, metrics.still_mask(clip.true_frames)) for clip in clips])
    firsts = [clip.frames[:FRAME_RATE_HZ].mean(0, keepdim=True) for clip in clips]
    floor = [
        float(metrics.psnr(other[None], first, still[None])[0]) for first, still in zip(firsts, stills, strict=True)
    ]
    figure = Figure(
        "long.drift",
        "long clips, still parts of the last second as of the first",
        metrics.mean_estimate(made[:, -1].tolist()),
        metrics.mean_estimate(true[:, -1].tolist()),
        metrics.mean_estimate(floor),
        unit="dB",
    )
    return Drift(made.mean(0), true.mean(0)), figure


def _quarters(clips: Sequence[LongClip]) -> list[Figure]:
    """Mouth r of each quarter, and how much less it is in the last than in the first.

    Correlations and intervals are of pieces of 3 s. Floor: each quarter's lips against the next one's speech.
    """
    length = clips[0].case.num_frames // _QUARTERS
    made = _pieces([clip.reading.opening for clip in clips], length)
    seen = _pieces([clip.truth.opening for clip in clips], length)
    spoken = _pieces([mouth_opening(clip.case.lip) for clip in clips], length)
    others = [*spoken[1:], spoken[0]]
    figures = [
        Figure(
            f"long.mouth_r.{i + 1}",
            f"long clips, mouth opening in quarter {i + 1}: r",
            metrics.correlation(made[i], spoken[i]),
            metrics.correlation(seen[i], spoken[i]),
            metrics.correlation(made[i], others[i]),
        )
        for i in range(_QUARTERS)
    ]

    def fall(tracks: Sequence[list[np.ndarray]], last: list[np.ndarray]) -> Estimate:
        def of(index: np.ndarray) -> float:
            first = metrics.pooled_r([tracks[0][i] for i in index], [spoken[0][i] for i in index])
            return first - metrics.pooled_r([tracks[-1][i] for i in index], [last[i] for i in index])

        return metrics.bootstrap(of, len(spoken[0]))

    figures.append(
        Figure(
            "long.mouth_fall",
            "long clips, mouth opening: r of the first quarter less that of the last",
            fall(made, spoken[-1]),
            fall(seen, spoken[-1]),
            fall(made, others[-1]),
        )
    )
    return figures


def _pieces(tracks: Sequence[Tensor], length: int) -> list[list[np.ndarray]]:
    """Of each quarter, the pieces of all clips, of equal length, 3 s if it has as much."""
    num = max(1, length // _PIECE_FRAMES)
    size = length // num
    return [
        [track[q * length + i * size : q * length + (i + 1) * size].numpy() for track in tracks for i in range(num)]
        for q in range(_QUARTERS)
    ]


def _watched(parts: Iterator[Part], small: list[Tensor]) -> Iterator[Part]:
    for part in parts:
        small.append(_averaged(part))
        yield part


def _averaged(part: Part) -> Small:
    return F.adaptive_avg_pool2d(part.permute(0, 3, 1, 2).float() / 255, _SIZE)
