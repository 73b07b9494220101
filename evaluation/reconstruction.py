"""How well the autoencoder gives single frames back, on people it never met (ours)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.corpus.drawing import draw_clip
from emotivetalk.corpus.records import Clip
from emotivetalk.corpus.renderer import Frames
from emotivetalk.evaluation import metrics
from emotivetalk.evaluation.figures import Figure
from emotivetalk.evaluation.metrics import Estimate
from emotivetalk.evaluation.test_cases import CaseBuilder
from emotivetalk.models.autoencoder import LatentCodec
from emotivetalk.models.pipeline import EmotiveTalkPipeline

_AT_ONCE = 8


@dataclass(frozen=True)
class _Stills:
    """True frames, the portraits of the same people, and what the autoencoder makes of the frames; RGB in 0..1."""

    truth: Frames
    portraits: Float[Tensor, "frames 3 size size"]
    decoded: Float[Tensor, "frames 3 size size"]


def still_figures(pipeline: EmotiveTalkPipeline, builder: CaseBuilder, num_frames: int) -> list[Figure]:
    """PSNR of whole pictures, of mouths and of eyes, and the share of fine detail that is left.

    Floor: the portrait itself, which is what a decoder gives that copies it.
    """
    stills = _stills(pipeline, builder, num_frames)
    masks = {"whole": None, "mouth": stills.truth.mouth_mask, "eyes": stills.truth.eye_mask}
    figures = [
        Figure(
            key=f"vae.{part}",
            title=f"autoencoder, {part}: PSNR",
            value=_mean(metrics.psnr(stills.decoded, stills.truth.images, mask)),
            floor=_mean(metrics.psnr(stills.portraits, stills.truth.images, mask)),
            unit="dB",
        )
        for part, mask in masks.items()
    ]
    detail = [
        metrics.high_pass_ratio(one[None], true[None])
        for one, true in zip(stills.decoded, stills.truth.images, strict=True)
    ]
    figures.append(
        Figure("vae.high_pass", "autoencoder, energy of fine detail over the truth's", _mean(np.array(detail)))
    )
    return figures


def _mean(values: np.ndarray) -> Estimate:
    """Over the frames that have a value: eyes that are shut have no pixels."""
    return metrics.mean_estimate(values[np.isfinite(values)].tolist())


@torch.no_grad()
def _stills(pipeline: EmotiveTalkPipeline, builder: CaseBuilder, num_frames: int) -> _Stills:
    clips = [builder.clips[int(i)] for i in np.linspace(0, len(builder.clips) - 1, num_frames)]
    pairs = [_pair(builder, clip, k, pipeline.image_size) for k, clip in enumerate(clips)]
    truth = Frames(*(torch.cat(planes) for planes in zip(*(vars(frame).values() for frame, _ in pairs), strict=True)))
    portraits = torch.cat([portrait for _, portrait in pairs])
    parts = zip(truth.images.split(_AT_ONCE), portraits.split(_AT_ONCE), strict=True)
    return _Stills(truth, portraits, torch.cat([_decoded(pipeline, images, seen * 2 - 1) for images, seen in parts]))


@torch.no_grad()
def as_decoded(
    pipeline: EmotiveTalkPipeline, images: Float[Tensor, "frames 3 size size"], portrait: Float[Tensor, "3 size size"]
) -> Float[Tensor, "frames 3 size size"]:
    """What the autoencoder makes of one person's frames (RGB in 0..1), seeing their portrait (in -1..1)."""
    return torch.cat([_decoded(pipeline, part, portrait[None]) for part in images.split(_AT_ONCE)])


def _decoded(pipeline: EmotiveTalkPipeline, images: Tensor, portraits: Tensor) -> Tensor:
    """Of pictures in 0..1 with a portrait (in -1..1) each, or one for all."""
    codec, dtype = LatentCodec(pipeline.vae), pipeline.vae.dtype
    features = codec.portrait(portraits.to(dtype))
    decoded = codec.decode(codec.encode((images * 2 - 1).to(dtype)), features).float()
    return ((decoded + 1) / 2).clamp(0, 1)


def _pair(builder: CaseBuilder, clip: Clip, k: int, size: int) -> tuple[Frames, Float[Tensor, "1 3 size size"]]:
    """A frame of a clip, and a picture of the same person from another clip if there is one."""
    assert clip.identity_seed is not None
    clips = [builder.clips[position] for position in builder.clips.by_identity[clip.identity_seed]]
    others = [other for other in clips if other.clip_id != clip.clip_id] or clips
    other = others[k % len(others)]
    return draw_clip(clip, [7 * k % clip.num_frames], size), draw_clip(other, [0], size).images
