"""Figures of ETHD by itself: video from the truth's own conditions, against the truth (ours).

The lips and expressions that the frozen encoders see in the renderer's frames drive a portrait of the same person in
another emotion, so a perfect ETHD would give the renderer's frames back. What the autoencoder makes of those frames is
the ceiling: ETHD works in its latents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.evaluation import metrics
from emotivetalk.evaluation.figures import Figure
from emotivetalk.evaluation.latents import seen_expressions, seen_lips
from emotivetalk.evaluation.metrics import Estimate
from emotivetalk.evaluation.reconstruction import as_decoded
from emotivetalk.evaluation.test_cases import TestCase, true_frames
from emotivetalk.models.pipeline import EmotiveTalkPipeline, MotionSequence

Heard = Callable[[int], None]
"""Told of frames that were made."""


@torch.no_grad()
def driven_figures(
    pipeline: EmotiveTalkPipeline, cases: Sequence[TestCase], seed: int, num_steps: int | None, heard: Heard
) -> list[Figure]:
    """PSNR, and the energy of fine detail over the truth's; floor: the portrait held still."""
    rows: dict[str, list[list[float]]] = {"psnr": [], "high_pass": []}
    for k, case in enumerate(cases):
        truth = torch.cat(list(true_frames(case, pipeline.image_size)))
        made = _driven(pipeline, case, seed + k, num_steps)
        heard(len(made))
        still = ((case.portrait[None] + 1) / 2).expand_as(truth)
        candidates = (made, as_decoded(pipeline, truth, case.portrait), still)
        rows["psnr"].append([float(metrics.psnr(one, truth).mean()) for one in candidates])
        rows["high_pass"].append([metrics.high_pass_ratio(one, truth) for one in candidates])

    def estimates(name: str) -> list[Estimate]:
        return [metrics.mean_estimate(column) for column in zip(*rows[name], strict=True)]

    value, ceiling, floor = estimates("psnr")
    detail, decoded, _ = estimates("high_pass")  # a portrait has all its detail, so it is no floor of that
    return [
        Figure("driven.psnr", "video from true conditions against the truth: PSNR", value, ceiling, floor, "dB"),
        Figure("driven.high_pass", "the same, energy of fine detail over the truth's", detail, decoded),
    ]


def _driven(
    pipeline: EmotiveTalkPipeline, case: TestCase, seed: int, num_steps: int | None
) -> Float[Tensor, "frames 3 size size"]:
    motion = MotionSequence(
        case.portrait,
        seen_lips(pipeline, case),
        seen_expressions(pipeline, case),
        pipeline.motion_generator.prepare(case.portrait, None).expression_reference,
    )
    frames = torch.cat(list(pipeline.render(motion, seed=seed, num_steps=num_steps)))
    return frames.permute(0, 3, 1, 2).float() / 255
