"""Shading of a photographed face by its expression: folds, furrows, blush and pallor (ours).

Gains are a fraction of the avatars' gains, because folds are more visible on photographs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from emotivetalk.corpus.canvas import bell, smoothstep
from emotivetalk.corpus.landmarks import FramedPortrait
from emotivetalk.corpus.parameters import EXPRESSION, LIP
from emotivetalk.corpus.photo_face import PhotoFace
from emotivetalk.corpus.photo_motion import GRID, grid_points, look_up

_LEFT_FOLD = (129, 203, 206, 216, 212)  # from the wing of the nose past the corner of the mouth
_RIGHT_FOLD = (358, 423, 426, 436, 432)


@dataclass(frozen=True)
class Shading:
    """Planes in the space of the photograph: folds beside the mouth, furrow, rounded lips, cheeks, skin."""

    planes: Float[Tensor, "5 grid grid"]

    def gain(
        self,
        planes: Float[Tensor, "batch 5 grid grid"],
        expression: Float[Tensor, "batch 12"],
        lip: Float[Tensor, "batch 6"],
    ) -> Float[Tensor, "batch 3 grid grid"]:
        """Compute the factors for the colors of the frames. `planes` are this object's planes, warped to the frames."""
        e = {name: expression[:, i].view(-1, 1, 1) for i, name in enumerate(EXPRESSION)}
        pucker = lip[:, LIP.index("pucker")].view(-1, 1, 1)
        folds, furrow, rounded, cheeks, skin = planes.unbind(1)
        light = 1 + folds * (e["smile"].clamp(0, 1.2) + 0.7 * e["sneer"].clamp(0, 1.2)).clamp(max=1.3)
        light = light + furrow * e["furrow"].clamp(0, 1.2) + rounded * pucker.clamp(0, 1)
        blush = cheeks * e["blush"].clamp(0, 1.2)
        pale = skin * (-e["blush"]).clamp(0, 1)
        red = light * (1 + 0.02 * blush) * (1 + 0.02 * pale)
        return torch.stack(
            [red, light * (1 - 0.10 * blush) * (1 + 0.06 * pale), light * (1 - 0.09 * blush) * (1 + 0.07 * pale)], 1
        )


def shading_of(portrait: FramedPortrait, face: PhotoFace) -> Shading:
    """Compute the shading planes of a face."""
    x, y = grid_points(GRID)
    points = torch.as_tensor(portrait.points, dtype=torch.float32)
    folds = torch.zeros_like(x)
    for indices in (_LEFT_FOLD, _RIGHT_FOLD):
        distance, along = _to_polyline(points[list(indices)], x, y)
        ends = smoothstep(0.0, 0.25, along) * smoothstep(1.0, 0.6, along)
        folds = folds - 0.13 * torch.exp(-((distance / 0.018) ** 2)) * ends
    outside = (x - face.mouth_x).abs() > 1.1 * face.mouth
    folds = folds + 0.05 * outside * bell(
        (x - face.mouth_x).abs() - 1.75 * face.mouth, y - face.nose_base + 0.05, 0.09, 0.08
    )
    furrow = torch.zeros_like(x)
    between = (face.eyes[0].right + face.eyes[1].left) / 2
    for eye in face.eyes:
        inner = eye.right if eye.side < 0 else eye.left
        line = between + 0.40 * (inner - between) + 0.15 * (y - eye.brow_y) * eye.side
        furrow = furrow - 0.13 * bell(x - line, y - eye.brow_y - 0.01, 0.013, 0.045)
        furrow = furrow + 0.04 * bell(x - between, y - eye.brow_y - 0.01, 0.012, 0.040)
        furrow = furrow - 0.05 * bell(x - inner, y - (eye.brow_bottom + 0.3 * eye.brow_gap), 0.04, 0.02)
    u, m = face.across(x), face.mouth
    v = (y - look_up(face.lower_lip, x)) / m
    rounded = 0.10 * bell(u, v - 0.22, 0.30, 0.12) - 0.12 * bell(u.abs() - 0.98, v, 0.22, 0.22)
    cheek = bell(
        (x - face.center_x).abs() - 0.55 * face.half_width, y - face.nose_y + 0.02, 0.30 * face.half_width, 0.16
    )
    skin = bell(x - face.center_x, y - face.nose_y, 0.75 * face.half_width, 0.42)
    return Shading(torch.stack([folds, furrow, rounded, cheek, skin]))


def _to_polyline(points: Float[Tensor, "corners 2"], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distance to a polyline, and the position of its nearest point along the line, 0..1."""
    nearest = torch.full_like(x, torch.inf)
    along = torch.zeros_like(x)
    pieces = len(points) - 1
    for number in range(pieces):
        start, step = points[number], points[number + 1] - points[number]
        share = (((x - start[0]) * step[0] + (y - start[1]) * step[1]) / step.square().sum().clamp(min=1e-8)).clamp(
            0, 1
        )
        distance = torch.hypot(x - start[0] - share * step[0], y - start[1] - share * step[1])
        along = torch.where(distance < nearest, (number + share) / pieces, along)
        nearest = torch.minimum(nearest, distance)
    return nearest, along
