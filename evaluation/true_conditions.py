"""Figures of ETHD alone: video from true conditions, compared with the true frames (ours).

The frozen encoders' lip and expression latents of the true frames drive a portrait of the same person with another
emotion, so an ideal ETHD reproduces the frames. The ceiling is the autoencoder's reconstruction of the frames, because
ETHD works in its latents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.evaluation import metrics
from emotivetalk.evaluation.cases import EvaluationCase, true_frames
from emotivetalk.evaluation.figures import Figure
from emotivetalk.evaluation.latents import visual_expression_latents, visual_lip_latents
from emotivetalk.evaluation.metrics import Estimate
from emotivetalk.evaluation.reconstruction import reconstruct
from emotivetalk.models.pipeline import EmotiveTalkPipeline, MotionSequence


@torch.no_grad()
def driven_figures(
    pipeline: EmotiveTalkPipeline,
    cases: Sequence[EvaluationCase],
    seed: int,
    num_steps: int | None,
    count_frames: Callable[[int], None],
) -> list[Figure]:
    """Return PSNR and the energy of fine detail relative to the true frames.

    Args:
        count_frames: called with the number of frames of each generated video.
    """
    rows: dict[str, list[list[float]]] = {"psnr": [], "high_pass": []}
    for k, case in enumerate(cases):
        truth = torch.cat(list(true_frames(case, pipeline.image_size)))
        generated = _driven(pipeline, case, seed + k, num_steps)
        count_frames(len(generated))
        still_portrait = ((case.portrait[None] + 1) / 2).expand_as(truth)
        candidates = (generated, reconstruct(pipeline, truth, case.portrait), still_portrait)
        rows["psnr"].append([float(metrics.psnr(images, truth).mean()) for images in candidates])
        rows["high_pass"].append([metrics.high_pass_ratio(images, truth) for images in candidates])

    def estimates(name: str) -> list[Estimate]:
        return [metrics.mean_estimate(column) for column in zip(*rows[name], strict=True)]

    value, ceiling, floor = estimates("psnr")
    detail, reconstructed_detail, _ = estimates("high_pass")  # a still portrait has full detail, so it is no floor
    return [
        Figure("driven.psnr", "video from true conditions against the truth: PSNR", value, ceiling, floor, "dB"),
        Figure("driven.high_pass", "the same, energy of fine detail over the truth's", detail, reconstructed_detail),
    ]


def _driven(
    pipeline: EmotiveTalkPipeline, case: EvaluationCase, seed: int, num_steps: int | None
) -> Float[Tensor, "frames 3 size size"]:
    motion = MotionSequence(
        case.portrait,
        visual_lip_latents(pipeline, case),
        visual_expression_latents(pipeline, case),
        pipeline.motion_generator.prepare(case.portrait, None).expression_reference,
    )
    frames = torch.cat(list(pipeline.render(motion, seed=seed, num_steps=num_steps)))
    return frames.permute(0, 3, 1, 2).float() / 255
