"""Frames of recorded performances, drawn when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from corpus.avatar import Identity
from corpus.records import Clip
from corpus.renderer import Frames, render

_FRAMES_AT_ONCE = 8


def draw_clip(
    clip: Clip,
    frames: Sequence[int] | None = None,
    size: int = 256,
    identity_seed: int | None = None,
    lip: Float[Tensor, "frames 6"] | None = None,
) -> Frames:
    """The frames of a synthetic clip.

    Args:
        clip: one with an identity.
        frames: which; all of them by default.
        size: side in pixels.
        identity_seed: somebody else who does the same (for pairs).
        lip: what the lips do instead, one row per frame asked for.

    Raises:
        ValueError: the clip is of real video, which has nothing to draw.
    """
    seed = clip.identity_seed if identity_seed is None else identity_seed
    if seed is None:
        raise ValueError(f"clip {clip.clip_id} is of real video and cannot be drawn")
    index = list(range(clip.num_frames)) if frames is None else list(frames)
    person = Identity.sample(1, seed)
    tracks = [torch.from_numpy(track[index]) for track in (clip.lip, clip.expression, clip.pose)]
    if lip is not None:
        tracks[0] = lip
    parts = []
    for start in range(0, len(index), _FRAMES_AT_ONCE):
        lips, expressions, poses = (track[start : start + _FRAMES_AT_ONCE] for track in tracks)
        parts.append(render(person[[0] * len(lips)], lips, expressions, poses, size))
    return Frames(
        torch.cat([part.images for part in parts]),
        torch.cat([part.face_mask for part in parts]),
        torch.cat([part.mouth_mask for part in parts]),
        torch.cat([part.eye_mask for part in parts]),
    )
