"""The field's metrics of a folder of generated videos beside one of real videos: what is measured, what it lacks (ours).

PSNR and SSIM need no network. The others need weights that the user has; each that lacks its own says so in a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from emotivetalk.evaluation import metrics
from emotivetalk.evaluation.figures import Figure
from emotivetalk.evaluation.metrics import Estimate
from emotivetalk.evaluation.real.clips import ClipPair, find_pairs, read_pairs
from emotivetalk.evaluation.real.frechet import EXPRESSION_SIZE, Frechet, for_i3d, for_inception, resized
from emotivetalk.evaluation.real.sync import Sync, sync_of
from emotivetalk.evaluation.real.weights import Weights

_FACE_SIZE = 112
_AT_ONCE = 16
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
_SETS = {"fid": "inception", "fvd": "i3d", "e_fid": "expression"}
_MIN_SSIM_SIDE = 11

Told = Callable[[int, int], None]


@dataclass(frozen=True)
class RealReport:
    """What was found, and a line for each metric that lacks its weights or its data."""

    figures: tuple[Figure, ...]
    lacks: tuple[str, ...]
    num_clips: int
    num_frames: int


def measure_folders(real: Path, generated: Path, weights: Weights, progress: Told | None = None) -> RealReport:
    """All metrics that can be had of videos with the same names in two folders.

    Raises:
        InputError: see `find_pairs` and `read_pairs`.
    """
    pairs = find_pairs(real, generated)

    def told() -> Iterable[ClipPair]:
        for done, clip in enumerate(read_pairs(pairs), start=1):
            yield clip
            if progress is not None:
                progress(done, len(pairs))

    return measure_clips(told(), weights)


@torch.no_grad()
def measure_clips(clips: Iterable[ClipPair], weights: Weights) -> RealReport:
    """The same of clips that are read already, one at a time.

    Ceilings are of the real videos by themselves: Sync-C and Sync-D against their own speech. Floors are of a broken
    pairing: the speech, or the picture, of the clip before.
    """
    sets = {key: Frechet(weights.network(name)) for key, name in _SETS.items() if weights.has(name)}
    rows: dict[str, list[float]] = {name: [] for name in ("psnr", "ssim", "lpips", "csim", "csim_floor")}
    synced: dict[str, list[Sync]] = {"value": [], "ceiling": [], "floor": []}
    num_clips = num_frames = 0
    before: ClipPair | None = None
    for clip in clips:
        num_clips, num_frames = num_clips + 1, num_frames + len(clip.real)
        for frames, is_real in ((clip.real, True), (clip.generated, False)):
            for key, frechet in sets.items():
                frechet.add(_for_set(key, frames), real=is_real)
        pictures = (clip.generated, clip.real)
        rows["psnr"].append(float(peak_signal_noise_ratio(*pictures, data_range=1.0, dim=(1, 2, 3)).clamp(max=60)))
        if min(clip.real.shape[-2:]) >= _MIN_SSIM_SIDE:
            rows["ssim"].append(float(_as_one(structural_similarity_index_measure(*pictures, data_range=1.0))))
        if weights.has("lpips"):
            rows["lpips"].append(_lpips(clip, weights))
        if weights.has("face"):
            rows["csim"].append(_csim(clip, clip, weights))
            if before is not None:
                rows["csim_floor"].append(_csim(clip, before, weights))
        if weights.has("syncnet") and clip.waveform is not None:
            network = weights.network("syncnet")
            synced["value"].append(sync_of(network, clip.generated, clip.waveform))
            synced["ceiling"].append(sync_of(network, clip.real, clip.waveform))
            if before is not None and before.waveform is not None:
                synced["floor"].append(sync_of(network, clip.generated, before.waveform))
        before = clip
    figures = [*_distances(sets), *_syncs(synced)]
    for name, unit in (("csim", ""), ("lpips", ""), ("psnr", "dB"), ("ssim", "")):
        if rows[name]:
            floor = _mean(rows["csim_floor"]) if name == "csim" else None
            figures.append(Figure(name, _TITLES[name], metrics.mean_estimate(rows[name]), floor=floor, unit=unit))
    return RealReport(tuple(figures), tuple(_lacking(weights, sets, synced, rows)), num_clips, num_frames)


def _for_set(key: str, frames: torch.Tensor) -> torch.Tensor:
    if key == "fid":
        return for_inception(frames)
    return for_i3d(frames) if key == "fvd" else resized(frames, EXPRESSION_SIZE)


def _distances(sets: dict[str, Frechet]) -> list[Figure]:
    figures = []
    for key, frechet in sets.items():
        value = frechet.value()
        if value is not None:
            figures.append(Figure(key, _TITLES[key], Estimate(value, value, value)))
    return figures


def _syncs(synced: dict[str, list[Sync]]) -> list[Figure]:
    if not synced["value"]:
        return []

    def of(name: str, part: str) -> Estimate | None:
        return _mean([getattr(one, part) for one in synced[name]])

    return [
        Figure(key, _TITLES[key], metrics.mean_estimate([getattr(one, part) for one in synced["value"]]),
               of("ceiling", part), of("floor", part))
        for key, part in (("sync_c", "confidence"), ("sync_d", "distance"))
    ]  # fmt: skip


def _mean(values: list[float]) -> Estimate | None:
    return metrics.mean_estimate(values) if values else None


def _lpips(clip: ClipPair, weights: Weights) -> float:
    network = weights.network("lpips")
    parts = zip(clip.generated.split(_AT_ONCE), clip.real.split(_AT_ONCE), strict=True)
    return float(torch.cat([_as_one(network(a * 2 - 1, b * 2 - 1)).flatten() for a, b in parts]).mean())


def _csim(clip: ClipPair, reference: ClipPair, weights: Weights) -> float:
    """Cosine of each generated face and the first real one, which is the portrait."""
    network = weights.network("face")

    def faces(frames: torch.Tensor) -> torch.Tensor:
        small = resized(frames, _FACE_SIZE) * 2 - 1
        return F.normalize(torch.cat([_as_one(network(part)).flatten(1) for part in small.split(_AT_ONCE)]), dim=1)

    return float((faces(clip.generated) @ faces(reference.real[:1])[0]).mean())


def _as_one(result: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    return result if isinstance(result, torch.Tensor) else result[0]


def _lacking(
    weights: Weights, sets: dict[str, Frechet], synced: dict[str, list[Sync]], rows: dict[str, list[float]]
) -> Iterable[str]:
    for key, name in _SETS.items():
        if not weights.has(name):
            yield weights.lacks(_TITLES[key], name)
        elif sets[key].value() is None:
            yield f"lacks: {_TITLES[key]} wants more video: two windows of each folder at least"
    if not weights.has("syncnet"):
        yield weights.lacks("Sync-C and Sync-D", "syncnet")
    elif not synced["value"]:
        yield "lacks: Sync-C and Sync-D want real videos with sound"
    for key, name in (("csim", "face"), ("lpips", "lpips")):
        if not weights.has(name):
            yield weights.lacks(_TITLES[key], name)
    if not rows["ssim"]:
        yield f"lacks: SSIM wants pictures of {_MIN_SSIM_SIDE} pixels or more"
