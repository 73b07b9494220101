"""V-AID's latents of held-out clips, the latents of the true frames, and the true parameters (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.evaluation.cases import EvaluationCase, true_frames
from emotivetalk.models.encoders import MOTION_SIZE
from emotivetalk.models.pipeline import EmotiveTalkPipeline


@dataclass(frozen=True, eq=False)
class ClipLatents:
    """Latents and true parameters of one clip.

    Attributes:
        lip_audio, expression_audio: V-AID's latents, given the speech and the clip's own emotion.
        lip_visual: lip encoder's latents of the true frames.
        lip_visual_other: the same with another person's face.
        lip: true lip parameters.
        expression: true expression and pose parameters.
    """

    identity_seed: int
    emotion: int
    lip_audio: Float[Tensor, "frames dim_lip"]
    lip_visual: Float[Tensor, "frames dim_lip"]
    lip_visual_other: Float[Tensor, "frames dim_lip"]
    expression_audio: Float[Tensor, "frames dim_expression"]
    lip: Float[Tensor, "frames 6"]
    expression: Float[Tensor, "frames 18"]


@torch.no_grad()
def clip_latents(pipeline: EmotiveTalkPipeline, cases: Sequence[EvaluationCase], seed: int) -> list[ClipLatents]:
    """Compute the latents of each case from `CaseBuilder.own_motions`.

    Case k uses the noise of seed + k. With the same noise in every clip, a probe could read the frame number from the
    latents, and from it the average jaw opening at that time.
    """
    latents = []
    for k, case in enumerate(cases):
        motion = pipeline.generate_motion(case.portrait, case.waveform, case.emotion, seed=seed + k)
        other_person = cases[(k + len(cases) // 2) % len(cases)].identity_seed
        latents.append(
            ClipLatents(
                identity_seed=case.identity_seed,
                emotion=case.target_emotion,
                lip_audio=motion.lip.float().cpu(),
                lip_visual=visual_lip_latents(pipeline, case),
                lip_visual_other=visual_lip_latents(pipeline, replace(case, identity_seed=other_person)),
                expression_audio=motion.expression.float().cpu(),
                lip=case.lip,
                expression=torch.cat([case.expression, case.pose], 1),
            )
        )
    return latents


@torch.no_grad()
def visual_lip_latents(pipeline: EmotiveTalkPipeline, case: EvaluationCase) -> Float[Tensor, "frames dim_lip"]:
    """Encode the true frames with the frozen lip encoder."""
    encoder = pipeline.lip_encoder
    parts = true_frames(case, MOTION_SIZE)
    return torch.cat([encoder((part * 2 - 1).to(encoder.device, encoder.dtype)).float().cpu() for part in parts])


@torch.no_grad()
def visual_expression_latents(
    pipeline: EmotiveTalkPipeline, case: EvaluationCase
) -> Float[Tensor, "frames dim_expression"]:
    """Encode the true frames with the frozen expression encoder."""
    encoder = pipeline.expression_encoder
    parts = true_frames(case, MOTION_SIZE)
    return torch.cat([encoder((part * 2 - 1).to(encoder.device, encoder.dtype)).float().cpu() for part in parts])
