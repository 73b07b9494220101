"""Long video: do lips stay in time, does the picture drift, and can borders of chunks and segments be seen (ours)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from evaluation import metrics
from evaluation.figures import Drift, Figure, Seam
from evaluation.metrics import FRAMES_PER_S, Estimate
from evaluation.reader import Reading, mouth_opening, read_frames
from evaluation.scenes import Scene, truth_images
from evaluation.takes import Camera, Part, to_pixels
from models.encoders import MOTION_SIZE
from models.long_video_plan import LongVideoConfig, LongVideoPlan

_SIZE = 64  # frames are averaged down to it; drift and seams are no fine detail
_QUARTERS = 4
_PIECE_FRAMES = 75  # of 3 s: what the intervals of one clip's figures are drawn from
_NEAR_BORDER = 6

Small = Float[Tensor, "frames 3 64 64"]


@dataclass(frozen=True, eq=False)
class LongFindings:
    """What a long clip shows."""

    figures: tuple[Figure, ...]
    drift: Drift
    seams: tuple[Seam, ...]


def long_findings(camera: Camera, scene: Scene, somebody_else: Float[Tensor, "3 size size"]) -> LongFindings:
    """Mouth r in each quarter and its fall, drift, and seams.

    Args:
        somebody_else: another portrait, RGB in -1..1: what drift would be if the picture became theirs.

    Raises:
        ValueError: the scene is shorter than two seconds.
    """
    made: list[Tensor] = []
    true: list[Tensor] = []
    reading = read_frames(camera.reader, _watched(camera.play(scene), made))
    drawn = (to_pixels(images) for images in truth_images(scene, MOTION_SIZE))
    truth = read_frames(camera.reader, _watched(drawn, true))
    frames, right = torch.cat(made), torch.cat(true)
    other = F.adaptive_avg_pool2d((somebody_else + 1) / 2, _SIZE)
    drift, drift_figure = _drift(frames, right, other)
    seams = [
        seam_of(name, frames, right, at)
        for name, at in zip(
            ("segments", "chunks"), borders(camera.pipeline.long_video, scene.num_frames, camera.num_steps), strict=True
        )
        if at
    ]
    figures = (*_quarters(scene, reading, truth), drift_figure, *(figure for figure, _ in seams))
    return LongFindings(figures, drift, tuple(seam for _, seam in seams))


def borders(config: LongVideoConfig, num_frames: int, num_steps: int) -> tuple[list[int], list[int]]:
    """Frames at which segments begin, and those at which chunks of the last step do inside segments."""
    segments, chunks = [], []
    for segment in LongVideoPlan(config, num_frames, num_steps).segments():
        first = segment.result.frames.start
        segments += [first] if first else []
        starts = {source.frames.start for source in segment.result.sources}
        chunks += sorted(start for start in starts if start > first)
    return segments, chunks


def seam_of(name: str, frames: Small, truth: Small, at: Sequence[int]) -> tuple[Figure, Seam]:
    """The change at borders over the change elsewhere, and its course round the borders.

    Ceiling: the renderer's frames at the same places. Floor: as if another moment of the clip, half its length away,
    followed at each border. Intervals are over borders.

    Raises:
        ValueError: no border lies inside the clip, or nothing else does.
    """
    changes, true_changes = metrics.frame_changes(frames), metrics.frame_changes(truth)
    cut = changes.copy()
    inside = [border for border in at if 0 < border < len(frames)]
    for border in inside:
        elsewhere = frames[(border + len(frames) // 2) % len(frames)]
        cut[border - 1] = float((elsewhere - frames[border - 1]).abs().mean())

    def ratio(steps: Float[np.ndarray, " steps"]) -> Estimate:
        whole = metrics.seam_ratio(steps, at)
        elsewhere = np.delete(steps, np.array(inside) - 1)
        quiet = max(float(np.median(elsewhere)), 1e-9)
        at_borders = steps[np.array(inside) - 1]
        spread = metrics.bootstrap(lambda index: float(np.median(at_borders[index]) / quiet), len(inside))
        return Estimate(whole, spread.low, spread.high)

    figure = Figure(
        f"long.seam_{name}",
        f"long clip, change at borders of {name} over change elsewhere",
        ratio(changes),
        ratio(true_changes),
        ratio(cut),
    )
    offsets = tuple(range(-_NEAR_BORDER, _NEAR_BORDER + 1))
    return figure, Seam(
        f"borders of {name} ({len(inside)})", offsets, _course(changes, inside), _course(true_changes, inside)
    )


def _course(changes: Float[np.ndarray, " steps"], at: Sequence[int]) -> tuple[float, ...]:
    """The median change at each offset from a border, over the median of all."""
    quiet = max(float(np.median(changes)), 1e-9)
    course = []
    for offset in range(-_NEAR_BORDER, _NEAR_BORDER + 1):
        places = [border - 1 + offset for border in at if 0 <= border - 1 + offset < len(changes)]
        course.append(float(np.median(changes[places]) / quiet) if places else float("nan"))
    return tuple(course)


def _drift(frames: Small, truth: Small, other: Float[Tensor, "3 64 64"]) -> tuple[Drift, Figure]:
    """The mask of still parts is each video's own. Floor: somebody else's picture against the first second's."""
    still = metrics.still_mask(frames)
    drift = Drift(metrics.drift(frames, still), metrics.drift(truth, metrics.still_mask(truth)))
    first = frames[:FRAMES_PER_S].mean(0, keepdim=True)
    floor = float(metrics.psnr(other[None], first, still[None])[0])
    figure = Figure(
        "long.drift",
        "long clip, still parts of the last second as of the first",
        _exactly(drift.generated_db[-1]),
        _exactly(drift.truth_db[-1]),
        _exactly(floor),
        unit="dB",
    )
    return drift, figure


def _quarters(scene: Scene, reading: Reading, truth: Reading) -> list[Figure]:
    """Mouth r of each quarter, and how much less it is in the last than in the first.

    Correlations and intervals are of pieces of 3 s. Floor: each quarter's lips against the next one's speech.
    """
    length = scene.num_frames // _QUARTERS
    made, seen = _pieces(reading.opening, length), _pieces(truth.opening, length)
    spoken = _pieces(mouth_opening(scene.lip), length)
    others = [*spoken[1:], spoken[0]]
    figures = [
        Figure(
            f"long.mouth_r.{i + 1}",
            f"long clip, mouth opening in quarter {i + 1}: r",
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
            "long clip, mouth opening: r of the first quarter less that of the last",
            fall(made, spoken[-1]),
            fall(seen, spoken[-1]),
            fall(made, others[-1]),
        )
    )
    return figures


def _pieces(track: Tensor, length: int) -> list[list[np.ndarray]]:
    """Of each quarter, its pieces of equal length, 3 s if it has as much."""
    num = max(1, length // _PIECE_FRAMES)
    size = length // num
    return [
        [track[q * length + i * size : q * length + (i + 1) * size].numpy() for i in range(num)]
        for q in range(_QUARTERS)
    ]


def _watched(parts: Iterator[Part], small: list[Tensor]) -> Iterator[Part]:
    for part in parts:
        small.append(F.adaptive_avg_pool2d(part.permute(0, 3, 1, 2).float() / 255, _SIZE))
        yield part


def _exactly(value: float) -> Estimate:
    """Of one clip's last second there is no interval."""
    return Estimate(float(value), float(value), float(value))
