"""V-AID's latents of held-out clips beside what is seen in the renderer's frames and what is true (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.evaluation.test_cases import TestCase, true_frames
from emotivetalk.models.encoders import MOTION_SIZE
from emotivetalk.models.pipeline import EmotiveTalkPipeline


@dataclass(frozen=True, eq=False)
class ClipLatents:
    """Of one clip: what V-AID makes of the speech and the clip's own emotion, what the encoders see, what is true.

    lip_another: of somebody else who says the same. expression: of the corpus, its expression and pose parameters.
    """

    identity_seed: int
    emotion: int
    lip_audio: Float[Tensor, "frames dim_lip"]
    lip_visual: Float[Tensor, "frames dim_lip"]
    lip_another: Float[Tensor, "frames dim_lip"]
    expression_audio: Float[Tensor, "frames dim_expression"]
    lip: Float[Tensor, "frames 6"]
    expression: Float[Tensor, "frames 18"]


@torch.no_grad()
def clip_latents(pipeline: EmotiveTalkPipeline, cases: Sequence[TestCase], seed: int) -> list[ClipLatents]:
    """One for each scene, of which each performs its own clip (`CaseBuilder.own_performances`).

    Each has noise of its own (seed + k): sequences from one and the same noise tell the frame's number, and with it what
    jaws do on the average at that time of a clip.
    """
    found = []
    for k, case in enumerate(cases):
        made = pipeline.generate_motion(case.portrait, case.waveform, case.emotion, seed=seed + k)
        another = cases[(k + len(cases) // 2) % len(cases)].identity_seed
        found.append(
            ClipLatents(
                case.identity_seed,
                case.wanted,
                made.lip.float().cpu(),
                seen_lips(pipeline, case),
                seen_lips(pipeline, replace(case, identity_seed=another)),
                made.expression.float().cpu(),
                case.lip,
                torch.cat([case.expression, case.pose], 1),
            )
        )
    return found


@torch.no_grad()
def seen_lips(pipeline: EmotiveTalkPipeline, case: TestCase) -> Float[Tensor, "frames dim_lip"]:
    """The frozen lip encoder on the renderer's frames: `lip_visual`."""
    encoder = pipeline.lip_encoder
    parts = true_frames(case, MOTION_SIZE)
    return torch.cat([encoder((part * 2 - 1).to(encoder.device, encoder.dtype)).float().cpu() for part in parts])


@torch.no_grad()
def seen_expressions(pipeline: EmotiveTalkPipeline, case: TestCase) -> Float[Tensor, "frames dim_expression"]:
    """The frozen expression encoder on the renderer's frames: `expression_visual`."""
    encoder = pipeline.expression_encoder
    parts = true_frames(case, MOTION_SIZE)
    return torch.cat([encoder((part * 2 - 1).to(encoder.device, encoder.dtype)).float().cpu() for part in parts])
