"""Metrics of generated videos compared with real videos (ours).

PSNR and SSIM need no network. The others need weights that the user supplies; the report lists metrics without weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from emotivetalk.evaluation import metrics
from emotivetalk.evaluation.figures import Figure
from emotivetalk.evaluation.measurements import to_pixels
from emotivetalk.evaluation.metrics import Estimate
from emotivetalk.evaluation.observed_faces import (
    ObservedFaces,
    face_figures,
    identity_figure,
    mouth_against_real,
    observe_faces,
)
from emotivetalk.evaluation.real.clips import ClipPair, find_pairs, read_pairs
from emotivetalk.evaluation.real.frechet import EXPRESSION_SIZE, FrechetDistance, for_i3d, for_inception, resized
from emotivetalk.evaluation.real.sync import SyncScore, sync_score
from emotivetalk.evaluation.real.weights import Weights
from emotivetalk.media.face_observer import FaceObserver

_FACE_SIZE = 112
_BATCH_SIZE = 16
_TITLES = {
    "fid": "FID",
    "fvd": "FVD",
    "e_fid": "E-FID",
    "sync_c": "Sync-C",
    "sync_d": "Sync-D",
    "csim": "CSIM",
    "lpips": "LPIPS",
    "psnr": "PSNR",
    "ssim": "SSIM",
}
_NETWORK_OF_DISTANCE = {"fid": "inception", "fvd": "i3d", "e_fid": "expression"}
_MIN_SSIM_SIDE = 11

Progress = Callable[[int, int], None]
"""Callback with (clips done, clips in total)."""


@dataclass(frozen=True)
class RealReport:
    """Figures, and a line for each metric without weights or data."""

    figures: tuple[Figure, ...]
    lacks: tuple[str, ...]
    num_clips: int
    num_frames: int


def measure_folders(
    real: Path,
    generated: Path,
    weights: Weights,
    progress: Progress | None = None,
    observer: FaceObserver | None = None,
) -> RealReport:
    """Compute all available metrics of videos with the same names in two folders.

    Args:
        observer: face mesh that looks at the frames as well; None leaves its metrics out.

    Raises:
        InputError: see `find_pairs` and `read_pairs`.
    """
    pairs = find_pairs(real, generated)

    def clips() -> Iterable[ClipPair]:
        for done, clip in enumerate(read_pairs(pairs), start=1):
            yield clip
            if progress is not None:
                progress(done, len(pairs))

    return measure_clips(clips(), weights, observer)


@torch.no_grad()
def measure_clips(clips: Iterable[ClipPair], weights: Weights, observer: FaceObserver | None = None) -> RealReport:
    """Compute all available metrics of clips.

    The ceilings of Sync-C and Sync-D are the scores of the real videos. Floors come from a mismatched pairing: the speech
    or the picture of the clip before.
    """
    distances = {
        key: FrechetDistance(weights.network(name)) for key, name in _NETWORK_OF_DISTANCE.items() if weights.has(name)
    }
    rows: dict[str, list[float]] = {name: [] for name in ("psnr", "ssim", "lpips", "csim", "csim_floor")}
    sync_scores: dict[str, list[SyncScore]] = {"value": [], "ceiling": [], "floor": []}
    observed: list[ObservedFaces] = []
    num_clips = num_frames = 0
    previous: ClipPair | None = None
    for clip in clips:
        num_clips, num_frames = num_clips + 1, num_frames + len(clip.real)
        for frames, is_real in ((clip.real, True), (clip.generated, False)):
            for key, distance in distances.items():
                distance.add(_network_input(key, frames), real=is_real)
        pictures = (clip.generated, clip.real)
        rows["psnr"].append(float(peak_signal_noise_ratio(*pictures, data_range=1.0, dim=(1, 2, 3)).clamp(max=60)))
        if min(clip.real.shape[-2:]) >= _MIN_SSIM_SIDE:
            rows["ssim"].append(float(_first(structural_similarity_index_measure(*pictures, data_range=1.0))))
        if weights.has("lpips"):
            rows["lpips"].append(_lpips(clip, weights))
        if weights.has("face"):
            rows["csim"].append(_csim(clip, clip, weights))
            if previous is not None:
                rows["csim_floor"].append(_csim(clip, previous, weights))
        if weights.has("syncnet") and clip.waveform is not None:
            network = weights.network("syncnet")
            sync_scores["value"].append(sync_score(network, clip.generated, clip.waveform))
            sync_scores["ceiling"].append(sync_score(network, clip.real, clip.waveform))
            if previous is not None and previous.waveform is not None:
                sync_scores["floor"].append(sync_score(network, clip.generated, previous.waveform))
        if observer is not None:
            real, generated = (to_pixels(frames).numpy() for frames in (clip.real, clip.generated))
            observed.append(observe_faces(observer, real[0], generated, real))
        previous = clip
    figures = [*_distance_figures(distances), *_sync_figures(sync_scores)]
    for name, unit in (("csim", ""), ("lpips", ""), ("psnr", "dB"), ("ssim", "")):
        if rows[name]:
            floor = _mean(rows["csim_floor"]) if name == "csim" else None
            figures.append(Figure(name, _TITLES[name], metrics.mean_estimate(rows[name]), floor=floor, unit=unit))
    lacks = [*_missing(weights, distances, sync_scores, rows), *_missing_faces(observer)]
    return RealReport((*figures, *_face_figures(observed)), tuple(lacks), num_clips, num_frames)


def _face_figures(observed: Sequence[ObservedFaces]) -> list[Figure]:
    if not observed:
        return []
    identity = identity_figure(observed)
    return [mouth_against_real(observed), *face_figures(observed), *([] if identity is None else [identity])]


def _missing_faces(observer: FaceObserver | None) -> list[str]:
    if observer is None:
        return ["lacks: mouth opening, eyes and identity by a face mesh need --face-mesh-python"]
    return [] if observer.has_embedding else ["lacks: identity needs dlib in the face mesh's environment"]


def _network_input(key: str, frames: torch.Tensor) -> torch.Tensor:
    if key == "fid":
        return for_inception(frames)
    return for_i3d(frames) if key == "fvd" else resized(frames, EXPRESSION_SIZE)


def _distance_figures(distances: dict[str, FrechetDistance]) -> list[Figure]:
    figures = []
    for key, distance in distances.items():
        value = distance.value()
        if value is not None:
            figures.append(Figure(key, _TITLES[key], Estimate(value, value, value)))
    return figures


def _sync_figures(scores: dict[str, list[SyncScore]]) -> list[Figure]:
    figures = []
    for key, part in (("sync_c", "confidence"), ("sync_d", "distance")):
        value, ceiling, floor = (
            _mean([getattr(score, part) for score in scores[name]]) for name in ("value", "ceiling", "floor")
        )
        if value is not None:
            figures.append(Figure(key, _TITLES[key], value, ceiling, floor))
    return figures


def _mean(values: list[float]) -> Estimate | None:
    return metrics.mean_estimate(values) if values else None


def _lpips(clip: ClipPair, weights: Weights) -> float:
    network = weights.network("lpips")
    batches = zip(clip.generated.split(_BATCH_SIZE), clip.real.split(_BATCH_SIZE), strict=True)
    return float(torch.cat([_first(network(a * 2 - 1, b * 2 - 1)).flatten() for a, b in batches]).mean())


def _csim(clip: ClipPair, reference: ClipPair, weights: Weights) -> float:
    """Compute the mean cosine similarity of the generated faces and the first real one, which is the portrait."""
    network = weights.network("face")

    def faces(frames: torch.Tensor) -> torch.Tensor:
        small = resized(frames, _FACE_SIZE) * 2 - 1
        return F.normalize(torch.cat([_first(network(batch)).flatten(1) for batch in small.split(_BATCH_SIZE)]), dim=1)

    return float((faces(clip.generated) @ faces(reference.real[:1])[0]).mean())


def _first(result: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    return result if isinstance(result, torch.Tensor) else result[0]


def _missing(
    weights: Weights,
    distances: dict[str, FrechetDistance],
    sync_scores: dict[str, list[SyncScore]],
    rows: dict[str, list[float]],
) -> Iterable[str]:
    for key, name in _NETWORK_OF_DISTANCE.items():
        if not weights.has(name):
            yield weights.missing_text(_TITLES[key], name)
        elif distances[key].value() is None:
            yield f"lacks: {_TITLES[key]} needs at least two windows of 16 frames in each folder"
    if not weights.has("syncnet"):
        yield weights.missing_text("Sync-C and Sync-D", "syncnet")
    elif not sync_scores["value"]:
        yield "lacks: Sync-C and Sync-D need real videos with sound"
    for key, name in (("csim", "face"), ("lpips", "lpips")):
        if not weights.has(name):
            yield weights.missing_text(_TITLES[key], name)
    if not rows["ssim"]:
        yield f"lacks: SSIM needs pictures of at least {_MIN_SSIM_SIDE} pixels"
