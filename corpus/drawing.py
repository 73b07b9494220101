"""Frames of clips: avatars and photographs are rendered on demand, real video is decoded from the record."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.corpus.photo_people import person_of
from emotivetalk.corpus.records import Clip
from emotivetalk.corpus.renderer import Frames
from emotivetalk.errors import InputError
from emotivetalk.media.image_codec import decode_picture

_FRAMES_AT_ONCE = 8

# Top, bottom, left and right of the parts of a cropped face, relative to its side. Measured on avatars where the mean
# mask exceeds 0.3; the mouth is 1.5 times as high, because real jaws open further.
FACE_PLACE = (0.11, 0.87, 0.20, 0.80)
MOUTH_PLACE = (0.63, 0.80, 0.36, 0.64)
EYE_PLACE = (0.36, 0.54, 0.23, 0.77)


def draw_clip(
    clip: Clip,
    frames: Sequence[int] | None = None,
    size: int = 256,
    identity_seed: int | None = None,
    lip: Float[Tensor, "frames 6"] | None = None,
) -> Frames:
    """Return frames of a clip with their masks. The masks of real video are ellipses at fixed places of the crop.

    Args:
        clip: clip with an identity, or with pictures.
        frames: indices of the frames; all by default.
        size: side in pixels.
        identity_seed: draw another person with the same motion.
        lip: lip parameters that replace the clip's, one row per frame.

    Raises:
        InputError: another person or other lips were requested of real video, a stored picture is damaged, or the
            photographs that the corpus names are missing.
        ValueError: the clip has neither an identity nor pictures.
    """
    index = list(range(clip.num_frames)) if frames is None else list(frames)
    if clip.frames is not None:
        if identity_seed is not None or lip is not None:
            raise InputError(
                "clip_not_synthetic",
                f"clip {clip.clip_id} is real video, which cannot be drawn with another person or other lips",
                "Use a corpus from `emotivetalk synthesize`.",
            )
        return _stored(clip.frames, index, size)
    seed = clip.identity_seed if identity_seed is None else identity_seed
    if seed is None:
        raise ValueError(
            f"clip {clip.clip_id} is real video without pictures. Give a clip with an identity or pictures."
        )
    person = person_of(seed, clip.photographs)
    tracks = [torch.from_numpy(track[index]) for track in (clip.lip, clip.expression, clip.pose)]
    if lip is not None:
        tracks[0] = lip
    parts = []
    for start in range(0, len(index), _FRAMES_AT_ONCE):
        lips, expressions, poses = (track[start : start + _FRAMES_AT_ONCE] for track in tracks)
        parts.append(person.frames(lips, expressions, poses, size))
    return Frames(
        torch.cat([part.images for part in parts]),
        torch.cat([part.face_mask for part in parts]),
        torch.cat([part.mouth_mask for part in parts]),
        torch.cat([part.eye_mask for part in parts]),
    )


def _stored(pictures: Sequence[bytes], index: Sequence[int], size: int) -> Frames:
    decoded = np.stack([decode_picture(pictures[frame], size) for frame in index])
    images = torch.from_numpy(decoded).permute(0, 3, 1, 2).float() / 255
    masks = [_ellipse(place, size).expand(len(index), -1, -1, -1) for place in (FACE_PLACE, MOUTH_PLACE, EYE_PLACE)]
    return Frames(images.contiguous(), *masks)


def _ellipse(place: tuple[float, float, float, float], size: int) -> Float[Tensor, "1 size size"]:
    """Return the mask of the ellipse inscribed in a place, with a soft edge."""
    top, bottom, left, right = place
    at = (torch.arange(size) + 0.5) / size
    x, y = (2 * at - left - right) / (right - left), (2 * at - top - bottom) / (bottom - top)
    radius = (x[None, :].square() + y[:, None].square()).sqrt()
    return (8 * (1 - radius) + 0.5).clamp(0, 1)[None]
