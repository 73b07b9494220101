"""Move the points of a photograph by weighted sums of displacement fields (ours).

Two maps are composed. The face map moves a point of the photograph by the lip and expression parameters; the pose map
moves the result to the frame. Each map is `q -> q + sum of weight x field(q)`. Fields are computed once per person;
weights depend on the parameters of a frame. Frames are sampled by backward warping, so both maps are inverted by
fixed-point iteration. The face map has a skull layer and a jaw layer, which differ only at the mouth and agree beyond
its corners.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.ndimage import gaussian_filter
from torch import Tensor

from emotivetalk.corpus.canvas import bell, smoothstep
from emotivetalk.corpus.landmarks import NUM_LANDMARKS, OVAL, FramedPortrait
from emotivetalk.corpus.parameters import EXPRESSION, LIP, POSE
from emotivetalk.corpus.photo_face import LINE_SAMPLES, PhotoFace

GRID = 128
"""Number of cells per side of the grid of displacements, which are interpolated to pixels."""

JAW_DROP = 0.16
"""Drop of the chin in half pictures at jaw = 1, the same on every face. The lips part slightly further."""

ROLL = 0.10
"""Height of lip, in half mouths, that rolls inwards at press = 1."""

TUCK = 0.20
"""Height of lower lip, in half mouths, that moves behind the upper teeth at tuck = 1."""

_CORNER_SINK = 0.30
_UPPER_RISE = 0.08
_YAW_SHIFT = 0.082  # half pictures: shift of eyes and mouth relative to the outline at yaw = 1, as for avatars
_PITCH_SHIFT = 0.060

FACE_WEIGHTS = (
    *("shut", "wide", "pucker", "press", "tuck", "jaw_spread", "jaw_round", "smile", "frown", "smirk", "sneer"),
    *("brow_in", "brow_out", "furrow", "lower_brow", "lift_brow", "arch_right"),
)
POSE_WEIGHTS = ("along_x", "along_y", "turn_x", "turn_y", "yaw", "pitch")

Fields = Float[Tensor, "fields 2 grid grid"]
Maps = Float[Tensor, "batch 2 rows columns"]


@dataclass(frozen=True)
class Motion:
    """Displacement fields of a person."""

    skull: Fields
    jaw: Fields
    pose: Fields


def grid_points(size: int) -> Float[Tensor, "2 size size"]:
    """Return x and y of the pixel centers of a picture, -1..1."""
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    return torch.stack([axis.view(1, -1).expand(size, size), axis.view(-1, 1).expand(size, size)])


def look_up(line: Float[np.ndarray, "1025"], x: Tensor) -> Tensor:
    """Return the height of a curve at each x, interpolated linearly."""
    table = torch.as_tensor(line, dtype=torch.float32)
    place = ((x + 1) / 2 * (LINE_SAMPLES - 1)).clamp(0, LINE_SAMPLES - 1.001)
    index = place.long()
    return torch.lerp(table[index], table[index + 1], place - index)


def motion_of(portrait: FramedPortrait, face: PhotoFace) -> Motion:
    """Compute the displacement fields of a person."""
    x, y = grid_points(GRID)
    skull, jaw = _face_fields(face, x, y)
    return Motion(skull, jaw, _pose_fields(portrait, face, x, y))


def face_weights(
    lip: Float[Tensor, "batch 6"], expression: Float[Tensor, "batch 12"]
) -> Float[Tensor, "batch weights"]:
    """Compute the weights of the face fields in the order of FACE_WEIGHTS."""
    p = dict(zip(LIP, lip.unbind(1), strict=True)) | dict(zip(EXPRESSION, expression.unbind(1), strict=True))
    opening = p["jaw"] * (1 - p["press"]).clamp(0, 1)
    rounding = (1.2 * p["pucker"]).clamp(0, 1)
    weights = {
        "shut": torch.ones_like(p["jaw"]),
        "wide": p["wide"] * (1 - 0.35 * p["smile"].clamp(0, 1)),
        "pucker": p["pucker"],
        "press": p["press"],
        "tuck": p["tuck"] * (1 - p["press"]).clamp(0, 1),
        "jaw_spread": opening * (1 - rounding),
        "jaw_round": opening * rounding + 0.10 * rounding * (1 - p["press"]).clamp(0, 1),
        "smile": p["smile"].clamp(min=0),
        "frown": (-p["smile"]).clamp(min=0),
        "smirk": p["asym"],
        "sneer": p["sneer"],
        "brow_in": p["brow_in"],
        "brow_out": p["brow_out"],
        "furrow": p["furrow"],
        "lower_brow": p["squint"] + 0.6 * p["sneer"],
        "lift_brow": p["eye_wide"].clamp(min=0),
        "arch_right": p["asym"].clamp(min=0),
    }
    return torch.stack([weights[name] for name in FACE_WEIGHTS], 1)


def pose_weights(pose: Float[Tensor, "batch 6"]) -> Float[Tensor, "batch weights"]:
    """Compute the weights of the pose fields in the order of POSE_WEIGHTS."""
    p = dict(zip(POSE, pose.unbind(1), strict=True))
    cos, sin = p["scale"] * torch.cos(p["rot"]) - 1, p["scale"] * torch.sin(p["rot"])
    return torch.stack([p["tx"], p["ty"], cos, sin, p["yaw"], p["pitch"]], 1)


def mix(fields: Fields, weights: Float[Tensor, "batch weights"]) -> Float[Tensor, "batch 2 grid grid"]:
    """Compute the displacement of each frame: the weighted sum of the fields."""
    return (weights @ fields.flatten(1)).view(-1, 2, *fields.shape[2:])


def at(planes: Float[Tensor, "batch channels h w"], points: Maps) -> Float[Tensor, "batch channels rows columns"]:
    """Sample planes at points bilinearly. Points outside take the value at the edge."""
    return F.grid_sample(
        planes, points.permute(0, 2, 3, 1), mode="bilinear", padding_mode="border", align_corners=False
    )


def invert(displacement: Float[Tensor, "batch 2 grid grid"], target: Maps, steps: int = 5) -> Maps:
    """Find the points that the displacement moves to `target`, by fixed-point iteration from coarse to fine."""
    coarse = target[:, :, ::2, ::2] if target.shape[2] > 8 else target
    start = coarse
    point = start
    for _ in range(steps):
        point = start - at(displacement, point)
    if coarse is not target:
        moved = F.interpolate(point - start, size=target.shape[2:], mode="bilinear", align_corners=False)
        point = target + moved
        for _ in range(2):
            point = target - at(displacement, point)
    return point


def _face_fields(face: PhotoFace, x: Tensor, y: Tensor) -> tuple[Fields, Fields]:
    m, u = face.mouth, face.across(x)
    seam = look_up((face.upper_lip + face.lower_lip) / 2, x)
    v = (y - seam) / m
    au, zero = u.abs(), torch.zeros_like(x)
    tall = max((float(look_up(face.lip_bottom, torch.tensor(face.mouth_x))) - face.mouth_y) / m, 0.2)

    def shifts(dx: Tensor, dy: Tensor) -> Tensor:
        return torch.stack([dx, dy])

    both: dict[str, Tensor] = {}
    around_mouth = bell(u, v, 1.5, 0.8)
    both["wide"] = shifts(
        0.15 * m * around_mouth * torch.tanh(1.5 * u), -0.035 * m * torch.tanh(3 * v) * bell(u, v, 0.9, 0.5)
    )
    narrower = -0.36 * m * u * torch.exp(-((au / 1.6) ** 4)) * torch.exp(-((v / 1.0) ** 2))
    both["pucker"] = shifts(narrower, 0.09 * m * torch.tanh(3.5 * v) * bell(u, v, 0.8, 0.55))
    corner = bell(au - 1.05, v, 0.62, 0.55)
    outwards = torch.tanh(4 * u)
    cheek = bell(au - 1.35, v + 1.05, 0.75, 0.7)
    both["smile"] = shifts(0.15 * m * outwards * corner, m * (-0.21 * corner - 0.12 * cheek))
    both["frown"] = shifts(
        -0.03 * m * outwards * corner,
        m * (0.20 * bell(au - 1.0, v, 0.55, 0.5) - 0.06 * bell(u, v - 0.2, 0.6, 0.5)),
    )
    right = smoothstep(-0.1, 0.4, u)
    both["smirk"] = shifts(0.08 * m * corner * right, -m * right * (0.18 * corner + 0.07 * cheek))
    wings = bell((x - face.nose_x).abs() / m - 0.42, (y - face.nose_y) / m - 0.1, 0.38, 0.42)
    both["sneer"] = shifts(zero, -m * (0.13 * wings + 0.12 * bell(u, v + 0.25, 0.85, 0.4)))
    both |= _brow_fields(face, x, y)

    # Fields that differ between the layers: `lifted` moves the skull layer, `dropped` the jaw layer.
    beside = _CORNER_SINK * (1 - smoothstep(1.0, 2.4, au)) * smoothstep(0.25, 0.95, au)
    fading = torch.exp(-((v.clamp(max=0) / 0.9) ** 2))
    jaw_wide = bell((x - face.mouth_x) / face.half_width, zero, 0.85, 1)
    neck = 1 - 0.9 * smoothstep(face.chin - 0.02, face.chin + 0.40, y)
    to_chin = smoothstep(0.55 * tall, tall + 0.75, v)
    skull, jaw = dict(both), dict(both)
    for name, half, power in (("jaw_spread", 0.95, 0.62), ("jaw_round", 0.64, 0.5)):
        open_ = (1 - (u / half) ** 2).clamp(min=0) ** power
        lower = torch.where(
            au < 1, _CORNER_SINK + (1 - _CORNER_SINK) * open_, _CORNER_SINK * (1 - smoothstep(1.0, 2.4, au))
        )
        if name == "jaw_round":
            lower = torch.maximum(open_, beside)
        upper = beside if name == "jaw_round" else torch.where(au < 1, _CORNER_SINK * smoothstep(0.3, half, au), lower)
        dropped = torch.lerp(lower, jaw_wide, to_chin) * neck * JAW_DROP
        rise = _UPPER_RISE if name == "jaw_spread" else 2.2 * _UPPER_RISE
        lifted = (upper - rise * open_) * fading * JAW_DROP
        inwards = -0.04 * m * outwards * corner
        skull[name], jaw[name] = shifts(inwards, lifted), shifts(inwards, dropped)
    ajar = (look_up(face.lower_lip, x) - look_up(face.upper_lip, x)) / 2 * torch.exp(-((au / 1.05) ** 8))
    skull["shut"] = shifts(zero, ajar * torch.exp(-((v.clamp(max=0) / 0.6) ** 2)))
    jaw["shut"] = shifts(zero, -ajar * torch.exp(-((v.clamp(min=0) / 0.9) ** 2)))
    within = torch.exp(-((u / 0.95) ** 4))
    roll = ROLL * m * within
    skull["press"] = shifts(zero, roll * torch.exp(-((v / 0.6) ** 2)))
    jaw["press"] = shifts(zero, -roll * torch.exp(-((v / 0.7) ** 2)))
    bite = m * torch.exp(-((u / 0.75) ** 4))
    skull["tuck"] = shifts(zero, -0.11 * bite * torch.exp(-((v / 0.6) ** 2)))
    jaw["tuck"] = shifts(zero, -TUCK * bite * torch.exp(-((v / 0.75) ** 2)))
    return _stacked(skull), _stacked(jaw)


def _stacked(layer: dict[str, Tensor]) -> Fields:
    return torch.stack([layer[name] for name in FACE_WEIGHTS])


def _brow_fields(face: PhotoFace, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    names = ("brow_in", "brow_out", "furrow", "lower_brow", "lift_brow", "arch_right")
    fields = {name: torch.zeros(2, *x.shape) for name in names}
    for eye in face.eyes:
        gap, half, side = eye.brow_gap, eye.half, eye.side
        above = y - (eye.brow_y - 0.10 * gap)
        above = torch.where(above < 0, above / 1.6, above)  # motion reaches further into the forehead than to the lid
        inner = bell(x - (eye.center - side * 0.75 * half), above, 0.95 * half, 0.70 * gap)
        outer = bell(x - (eye.center + side * 0.80 * half), above, 1.05 * half, 0.70 * gap)
        fields["brow_in"][1] -= 0.30 * gap * inner
        fields["brow_out"][1] -= 0.30 * gap * outer
        fields["furrow"][1] += gap * (0.26 * inner + 0.08 * outer)
        fields["furrow"][0] -= side * 0.20 * gap * inner
        fields["lower_brow"][1] += 0.09 * gap * (inner + outer)
        fields["lift_brow"][1] -= 0.10 * gap * (inner + outer)
        if side > 0:
            fields["arch_right"][1] -= 0.28 * gap * outer
    return fields


def _pose_fields(portrait: FramedPortrait, face: PhotoFace, x: Tensor, y: Tensor) -> Fields:
    crown = face.top - 0.30 * (face.chin - face.top)
    middle_y, half_height = (crown + face.chin) / 2, (face.chin - crown) / 2
    half_width = max(face.half_width, 0.40)
    radius = torch.sqrt(((x - face.center_x) / (1.22 * half_width)) ** 2 + ((y - middle_y) / (1.08 * half_height)) ** 2)
    frame = 1 - smoothstep(0.74, 0.95, x.abs())
    head = (1 - smoothstep(1.0, 1.75, radius)) * frame
    below = smoothstep(face.chin - 0.1, face.chin + 0.25, y)
    torso = below * (1 - smoothstep(0.35, 0.95, (x - face.center_x).abs())) * frame
    moves_x, moves_y = torch.maximum(head, 0.5 * torso), torch.maximum(head, 0.4 * torso)
    from_x, from_y = x - face.center_x, y - (face.chin - 0.05)
    rise, turn_x, turn_y = _depth(portrait, x, y), _YAW_SHIFT, _PITCH_SHIFT
    landmarks = torch.as_tensor(portrait.points, dtype=torch.float32)[[61, 291, 468, 473]].T.view(1, 2, 1, 4)
    rise = rise * head / at(rise[None, None], landmarks).mean().clamp(min=0.05)
    zero = torch.zeros_like(x)
    pairs = (
        (moves_x, zero),
        (zero, moves_y),
        (head * from_x, head * from_y),
        (-head * from_y, head * from_x),
        (turn_x * rise, zero),
        (zero, turn_y * rise),
    )
    return torch.stack([torch.stack(pair) for pair in pairs])


def _depth(portrait: FramedPortrait, x: Tensor, y: Tensor) -> Float[Tensor, "grid grid"]:
    """Compute the depth of the face relative to its outline, smoothed from the landmarks; 0 at the outline and beyond."""
    size = len(x)
    points, depth = portrait.points[: NUM_LANDMARKS - 10], portrait.depth[: NUM_LANDMARKS - 10]
    ring = portrait.points[list(OVAL)]
    center = ring.mean(0)
    beyond = np.concatenate([center + (ring - center) * scale for scale in (1.0, 1.12, 1.25, 1.4)])
    rim = depth[list(OVAL)]
    base = np.tile(rim, 4)
    samples = np.concatenate([points, beyond])
    values = np.concatenate([depth, base])
    cells = np.clip(((samples + 1) / 2 * size).astype(int), 0, size - 1)
    total, count = np.zeros((size, size)), np.full((size, size), 1e-6)
    np.add.at(total, (cells[:, 1], cells[:, 0]), values)
    np.add.at(count, (cells[:, 1], cells[:, 0]), 1)
    sigma = 0.045 * size
    smooth = gaussian_filter(total, sigma) / gaussian_filter(count, sigma)
    # The reference of depth 0 is the depth of the outline, interpolated over the face by the distance from its center.
    angle = np.arctan2(y.numpy() - center[1], x.numpy() - center[0])
    ring_angle = np.arctan2(ring[:, 1] - center[1], ring[:, 0] - center[0])
    order = np.argsort(ring_angle)
    outline = np.interp(angle, ring_angle[order], rim[order], period=2 * np.pi)
    ring_radius = np.interp(angle, ring_angle[order], np.hypot(*(ring - center).T)[order], period=2 * np.pi)
    radius = np.hypot(x.numpy() - center[0], y.numpy() - center[1]) / ring_radius
    blended = rim.mean() + (outline - rim.mean()) * np.clip(radius, 0, 1)
    rise = (smooth - blended) * (1 - np.clip((radius - 0.9) / 0.35, 0, 1))
    return torch.from_numpy(gaussian_filter(rise, 1.5)).float()
