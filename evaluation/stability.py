"""Figures of long video: lip synchrony over time, drift, and seams at borders of chunks and segments (ours)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from emotivetalk.evaluation import metrics
from emotivetalk.evaluation.cases import EvaluationCase, true_frames
from emotivetalk.evaluation.figures import Drift, Figure, Seam
from emotivetalk.evaluation.measurements import CaseRunner, FrameBatch, to_pixels
from emotivetalk.evaluation.metrics import Estimate
from emotivetalk.evaluation.observed_faces import outline_figure
from emotivetalk.evaluation.reader import Reading, mouth_opening, read_frames
from emotivetalk.media.face_observer import FaceObservation, FaceObserver
from emotivetalk.models.encoders import MOTION_SIZE
from emotivetalk.models.long_video_plan import LongVideoConfig, LongVideoPlan
from emotivetalk.timebase import FRAME_RATE_HZ

_SIZE = 64  # pixels; frames are downsampled, as drift and seams are not fine detail
_NUM_QUARTERS = 4
_PIECE_FRAMES = 75  # 3 s; the bootstrap resamples pieces of this length
_MAX_OFFSET = 6
_END_FRAMES, _END_STRIDE = 50, 3  # frames at each end of a clip that give the face's outline

SmallFrames = Float[Tensor, "frames 3 64 64"]
FrameChanges = Float[np.ndarray, " steps"]
FaceEnds = tuple[FaceObservation, FaceObservation]


@dataclass(frozen=True, eq=False)
class LongClip:
    """A long case: downsampled frames and readings, generated and true.

    Attributes:
        unbroken_changes: change into the first frame of each segment except the first, with the clip generated as one
            segment.
        ends, true_ends: faces that the mesh sees in the first and the last seconds; None without a mesh.
    """

    case: EvaluationCase
    frames: SmallFrames
    true_frames: SmallFrames
    reading: Reading
    truth: Reading
    unbroken_changes: FrameChanges
    ends: FaceEnds | None = None
    true_ends: FaceEnds | None = None


@dataclass(frozen=True, eq=False)
class LongFindings:
    """Results on long clips."""

    figures: tuple[Figure, ...]
    drift: Drift
    seams: tuple[Seam, ...]


def measure_long_clips(
    runner: CaseRunner, cases: Sequence[EvaluationCase], other_person: Float[Tensor, "3 size size"]
) -> LongFindings:
    """Measure mouth r in each quarter and its decline, drift, and seams, over cases of equal length.

    Args:
        other_person: portrait of a person in none of the cases, RGB in -1..1; it gives the floor of the drift.

    Raises:
        ValueError: the cases are shorter than two seconds.
    """
    segments, chunks = border_frames(runner.pipeline.long_video, cases[0].num_frames, runner.num_steps)
    clips = [_measure(runner, case, segments, k) for k, case in enumerate(cases)]
    other = F.adaptive_avg_pool2d((other_person + 1) / 2, _SIZE)
    drift, drift_figure = _drift(clips, other)
    seams = [seam_of(name, clips, frames) for name, frames in (("segments", segments), ("chunks", chunks)) if frames]
    figures = [*_quarters(clips), drift_figure, *(figure for figure, _ in seams)]
    if segments:
        figures.append(unbroken_figure(clips, segments))
    ends, true_ends = [c.ends for c in clips if c.ends], [c.true_ends for c in clips if c.true_ends]
    if runner.observer is not None and ends:
        portrait = to_pixels((other_person[None] + 1) / 2).numpy()
        figures.append(outline_figure(ends, true_ends, runner.observer.observe(portrait)))
    return LongFindings(tuple(figures), drift, tuple(seam for _, seam in seams))


def border_frames(config: LongVideoConfig, num_frames: int, num_steps: int) -> tuple[list[int], list[int]]:
    """Return the first frames of segments, and those of chunks inside segments in the last solver step."""
    segments, chunks = [], []
    for segment in LongVideoPlan(config, num_frames, num_steps).segments():
        first = segment.result.frames.start
        segments += [first] if first else []
        starts = {source.frames.start for source in segment.result.sources}
        chunks += sorted(start for start in starts if start > first)
    return segments, chunks


def seam_of(name: str, clips: Sequence[LongClip], borders: Sequence[int]) -> tuple[Figure, Seam]:
    """Compare the change at borders with the change elsewhere in the same clip.

    The value is the median over the borders of all clips; intervals are over borders. Ceiling: the true frames at the
    same positions, which shows the effect of chance. Floor: a cut at each border to a frame half a clip away.

    Raises:
        ValueError: no border lies inside the clips, or every step is at a border.
    """
    generated = [metrics.frame_changes(clip.frames) for clip in clips]
    true = [metrics.frame_changes(clip.true_frames) for clip in clips]
    with_cuts = [_with_cuts(clip.frames, changes, borders) for clip, changes in zip(clips, generated, strict=True)]

    def ratio(clip_changes: Sequence[np.ndarray]) -> Estimate:
        ratios = np.concatenate([metrics.border_ratios(changes, borders) for changes in clip_changes])
        return metrics.bootstrap(lambda index: float(np.median(ratios[index])), len(ratios))

    figure = Figure(
        f"long.seam_{name}",
        f"long clips, change at borders of {name} over change elsewhere",
        ratio(generated),
        ratio(true),
        ratio(with_cuts),
    )
    offsets = tuple(range(-_MAX_OFFSET, _MAX_OFFSET + 1))
    title = f"borders of {name} ({len(clips) * len(borders)})"
    return figure, Seam(title, offsets, _profile(generated, borders), _profile(true, borders))


def unbroken_figure(clips: Sequence[LongClip], borders: Sequence[int]) -> Figure:
    """Compare the change at segment borders with the change into the same frames of a clip made as one segment.

    The amount of motion varies over a clip, which affects a median over few borders; this comparison is free of it. The
    value is the median over the borders of all clips; intervals are over borders. Floor: as in `seam_of`.
    """
    steps = [border - 1 for border in borders]

    def ratio(changes: Callable[[LongClip], FrameChanges]) -> Estimate:
        ratios = np.concatenate([changes(clip)[steps] / np.maximum(clip.unbroken_changes, 1e-9) for clip in clips])
        return metrics.bootstrap(lambda index: float(np.median(ratios[index])), len(ratios))

    return Figure(
        "long.seam_unbroken",
        "long clips, change at borders of segments over the same frames' inside one segment",
        ratio(lambda clip: metrics.frame_changes(clip.frames)),
        floor=ratio(lambda clip: _with_cuts(clip.frames, metrics.frame_changes(clip.frames), borders)),
    )


def _with_cuts(frames: SmallFrames, changes: FrameChanges, borders: Sequence[int]) -> FrameChanges:
    """Replace the change at each border by the change to the frame half a clip away."""
    with_cuts = changes.copy()
    for border in borders:
        distant = frames[(border + len(frames) // 2) % len(frames)]
        with_cuts[border - 1] = float((distant - frames[border - 1]).abs().mean())
    return with_cuts


def _profile(clip_changes: Sequence[FrameChanges], borders: Sequence[int]) -> tuple[float, ...]:
    """Compute the median change at each offset from a border, relative to the median change of the clip."""
    relative = [changes / max(float(np.median(changes)), 1e-9) for changes in clip_changes]
    profile = []
    for offset in range(-_MAX_OFFSET, _MAX_OFFSET + 1):
        steps = [border - 1 + offset for border in borders if 0 <= border - 1 + offset < len(relative[0])]
        profile.append(float(np.median([changes[steps] for changes in relative])) if steps else float("nan"))
    return tuple(profile)


def _measure(runner: CaseRunner, case: EvaluationCase, segments: Sequence[int], number: int) -> LongClip:
    generated: list[Tensor] = []
    true: list[Tensor] = []
    at_ends = _end_frames(case.num_frames) if runner.observer is not None else []
    kept: list[Tensor] = []
    batches = _collect(runner.generate(case, number), at_ends, kept)
    reading = read_frames(runner.reader, _collect_small(batches, generated))
    true_batches = (to_pixels(images) for images in true_frames(case, MOTION_SIZE))
    truth = read_frames(runner.reader, _collect_small(true_batches, true))
    pairs = runner.excerpts(case, [range(border - 1, border + 1) for border in segments], number)
    changes = [metrics.frame_changes(_downsampled(pair)) for pair in pairs] if segments else []
    unbroken_changes = np.concatenate(changes) if changes else np.empty(0)
    ends = true_ends = None
    if runner.observer is not None:
        cut = replace(case, lip=case.lip[at_ends], expression=case.expression[at_ends], pose=case.pose[at_ends])
        true_kept = [to_pixels(images) for images in true_frames(cut, runner.pipeline.image_size)]
        ends, true_ends = (_observe_ends(runner.observer, frames) for frames in (kept, true_kept))
    return LongClip(case, torch.cat(generated), torch.cat(true), reading, truth, unbroken_changes, ends, true_ends)


def _end_frames(num_frames: int) -> list[int]:
    """Return as many frames of the start as of the end of a clip."""
    start = range(0, min(_END_FRAMES, num_frames // 2), _END_STRIDE)
    return [*start, *(num_frames - 1 - frame for frame in reversed(start))]


def _observe_ends(observer: FaceObserver, frames: Sequence[Tensor]) -> FaceEnds:
    observed = observer.observe(torch.cat(list(frames)).numpy())
    half = len(observed.landmarks) // 2
    return observed[:half], observed[half:]


def _drift(clips: Sequence[LongClip], other: Float[Tensor, "3 64 64"]) -> tuple[Drift, Figure]:
    """Measure drift over the still part of each video. Floor: another person's portrait against the first second."""
    masks = [metrics.still_mask(clip.frames) for clip in clips]
    generated = np.stack([metrics.drift(clip.frames, mask) for clip, mask in zip(clips, masks, strict=True)])
    true = np.stack([metrics.drift(clip.true_frames, metrics.still_mask(clip.true_frames)) for clip in clips])
    first_seconds = [clip.frames[:FRAME_RATE_HZ].mean(0, keepdim=True) for clip in clips]
    floor = [
        float(metrics.psnr(other[None], first, mask[None])[0]) for first, mask in zip(first_seconds, masks, strict=True)
    ]
    figure = Figure(
        "long.drift",
        "long clips, still parts of the last second as of the first",
        metrics.mean_estimate(generated[:, -1].tolist()),
        metrics.mean_estimate(true[:, -1].tolist()),
        metrics.mean_estimate(floor),
        unit="dB",
    )
    return Drift(generated.mean(0), true.mean(0)), figure


def _quarters(clips: Sequence[LongClip]) -> list[Figure]:
    """Compute mouth r of each quarter, and its decline from the first to the last.

    Correlations and intervals are over pieces of 3 s. Floor: the speech of the next quarter.
    """
    length = clips[0].case.num_frames // _NUM_QUARTERS
    generated = _pieces([clip.reading.opening for clip in clips], length)
    read_truth = _pieces([clip.truth.opening for clip in clips], length)
    truth = _pieces([mouth_opening(clip.case.lip) for clip in clips], length)
    next_truth = [*truth[1:], truth[0]]
    figures = [
        Figure(
            f"long.mouth_r.{i + 1}",
            f"long clips, mouth opening in quarter {i + 1}: r",
            metrics.correlation(generated[i], truth[i]),
            metrics.correlation(read_truth[i], truth[i]),
            metrics.correlation(generated[i], next_truth[i]),
        )
        for i in range(_NUM_QUARTERS)
    ]

    def decline(quarters: Sequence[list[np.ndarray]], last_truth: list[np.ndarray]) -> Estimate:
        def difference(index: np.ndarray) -> float:
            first = metrics.pooled_r([quarters[0][i] for i in index], [truth[0][i] for i in index])
            return first - metrics.pooled_r([quarters[-1][i] for i in index], [last_truth[i] for i in index])

        return metrics.bootstrap(difference, len(truth[0]))

    figures.append(
        Figure(
            "long.mouth_fall",
            "long clips, mouth opening: r of the first quarter less that of the last",
            decline(generated, truth[-1]),
            decline(read_truth, truth[-1]),
            decline(generated, next_truth[-1]),
        )
    )
    return figures


def _pieces(tracks: Sequence[Tensor], length: int) -> list[list[np.ndarray]]:
    """Split each quarter of all clips into pieces of equal length, about 3 s."""
    num = max(1, length // _PIECE_FRAMES)
    size = length // num
    return [
        [track[q * length + i * size : q * length + (i + 1) * size].numpy() for track in tracks for i in range(num)]
        for q in range(_NUM_QUARTERS)
    ]


def _collect(batches: Iterator[FrameBatch], indices: Sequence[int], kept: list[Tensor]) -> Iterator[FrameBatch]:
    """Pass batches of frames on, and append the frames with these indices to a list."""
    start, wanted = 0, set(indices)
    for batch in batches:
        kept += [batch[k : k + 1] for k in range(len(batch)) if start + k in wanted]
        start += len(batch)
        yield batch


def _collect_small(batches: Iterator[FrameBatch], small: list[Tensor]) -> Iterator[FrameBatch]:
    """Pass batches of frames on, and append their downsampled frames to a list."""
    for batch in batches:
        small.append(_downsampled(batch))
        yield batch


def _downsampled(batch: FrameBatch) -> SmallFrames:
    return F.adaptive_avg_pool2d(batch.permute(0, 3, 1, 2).float() / 255, _SIZE)
