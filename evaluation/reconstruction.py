"""Figures of the autoencoder: reconstruction of single frames of held-out people (ours)."""

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
from emotivetalk.evaluation.cases import CaseBuilder
from emotivetalk.evaluation.figures import Figure
from emotivetalk.evaluation.metrics import Estimate
from emotivetalk.models.autoencoder import LatentCodec
from emotivetalk.models.pipeline import EmotiveTalkPipeline

_BATCH_SIZE = 8


@dataclass(frozen=True)
class _Reconstructions:
    """True frames, portraits of the same people, and the autoencoder's reconstructions; RGB in 0..1."""

    truth: Frames
    portraits: Float[Tensor, "frames 3 size size"]
    decoded: Float[Tensor, "frames 3 size size"]


def autoencoder_figures(pipeline: EmotiveTalkPipeline, builder: CaseBuilder, num_frames: int) -> list[Figure]:
    """Return PSNR of whole frames, mouths and eyes, and the energy of fine detail relative to the true frames.

    The floor is the portrait itself, which a decoder that copies the portrait would return.
    """
    frames = _reconstructions(pipeline, builder, num_frames)
    masks = {"whole": None, "mouth": frames.truth.mouth_mask, "eyes": frames.truth.eye_mask}
    figures = [
        Figure(
            key=f"vae.{part}",
            title=f"autoencoder, {part}: PSNR",
            value=_mean(metrics.psnr(frames.decoded, frames.truth.images, mask)),
            floor=_mean(metrics.psnr(frames.portraits, frames.truth.images, mask)),
            unit="dB",
        )
        for part, mask in masks.items()
    ]
    detail = [
        metrics.high_pass_ratio(decoded[None], true[None])
        for decoded, true in zip(frames.decoded, frames.truth.images, strict=True)
    ]
    figures.append(
        Figure("vae.high_pass", "autoencoder, energy of fine detail over the truth's", _mean(np.array(detail)))
    )
    return figures


@torch.no_grad()
def reconstruct(
    pipeline: EmotiveTalkPipeline, images: Float[Tensor, "frames 3 size size"], portrait: Float[Tensor, "3 size size"]
) -> Float[Tensor, "frames 3 size size"]:
    """Encode and decode frames of one person (RGB in 0..1), conditioned on their portrait (RGB in -1..1)."""
    return torch.cat([_decoded(pipeline, part, portrait[None]) for part in images.split(_BATCH_SIZE)])


def _mean(values: np.ndarray) -> Estimate:
    """Average the finite values; PSNR is NaN for frames whose mask is empty, such as shut eyes."""
    return metrics.mean_estimate(values[np.isfinite(values)].tolist())


@torch.no_grad()
def _reconstructions(pipeline: EmotiveTalkPipeline, builder: CaseBuilder, num_frames: int) -> _Reconstructions:
    clips = [builder.clips[int(i)] for i in np.linspace(0, len(builder.clips) - 1, num_frames)]
    pairs = [_frame_and_portrait(builder, clip, k, pipeline.image_size) for k, clip in enumerate(clips)]
    truth = Frames(*(torch.cat(planes) for planes in zip(*(vars(frame).values() for frame, _ in pairs), strict=True)))
    portraits = torch.cat([portrait for _, portrait in pairs])
    batches = zip(truth.images.split(_BATCH_SIZE), portraits.split(_BATCH_SIZE), strict=True)
    decoded = torch.cat([_decoded(pipeline, images, portrait * 2 - 1) for images, portrait in batches])
    return _Reconstructions(truth, portraits, decoded)


def _decoded(pipeline: EmotiveTalkPipeline, images: Tensor, portraits: Tensor) -> Tensor:
    """Encode and decode images (RGB in 0..1) with one portrait each, or one for all (RGB in -1..1)."""
    codec, dtype = LatentCodec(pipeline.vae), pipeline.vae.dtype
    features = codec.portrait(portraits.to(dtype))
    decoded = codec.decode(codec.encode((images * 2 - 1).to(dtype)), features).float()
    return ((decoded + 1) / 2).clamp(0, 1)


def _frame_and_portrait(
    builder: CaseBuilder, clip: Clip, k: int, size: int
) -> tuple[Frames, Float[Tensor, "1 3 size size"]]:
    """Draw a frame of a clip, and a picture of the same person, from another clip if there is one."""
    assert clip.identity_seed is not None
    clips = builder.clips_by_person[clip.identity_seed]
    others = [other for other in clips if other.clip_id != clip.clip_id] or clips
    other = others[k % len(others)]
    return draw_clip(clip, [7 * k % clip.num_frames], size), draw_clip(other, [0], size).images
