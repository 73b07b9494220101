"""Render frames and their exact masks from a still portrait and the corpus's parameters (ours).

The counterpart of `corpus/renderer.py` for photographs. Fields, textures and masks are computed once per person. A frame
is one warp of the whole picture, with mouth, eyes and glasses drawn over it as layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from emotivetalk.corpus.canvas import bell, smoothstep
from emotivetalk.corpus.landmarks import FOREHEAD, OVAL, FramedPortrait
from emotivetalk.corpus.parameters import EXPRESSION, LIP
from emotivetalk.corpus.photo_eyes import EyeMotion, eye_maps
from emotivetalk.corpus.photo_face import PhotoFace, measure
from emotivetalk.corpus.photo_glasses import Glasses, GlassesStyle
from emotivetalk.corpus.photo_motion import (
    FACE_WEIGHTS,
    GRID,
    JAW_DROP,
    ROLL,
    TUCK,
    Maps,
    Motion,
    at,
    face_weights,
    grid_points,
    invert,
    look_up,
    mix,
    motion_of,
    pose_weights,
)
from emotivetalk.corpus.photo_mouth import MouthInside, MouthState
from emotivetalk.corpus.photo_shading import Shading, shading_of
from emotivetalk.corpus.renderer import Frames
from emotivetalk.media.image_ops import fill_polygon, gaussian_blur


@dataclass(frozen=True)
class _Region:
    """A rectangle of frame pixels."""

    rows: slice
    columns: slice

    def of(self, planes: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch channels rows columns"]:
        return planes[:, :, self.rows, self.columns]


class PhotoRenderer:
    """A person in a photograph, drawn with any lip, expression and pose parameters.

    Args:
        portrait: one face with open eyes and shut mouth.
        seed: seed of the teeth, which a photograph with shut lips does not show.
        glasses: glasses to draw over the portrait.
    """

    def __init__(self, portrait: FramedPortrait, seed: int = 0, glasses: GlassesStyle | None = None) -> None:
        self.face: PhotoFace = measure(portrait)
        self._picture = portrait.picture[None]
        half = F.avg_pool2d(self._picture, 2)
        smooth = gaussian_blur(half[0].permute(1, 2, 0).numpy(), 2.5)
        self._smooth = torch.from_numpy(smooth).permute(2, 0, 1)[None]
        self._motion: Motion = motion_of(portrait, self.face)
        self._mouth = MouthInside.of(portrait, self.face, seed)
        self._shading: Shading = shading_of(portrait, self.face)
        light = float(portrait.picture.mean())
        self._glasses = None if glasses is None else Glasses.of(self.face, glasses, light)
        self._planes = torch.cat([_masks(portrait, self.face), self._shading.planes])[None]

    @torch.no_grad()
    def frames(
        self,
        lip: Float[Tensor, "batch 6"],
        expression: Float[Tensor, "batch 12"],
        pose: Float[Tensor, "batch 6"],
        size: int = 256,
    ) -> Frames:
        """Draw one frame for each row of the parameters (`emotivetalk.corpus.parameters` names the columns).

        Args:
            size: side of the square frames in pixels.
        """
        num_frames = len(lip)
        weights = face_weights(lip, expression)
        frame_points = grid_points(GRID).expand(num_frames, -1, -1, -1)
        face_points = invert(mix(self._motion.pose, pose_weights(pose)), frame_points)
        first, last = _mouth_rows(face_points, self.face)
        skull = _extended(invert(mix(self._motion.skull, weights), face_points[:, :, :last]), face_points, top=True)
        jaw = _extended(invert(mix(self._motion.jaw, weights), face_points[:, :, first:]), face_points, top=False)
        hide_upper, hide_lower = _hidden_lips(weights, self.face)

        seam = look_up(self.face.upper_lip, skull[:, 0])
        whole = torch.where((skull[:, 1] < seam).unsqueeze(1), skull, jaw)
        picture = self._picture.expand(num_frames, -1, -1, -1)
        image = at(picture, _upsampled(whole, size))
        planes = at(self._planes.expand(num_frames, -1, -1, -1), whole)
        pixel = 2 / size

        gap = self._draw_mouth(image, face_points, skull, jaw, weights, lip, hide_upper, hide_lower)
        motion = EyeMotion.of(dict(zip(EXPRESSION, expression.unbind(1), strict=True)))
        for eye in self.face.eyes:
            bounds = (eye.left - 0.3 * eye.half, eye.right + 0.3 * eye.half)
            region = _region(skull, *bounds, eye.brow_bottom - 0.6 * eye.height, eye.iris_y + 3 * eye.height, size)
            if region is None:
                continue
            maps = eye_maps(eye, _upsampled(skull, size, region), motion, pixel)
            skin = at(picture, maps.skin)
            skin = torch.lerp(skin, at(self._smooth.expand(num_frames, -1, -1, -1), maps.skin), maps.lid.unsqueeze(1))
            ball = torch.lerp(at(picture, maps.ball), at(picture, maps.mirrored), maps.covered.unsqueeze(1))
            drawn = torch.lerp(skin * maps.shade.unsqueeze(1), ball, maps.is_ball.unsqueeze(1))
            region.of(image).copy_(drawn)

        image *= _upsampled(self._shading.gain(planes[:, 3:], expression, lip), size)
        if self._glasses is not None:
            self._draw_glasses(self._glasses, image, face_points)
        masks = F.interpolate(planes[:, :3], size=(size, size), mode="bilinear", align_corners=False)
        mouth = torch.maximum(masks[:, 1:2], gap)
        return Frames(image.clamp_(0, 1), masks[:, :1].contiguous(), mouth, masks[:, 2:3].contiguous())

    def _draw_glasses(self, glasses: Glasses, image: Tensor, face_points: Maps) -> None:
        region = _region(face_points, -1, 1, glasses.top, glasses.bottom, image.shape[-1])
        if region is None:
            return
        points = _upsampled(face_points, image.shape[-1], region)
        layer = at(glasses.layer.expand(len(image), -1, -1, -1), points)
        region.of(image).copy_(glasses.put_on(region.of(image), layer))

    def _draw_mouth(
        self,
        image: Tensor,
        face_points: Maps,
        skull: Maps,
        jaw: Maps,
        weights: Tensor,
        lip: Tensor,
        hide_upper: Tensor,
        hide_lower: Tensor,
    ) -> Float[Tensor, "batch 1 size size"]:
        """Draw lips and mouth inside onto the image. Return the mask of the gap between the lips."""
        face, size, num_frames = self.face, image.shape[-1], len(image)
        gap_mask = torch.zeros_like(image[:, :1])
        m = face.mouth
        region = _region(
            face_points,
            face.mouth_x - 1.3 * m,
            face.mouth_x + 1.3 * m,
            face.mouth_y - 0.7 * m,
            face.mouth_y + 0.5 * m + 0.24,
            size,
        )
        if region is None:
            return gap_mask
        pixel = 2 / size
        points, above, below = (_upsampled(map_, size, region) for map_ in (face_points, skull, jaw))
        upper_u, lower_u = face.across(above[:, 0]), face.across(below[:, 0])
        upper_edge = look_up(face.upper_lip, above[:, 0]) - hide_upper * torch.exp(-((upper_u / 0.95) ** 4))
        lower_edge = look_up(face.lower_lip, below[:, 0]) + hide_lower * torch.exp(-((lower_u / 0.8) ** 4))
        below_upper, above_lower = above[:, 1] - upper_edge, lower_edge - below[:, 1]
        within = smoothstep(1.04, 0.94, upper_u.abs())
        gap = (torch.minimum(below_upper, above_lower) / pixel).clamp(0, 1) * within
        is_jaw = (0.5 + (below_upper - above_lower) / (2 * pixel)).clamp(0, 1)

        picture = self._picture.expand(num_frames, -1, -1, -1)
        column = {name: weights[:, i].view(-1, 1, 1) for i, name in enumerate(FACE_WEIGHTS)}
        drop = JAW_DROP * (column["jaw_spread"] + column["jaw_round"])
        state = MouthState(drop, *(lip[:, LIP.index(name)].view(-1, 1, 1) for name in ("tongue", "tuck", "pucker")))
        inside = self._mouth.paint(face, points[:, 0], points[:, 1], below_upper, state)
        wet = (
            1
            - 0.22
            * torch.exp(-((above_lower.clamp(max=0) / (0.06 * m)) ** 2))
            * (drop / (0.3 * m)).clamp(0, 1)
            * within
        )
        lower = at(picture, below) * wet.unsqueeze(1)
        drawn = torch.lerp(at(picture, above), lower, is_jaw.unsqueeze(1))
        region.of(image).copy_(torch.lerp(drawn, inside, gap.unsqueeze(1)))
        region.of(gap_mask).copy_(gap.unsqueeze(1))
        return gap_mask


def _hidden_lips(weights: Tensor, face: PhotoFace) -> tuple[Tensor, Tensor]:
    """Return the heights of upper and lower lip that have moved inwards, in half pictures."""
    press, tuck = (weights[:, FACE_WEIGHTS.index(name)].view(-1, 1, 1) for name in ("press", "tuck"))
    return ROLL * face.mouth * press, (ROLL * press + TUCK * tuck) * face.mouth


def _upsampled(map_: Float[Tensor, "batch channels grid grid"], size: int, region: _Region | None = None) -> Tensor:
    """Interpolate a map to the pixels of the frames, or to a region of them."""
    if region is None:
        return F.interpolate(map_, size=(size, size), mode="bilinear", align_corners=False)
    step = size / map_.shape[-1]
    positions = [
        ((torch.arange(part.start, part.stop) + 0.5) / step - 0.5).clamp(0, map_.shape[-1] - 1.001)
        for part in (region.rows, region.columns)
    ]
    (row, column), (down, right) = (p.long() for p in positions), (p - p.long() for p in positions)
    top, bottom = map_[:, :, row], map_[:, :, row + 1]
    lines = torch.lerp(top, bottom, down.view(-1, 1))
    return torch.lerp(lines[..., column], lines[..., column + 1], right)


def _region(map_: Maps, left: float, right: float, top: float, bottom: float, size: int) -> _Region | None:
    """Return the pixels whose map values are within these bounds on any frame, or None."""
    inside = ((map_[:, 0] > left) & (map_[:, 0] < right) & (map_[:, 1] > top) & (map_[:, 1] < bottom)).any(0)
    rows, columns = inside.any(1).nonzero(), inside.any(0).nonzero()
    if not len(rows):
        return None
    step = size / map_.shape[-1]
    first = [int(int(line[0]) * step) for line in (rows, columns)]
    last = [min(size, math.ceil((int(line[-1]) + 1) * step)) for line in (rows, columns)]
    return _Region(*(slice(*ends) for ends in zip(first, last, strict=True)))


def _mouth_rows(face_points: Maps, face: PhotoFace) -> tuple[int, int]:
    """Return the grid rows that need both layers: from above the mouth to its lowest opening."""
    y = face_points[:, 1]
    top, bottom = face.mouth_y - 1.1 * face.mouth, face.mouth_y + 0.9 * face.mouth + 0.24
    first = int((y < top).all(2).all(0).sum())
    last = GRID - int((y > bottom).all(2).all(0).sum())
    return max(0, first - 1), min(GRID, last + 1)


def _extended(part: Maps, whole: Maps, top: bool) -> Maps:
    """Fill the rows of a layer that were not computed with the pose map; they are not used."""
    rest = whole.shape[2] - part.shape[2]
    if not rest:
        return part
    return torch.cat([part, whole[:, :, -rest:]], 2) if top else torch.cat([whole[:, :, :rest], part], 2)


def _masks(portrait: FramedPortrait, face: PhotoFace) -> Float[Tensor, "3 grid grid"]:
    """Draw the masks of face, lips and eyes in the photograph."""
    size = 4 * GRID
    outline = portrait.points[list(OVAL)].copy()
    rise = np.clip((face.nose_y - outline[:, 1]) / (face.nose_y - portrait.points[FOREHEAD, 1]), 0, 1)
    outline[:, 1] -= 0.03 * rise
    drawn = np.zeros((size, size), np.float32)
    fill_polygon(drawn, np.round((outline + 1) / 2 * size - 0.5).astype(np.int32), 1.0)
    inside = F.avg_pool2d(torch.from_numpy(gaussian_blur(drawn, 3))[None, None], 4)[0, 0]
    x, y = grid_points(GRID)
    soft = 2 / GRID
    lips = ((y - look_up(face.lip_top, x)) / soft + 0.5).clamp(0, 1) * (
        (look_up(face.lip_bottom, x) - y) / soft + 0.5
    ).clamp(0, 1)
    lips = lips * smoothstep(1.06, 0.98, face.across(x).abs())
    left, right = (bell(x - eye.center, y - eye.iris_y, 1.35 * eye.half, 0.95 * eye.half) for eye in face.eyes)
    return torch.stack([inside, lips, (2 * (left + right)).clamp(0, 1)])
