"""Whether a long video stays what it is: lips, drift and seams along a minute (ours)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from evaluation import metrics
from evaluation.figures import Figure
from evaluation.metrics import Estimate
from evaluation.reader import Reading, mouth_opening, read_frames
from evaluation.scenes import Scene
from evaluation.takes import Camera, Part
from models.long_video_plan import LongVideoConfig, LongVideoPlan

DRIFT_DB, SEAM_RATIO = 40.0, 1.25
"""What must hold: no drift that could be seen, and steps across borders that are like all others."""

_SIZE = 64  # frames are averaged down to it; drift and seams are no fine detail
_QUARTERS = 4


def long_figures(camera: Camera, scene: Scene) -> tuple[list[Figure], Float[np.ndarray, " seconds"]]:
    """Mouth r in each quarter, drift, and seams; and the drift of every second against the first.

    Raises:
        ValueError: the scene is shorter than two seconds.
    """
    small: list[Tensor] = []

    def watched() -> Iterator[Part]:
        for part in camera.play(scene):
            small.append(F.adaptive_avg_pool2d(part.permute(0, 3, 1, 2).float() / 255, _SIZE))
            yield part

    reading, truth = read_frames(camera.reader, watched()), camera.read_truth(scene)
    frames = torch.cat(small)
    drift_db = metrics.drift(frames, metrics.still_mask(frames))
    changes = metrics.frame_changes(frames)
    figures = _quarters(scene, reading, truth)
    figures.append(
        Figure(
            "long.drift",
            "long clip, still parts of the last second as of the first",
            _exactly(drift_db[-1]),
            unit="dB",
            at_least=DRIFT_DB,
        )
    )
    segments, chunks = borders(camera.pipeline.long_video, scene.num_frames, camera.num_steps)
    for name, at in (("segments", segments), ("chunks", chunks)):
        if at:
            figures.append(
                Figure(
                    f"long.seam_{name}",
                    f"long clip, change at borders of {name} over change elsewhere",
                    _exactly(metrics.seam_ratio(changes, at)),
                    at_most=SEAM_RATIO,
                )
            )
    return figures, drift_db


def borders(config: LongVideoConfig, num_frames: int, num_steps: int) -> tuple[list[int], list[int]]:
    """Frames at which segments begin, and those at which chunks of the last step do inside segments."""
    segments, chunks = [], []
    for segment in LongVideoPlan(config, num_frames, num_steps).segments():
        first = segment.result.frames.start
        segments += [first] if first else []
        starts = {source.frames.start for source in segment.result.sources}
        chunks += sorted(start for start in starts if start > first)
    return segments, chunks


def _quarters(scene: Scene, reading: Reading, truth: Reading) -> list[Figure]:
    """Floor: each quarter's lips against the next one's speech."""
    length = scene.num_frames // _QUARTERS

    def cut(track: Tensor) -> list[np.ndarray]:
        return [track[i * length : (i + 1) * length].numpy() for i in range(_QUARTERS)]

    made, seen, spoken = cut(reading.opening), cut(truth.opening), cut(mouth_opening(scene.lip))
    return [
        Figure(
            f"long.mouth_r.{i + 1}",
            f"long clip, mouth opening in quarter {i + 1}: r",
            metrics.correlation([made[i]], [spoken[i]]),
            metrics.correlation([seen[i]], [spoken[i]]),
            metrics.correlation([made[i]], [spoken[(i + 1) % _QUARTERS]]),
        )
        for i in range(_QUARTERS)
    ]


def _exactly(value: float) -> Estimate:
    """Of one clip there is no interval."""
    return Estimate(float(value), float(value), float(value))
