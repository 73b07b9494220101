"""Renderer of avatars: pictures and exact masks from identities, lips, expressions and poses (ours).

Everything is a signed distance or a smooth bump in the plane of the face, evaluated in PyTorch for a batch of frames on a
CPU or a GPU. Features are painted from back to front; each computes only the pixels of its region.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from emotivetalk.corpus.avatar import Identity
from emotivetalk.corpus.canvas import Canvas, Field, bell, ellipse, smoothstep, superellipse
from emotivetalk.corpus.parameters import EXPRESSION, LIP, POSE

FACE_TO_PICTURE = 1.22
"""Half pictures per face unit at scale 1."""

MOUTH_REGION = (-0.44, 0.44, 0.02, 0.86)
"""Left, right, top and bottom of the mouth's region in face units; large enough for every mouth."""

INK = (0.13, 0.12, 0.13)
GUM = (0.80, 0.30, 0.34)
CAVITY = (0.26, 0.06, 0.08)
TONGUE = (0.82, 0.36, 0.38)
TEETH = (0.97, 0.955, 0.93)
SCLERA = (0.985, 0.98, 0.97)


@dataclass(frozen=True)
class Frames:
    """Rendered frames and the masks of their parts, all in 0..1."""

    images: Float[Tensor, "batch 3 size size"]
    face_mask: Float[Tensor, "batch 1 size size"]
    mouth_mask: Float[Tensor, "batch 1 size size"]
    eye_mask: Float[Tensor, "batch 1 size size"]


@dataclass(frozen=True)
class _Head:
    """Parameters of a batch of heads; numbers have shape `batch 1 1`, colors `batch 3 1 1`."""

    who: SimpleNamespace
    lip: SimpleNamespace
    face: SimpleNamespace
    pose: SimpleNamespace


@torch.no_grad()
def render(
    identity: Identity,
    lip: Float[Tensor, "batch 6"],
    expression: Float[Tensor, "batch 12"],
    pose: Float[Tensor, "batch 6"],
    size: int = 256,
    supersample: int = 1,
) -> Frames:
    """Draw one frame for each row of the parameters (`emotivetalk.corpus.parameters` names the columns).

    Args:
        identity: one person for each row.
        size: side of the square pictures in pixels.
        supersample: factor of an enlarged rendering that is averaged down; edges are already smooth at 1.
    """
    head = _Head(
        who=SimpleNamespace(
            **{k: v[(...,) + (None,) * 2] for k, v in vars(identity).items() if v.dim() == 1},
            **{k: v[..., None, None] for k, v in vars(identity).items() if v.dim() == 2},
        ),
        lip=_columns(lip, LIP),
        face=_columns(expression, EXPRESSION),
        pose=_columns(pose, POSE),
    )
    side = size * supersample
    axis = (torch.arange(side, device=lip.device, dtype=torch.float32) + 0.5) / side * 2 - 1
    picture_x, picture_y = axis.view(1, 1, side), axis.view(1, side, 1)
    scale = head.pose.scale * FACE_TO_PICTURE
    pixel = 2 / side / FACE_TO_PICTURE

    image = _background(head, picture_x, picture_y)
    cos, sin = torch.cos(head.pose.rot), torch.sin(head.pose.rot)
    x, y = (picture_x - head.pose.tx) / scale, (picture_y - head.pose.ty) / scale + 0.02 - 0.45
    canvas = Canvas(image, cos * x + sin * y, cos * y - sin * x + 0.45, pixel)
    torso = Canvas(
        image,
        ((picture_x - 0.55 * head.pose.tx) / scale).expand_as(canvas.x),
        ((picture_y - 0.4 * head.pose.ty) / scale + 0.10).expand_as(canvas.y),
        pixel,
    )
    _hair_behind(canvas, head)
    _body(torso.region(-2, 2, 0.1, 2), head)
    _ears(canvas, head)

    skull = canvas.region(-0.62, 0.62, -0.72, 0.86)
    inside, face = _skin(skull, head)
    features = face.shifted(0.075 * head.pose.yaw, 0.055 * head.pose.pitch)
    _cheeks_and_folds(features, head)
    _forehead(features.region(-0.62, 0.62, -0.62, 0.40), head)
    _beard(features, skull, head)
    _nose(features.region(-0.32, 0.32, -0.42, 0.46), head)
    mouth_mask = _mouth(features.region(*MOUTH_REGION), head)
    eyes = features.region(-0.58, 0.58, -0.62, 0.30)
    for side_sign in (-1, 1):
        _eye(eyes.region(*((-0.58, 0.12) if side_sign < 0 else (-0.12, 0.58)), -0.62, 0.30), head, side_sign)
    if head.who.glasses.any():
        _glasses(eyes, head)
    hairline = _hairline(skull, head)
    face.shade(1 - 0.26 * (1 - smoothstep(-0.02, 0.09, skull.y - hairline)))
    skull.paint(face.image.clamp_(0, 1), inside)
    _hair_in_front(canvas.region(-0.72, 0.72, -0.80, 0.95), head)

    image.clamp_(0, 1)
    face_mask = torch.zeros_like(image[:, :1])
    Canvas(face_mask, canvas.x, canvas.y, pixel).region(-0.62, 0.62, -0.72, 0.86).image.copy_(inside.unsqueeze(1))
    mouth = torch.zeros_like(face_mask)
    whole = Canvas(mouth, canvas.x, canvas.y, pixel).region(-0.62, 0.62, -0.72, 0.86)
    whole.shifted(0.075 * head.pose.yaw, 0.055 * head.pose.pitch).region(*MOUTH_REGION).image.copy_(
        mouth_mask.unsqueeze(1)
    )
    fx, fy = canvas.x - 0.075 * head.pose.yaw, canvas.y - 0.055 * head.pose.pitch
    who = head.who
    left, right = (bell(fx - s * who.eye_x, fy - who.eye_y, who.eye_size * 1.5, who.eye_size * 1.1) for s in (-1, 1))
    eye_mask = (2 * (left + right)).clamp(0, 1).unsqueeze(1)
    frames = Frames(image, face_mask, mouth, eye_mask)
    if supersample == 1:
        return frames
    return Frames(*(F.avg_pool2d(plane, supersample) for plane in vars(frames).values()))


def _columns(values: Float[Tensor, "batch columns"], names: tuple[str, ...]) -> SimpleNamespace:
    return SimpleNamespace(**{name: values[:, i].view(-1, 1, 1) for i, name in enumerate(names)})


def _color(like: Tensor, rgb: tuple[float, float, float]) -> Float[Tensor, "1 3 1 1"]:
    return like.new_tensor(rgb).view(1, 3, 1, 1)


def _background(head: _Head, x: Tensor, y: Tensor) -> Float[Tensor, "batch 3 height width"]:
    halo = bell(x - 0.15, y + 0.25, 0.9, 0.9)
    return (head.who.background * (0.85 - 0.05 * y).unsqueeze(1) + 0.16 * halo.unsqueeze(1)).clamp(0, 1).contiguous()


def _hair_behind(canvas: Canvas, head: _Head) -> None:
    who = head.who
    if not (who.hair_length > 0).any():
        return
    part = canvas.region(-0.78, 0.78, -0.85, 1.1)
    x, y, length = part.x, part.y, who.hair_length
    wave = 0.012 * torch.sin(y * 22 + x * 6 + who.hair_wave * 6) * who.hair_wave
    below = torch.where(y > -0.06, who.face_height * (0.25 + 1.35 * length), who.face_height * 1.16)
    radius = superellipse(x, y + 0.06, who.face_width * 1.20 + 0.05 * length + wave, below, 2.4)
    strands = 0.05 * torch.sin(x * 55 + 4 * torch.sin(y * 6) + who.parting * 9)
    tone = 0.52 + 0.12 * (1 - ((x + 0.12) / (who.face_width * 1.3)) ** 2).clamp(0, 1) + 0.7 * strands
    coverage = part.cover((radius - 1) * who.face_width) * (length > 0)
    part.paint((who.hair * tone.unsqueeze(1)).clamp(0, 1), coverage)


def _body(torso: Canvas, head: _Head) -> None:
    who, x, y = head.who, torso.x, torso.y
    neck = torso.cover(torch.maximum(x.abs() - (who.face_width * 0.42 + 0.05 * smoothstep(0.55, 0.85, y)), 0.2 - y))
    tone = 0.80 - 0.26 * bell(x, y - (0.55 + 0.06 * head.lip.jaw), 0.42, 0.17) - 0.06 * (x / 0.25).clamp(-1, 1)
    torso.paint((who.skin * _color(x, (1.0, 0.94, 0.92)) * tone.unsqueeze(1)).clamp(0, 1), neck)
    shoulders = torch.maximum((0.80 + 0.42 * x.abs().clamp(0, 2) ** 2 - y) * 0.8, (x.abs() - 1.05) * 0.3)
    collar = ellipse(x, y - 0.66, who.face_width * 0.62, 0.17)
    tone = 0.92 - 0.22 * x.abs() - 0.16 * smoothstep(0.75, 1.1, y) - 0.20 * bell(x, y - 0.78, 0.5, 0.10)
    torso.paint((who.cloth * tone.unsqueeze(1)).clamp(0, 1), torso.cover(torch.maximum(shoulders, -collar)))
    hem = torso.cover(collar.abs() - 0.013) * torso.cover(0.73 - y) * torso.cover(shoulders - 0.01) * 0.9
    torso.paint(who.cloth * 0.72, hem)


def _ears(canvas: Canvas, head: _Head) -> None:
    who = head.who
    for side in (-1, 1):
        bounds = (-0.64, -0.3) if side < 0 else (0.3, 0.64)
        part = canvas.region(*bounds, -0.18, 0.22)
        x, y = part.x - side * who.face_width * 0.985 + 0.03 * head.pose.yaw, part.y - 0.02
        part.paint(who.skin * 0.88, part.cover(ellipse(x, y, 0.075 * who.ear_size, 0.115 * who.ear_size)))
        hollow = ellipse(x - side * 0.006, y, 0.036 * who.ear_size, 0.066 * who.ear_size)
        part.paint(who.skin * _color(x, (0.78, 0.64, 0.60)), part.cover(hollow, 6) * 0.65)


def _skin(skull: Canvas, head: _Head) -> tuple[Field, Canvas]:
    """Return the coverage of the head, and a separate canvas for the features on it."""
    who, x, y = head.who, skull.x, skull.y
    chin = who.face_height + who.chin + 0.085 * head.lip.jaw
    height = torch.where(y > 0, y / chin, y / (who.face_height * 1.02))
    taper = 1 - (1 - who.jaw_width) * smoothstep(-0.1, 1.0, height) - 0.10 * smoothstep(0.45, 1.05, height)
    width = who.face_width * taper
    radius = superellipse(x, height, width, 1.0, 2.25)
    inside = skull.cover((radius - 1) * who.face_width * 0.95)
    normal_x, normal_y = (x / (width * 1.03)).clamp(-1, 1), height.clamp(-1, 1)
    normal_z = torch.sqrt((1 - normal_x**2 - normal_y**2).clamp(0.02, 1))
    light = (-0.42 * normal_x - 0.48 * normal_y + 0.77 * normal_z).clamp(0, 1.2)
    warm = smoothstep(0.2, 0.9, light).unsqueeze(1)
    shadow = _color(x, (1.0, 0.90, 0.88))
    image = who.skin * (0.70 + 0.34 * light).unsqueeze(1) * (shadow + (1 - shadow) * warm)
    return inside, Canvas(image, x, y, skull.pixel)


def _cheeks_and_folds(features: Canvas, head: _Head) -> None:
    who, e = head.who, head.face
    part = features.region(-0.62, 0.62, -0.50, 0.70)
    x, y = part.x, part.y
    smile = e.smile.clamp(0, 1)
    cheek = bell(x.abs() - 0.27, y - 0.17 + 0.02 * e.smile, 0.12, 0.085)
    blush = 0.22 + 0.53 * e.blush.clamp(0, 1) + 0.13 * smile
    part.paint(part.image * _color(x, (1.03, 0.70, 0.68)), (cheek * blush).clamp(0, 0.8))
    pallor = 0.30 * (-e.blush).clamp(0, 1) * bell(x, y - 0.14, 0.42, 0.26)
    part.paint((0.55 * part.image + 0.42).clamp(0, 1), pallor)
    part.light(0.05 * smile * bell(x.abs() - 0.25, y - 0.125, 0.07, 0.05))
    depth = (0.55 * smile + 0.6 * e.sneer).clamp(0, 1)
    crease = (x.abs() - (0.115 + 0.085 * smoothstep(0.12, 0.36, y) + 0.015 * e.smile)).abs() - 0.003
    along = smoothstep(0.10, 0.18, y) * (1 - smoothstep(0.26, 0.34, y))
    part.shade(1 - 0.22 * part.cover(crease, 7) * depth * along)
    if who.freckles.any():
        spots = torch.sin(x * 95 + 2 * torch.sin(y * 60)) * torch.sin(y * 88 + 1.7 * torch.sin(x * 71))
        near = bell(x.abs() - 0.2, y - 0.13, 0.16, 0.07)
        part.shade(1 - 0.22 * smoothstep(0.70, 0.95, spots) * near * who.freckles)


def _forehead(part: Canvas, head: _Head) -> None:
    who, e, x, y = head.who, head.face, part.x, part.y
    part.shade(1 - 0.10 * bell(x.abs() - who.eye_x, y - who.eye_y + 0.03, 0.15, 0.11))
    furrow = part.cover((x.abs() - 0.026 - 0.02 * (y - who.eye_y + 0.1)).abs() - 0.004, 3)
    part.shade(1 - 0.36 * furrow * bell(x, y - who.eye_y + 0.12, 0.06, 0.05) * e.furrow.clamp(0, 1))
    wrinkles = (torch.sin((y - x.abs() * 0.5) * 150) * 0.5 + 0.5) * bell(x, y - who.eye_y - 0.03, 0.05, 0.04)
    part.shade(1 - 0.30 * wrinkles * e.sneer.clamp(0, 1))
    lines = (torch.sin((y + 0.02 * torch.cos(x * 9)) * 105) * 0.5 + 0.5) ** 4 * bell(x, y + 0.30, 0.22, 0.06)
    part.shade(1 - 0.18 * lines * (0.3 * e.brow_in + 0.7 * e.brow_out).clamp(0, 1))


def _beard(features: Canvas, skull: Canvas, head: _Head) -> None:
    who, x, y = head.who, features.x, features.y
    if not who.beard.any():
        return
    cheek_line = smoothstep(0.16, 0.34, y + 0.10 * x.abs())
    mouth_free = 1 - bell(x, y - who.mouth_y - 0.01, 0.17, 0.05)
    texture = 0.86 + 0.07 * torch.sin(x * 140 + y * 70) * torch.sin(y * 120)
    coverage = (cheek_line * mouth_free * 0.82 * who.beard).clamp(0, 1)
    features.paint((who.hair * 0.85 * texture.unsqueeze(1)).clamp(0, 1), coverage)


def _nose(part: Canvas, head: _Head) -> None:
    who, e, x = head.who, head.face, part.x
    width = who.nose_width
    y = part.y - (who.eye_y + who.nose_length - 0.012 * e.sneer)
    part.shade(1 - 0.15 * bell(x - 0.022 - 0.03 * head.pose.yaw, y + 0.07, 0.022, 0.085))
    part.shade(1 - 0.24 * bell(x, y - 0.035, width * 1.15, 0.020))
    part.light(0.13 * bell(x + 0.012, y + 0.005, 0.024, 0.026) + 0.05 * bell(x + 0.008, y + 0.10, 0.016, 0.085))
    nostril = ellipse(x.abs() - width * 0.55, y - 0.022 + 0.006 * e.sneer, width * 0.23, torch.full_like(width, 0.0105))
    part.shade(1 - 0.48 * part.cover(nostril, 2))
    wing = ellipse(x.abs() - width * 0.82, y - 0.004, width * 0.34, torch.full_like(width, 0.032)).abs() - 0.003
    part.shade(1 - 0.24 * part.cover(wing, 3) * smoothstep(width * 0.86, width * 1.05, x.abs()))


def _mouth(part: Canvas, head: _Head) -> Field:
    who, lip, e, x, y = head.who, head.lip, head.face, part.x, part.y
    smile, gladness = e.smile, e.smile.clamp(0, 1)
    right = torch.sigmoid(x * 60)
    half = who.mouth_width * (
        1 + 0.20 * lip.wide - 0.36 * lip.pucker + 0.20 * gladness + 0.06 * smile.clamp(-1, 0) + 0.08 * e.asym * right
    )
    u = x / half
    across = u.clamp(-1, 1)
    arch = 1 - across**2
    smirk = 0.052 * e.asym.clamp(0, 1.3) * torch.tanh(x * 14).clamp(0, 1)
    corners = (0.062 * smile + smirk) * across.abs() ** 1.7
    line = who.mouth_y + 0.0213 * lip.jaw + 0.012 * smile - corners
    opening = lip.jaw * (1 - lip.press)
    thickness = who.lip_thickness * (1 + 0.55 * lip.pucker - 0.55 * lip.press - 0.10 * lip.wide)
    curve = arch.clamp(1e-4, 1) ** (0.62 + 0.25 * (1 - lip.pucker))
    upper = line - (0.020 * opening + 0.018 * e.sneer + 0.010 * gladness * opening) * curve
    lower = line + (0.175 * opening + 0.012 * e.sneer) * curve - 0.010 * lip.tuck * arch
    bow = 0.16 * torch.exp(-((across / 0.20) ** 2)) - 0.10 * torch.exp(-((across / 0.50) ** 2))
    top = upper - thickness * (0.78 - 1.1 * bow) * arch.clamp(0, 1) ** 0.75
    bottom = lower + thickness * 1.12 * (1 - 0.55 * lip.tuck) * arch.clamp(0, 1) ** 0.60
    within = part.cover((u.abs() - 1) * half, 1.5)
    lips = torch.minimum(part.cover(top - y, 1.4), part.cover(y - bottom, 1.4)) * within
    gap = torch.minimum(part.cover(upper - y, 1.2), part.cover(y - lower, 1.2)) * within
    gap = gap * smoothstep(0.01, 0.05, lower - upper)

    part.shade(1 - 0.20 * bell(x, y - bottom - 0.030, 0.10, 0.022))
    part.shade(1 - 0.06 * bell(x, y - top + 0.03, 0.02, 0.03))
    skin_tone = who.skin * _color(x, (0.93, 0.60, 0.58))
    tone = skin_tone + (_color(x, GUM) - skin_tone) * (0.25 + 0.45 * who.lip_redness).unsqueeze(1)
    down = ((y - lower) / (bottom - lower + 1e-3)).clamp(0, 1)
    up = ((y - top) / (upper - top + 1e-3)).clamp(0, 1)
    gloss = 0.15 * bell(across + 0.1, down - 0.35, 0.42, 0.25) * (y > lower)
    shading = torch.where(y < (upper + lower) / 2, 0.80 + 0.10 * up, 1.02 - 0.16 * down) + gloss
    part.paint((tone * shading.unsqueeze(1)).clamp(0, 1), lips)
    seam = part.cover((y - (upper + lower) / 2).abs() - 0.0045, 2) * within
    part.paint(tone * 0.42, seam * (1 - gap) * 0.85)

    inner = _color(x, CAVITY) * (1 - 0.35 * smoothstep(0, 0.12, y - upper)).unsqueeze(1)
    inside = Canvas(inner.expand_as(part.image).contiguous(), x, y, part.pixel)
    tongue = ellipse(x, y - lower - 0.055 + 0.055 * lip.tongue, half * 0.66, torch.full_like(half, 0.075))
    tongue_tone = (0.9 - 0.25 * smoothstep(0, 0.05, y - lower + 0.055)).unsqueeze(1)
    inside.paint(_color(x, TONGUE) * tongue_tone, inside.cover(tongue, 3) * 0.9)
    edge = upper + 0.034 - 0.010 * across**2
    enamel = 1 - 0.10 * across.abs() - 0.06 * smoothstep(0.90, 1.0, torch.cos(x * 190))
    teeth = inside.cover(y - edge, 1.5) * inside.cover(x.abs() - half * 0.80, 3)
    inside.paint(_color(x, TEETH) * enamel.unsqueeze(1), teeth * 0.97)
    lower_teeth = inside.cover(lower - 0.020 - y, 1.5) * inside.cover(x.abs() - half * 0.62, 3)
    inside.paint(_color(x, TEETH) * 0.92, lower_teeth * (1 - lip.tongue).clamp(0, 1) * 0.6)
    part.paint(inside.image, gap)
    bite = part.cover((y - upper - 0.004).abs() - 0.011, 1.5) * part.cover(x.abs() - half * 0.55, 3)
    part.paint(_color(x, TEETH), bite * (lip.tuck * 0.9).clamp(0, 1))
    dimple = bell(x.abs() - half - 0.012, y - line, 0.018, 0.03) * (0.5 * smile.abs() + 0.5 * e.asym * right)
    part.shade(1 - 0.16 * dimple.clamp(0, 1))
    return torch.maximum(lips, gap)


def _eye(part: Canvas, head: _Head, side: int) -> None:
    who, e = head.who, head.face
    size = who.eye_size * 1.14
    dx = part.x - side * who.eye_x
    y = part.y - who.eye_y + side * who.eye_tilt * 0.35 * dx
    t = dx / size
    across = t.clamp(-1, 1)
    arch = (1 - across**2).clamp(1e-5, 1)
    open_ = (1 - e.blink).clamp(0, 1)
    droop = 0.10 * e.asym.clamp(0, 1) * (side > 0)
    lid_height = size * (0.62 + 0.30 * e.eye_wide.clamp(-1, 1.2) - 0.16 * e.squint - 0.10 * e.furrow - droop) * open_
    pouch_height = (
        size * (0.44 + 0.05 * e.eye_wide - 0.30 * e.squint - 0.06 * e.smile.clamp(0, 1)) * (0.35 + 0.65 * open_)
    )
    slant = (0.16 * e.furrow - 0.14 * e.brow_in * (1 - e.brow_out)) * size * (-side * across) * open_
    lower = pouch_height * arch**0.72
    upper = -lid_height * arch**0.58 + pouch_height * (1 - open_) * 0.55 * arch + 0.9 * slant * arch
    within = part.cover((t.abs() - 1) * size, 1.2)
    ball = torch.minimum(part.cover(upper - y, 1.2), part.cover(y - lower, 1.2)) * within

    crease = part.cover((y - (upper - size * 0.20 * open_ - 0.006)).abs() - 0.003, 2.5)
    part.shade(1 - 0.26 * crease * part.cover((t.abs() - 0.92) * size, 3) * (0.4 + 0.6 * open_))
    tone = 1 - 0.20 * torch.exp(-(((y - upper) / 0.030) ** 2)) - 0.06 * across.abs()
    eye = Canvas((_color(y, SCLERA) * tone.unsqueeze(1)).expand_as(part.image).contiguous(), dx, y, part.pixel)
    gx = dx - 0.030 * e.gaze_x - 0.012 * head.pose.yaw
    gy = y - 0.020 * e.gaze_y
    radius = size * 0.56
    distance = torch.sqrt(gx**2 + (gy + 0.004) ** 2 + 1e-9)
    glow = 0.62 + 0.55 * smoothstep(-0.6, 1.0, gy / radius) - 0.40 * smoothstep(0.78, 1.0, distance / radius)
    eye.paint((who.iris * glow.unsqueeze(1)).clamp(0, 1), eye.cover(distance - radius, 1.2))
    pupil = radius * (0.50 - 0.07 * e.squint + 0.06 * e.eye_wide)
    eye.paint(who.iris * 0.12, eye.cover(distance - pupil, 1.2))
    white = torch.ones_like(part.image[:, :, :1, :1])
    spark = torch.sqrt((gx + radius * 0.34) ** 2 + (gy + radius * 0.40) ** 2 + 1e-9) - radius * 0.24
    eye.paint(white, eye.cover(spark, 1.5) * 0.95)
    spark = torch.sqrt((gx - radius * 0.34) ** 2 + (gy - radius * 0.36) ** 2 + 1e-9) - radius * 0.11
    eye.paint(white, eye.cover(spark, 1.5) * 0.55)
    part.paint(eye.image, ball)

    lash = part.cover((y - upper).abs() - (0.0085 + 0.006 * smoothstep(-0.2, 1.0, side * t)), 1.3)
    lash_color = who.hair * 0.22 + 0.03
    part.paint(lash_color, lash * part.cover((t.abs() - 1.04) * size, 1.5) * 0.95)
    flick = part.cover((y - upper + 0.35 * (side * dx - size * 0.9)).abs() - 0.006, 1.5)
    flick = flick * part.cover((side * dx - size * 1.16).abs() - size * 0.14, 2) * (who.hair_length > 0)
    part.paint(lash_color, flick * 0.8)
    part.paint(
        part.image * 0.62, part.cover((y - lower).abs() - 0.0028, 1.6) * part.cover((t.abs() - 0.9) * size, 2) * 0.6
    )
    pouch = part.cover((y - lower - 0.022).abs() - 0.002, 5) * part.cover((t.abs() - 0.75) * size, 5)
    part.shade(1 - 0.22 * pouch * (0.8 * e.squint + 0.3 * e.smile.clamp(0, 1)).clamp(0, 1))
    _brow(part, head, side, dx / size)


def _brow(part: Canvas, head: _Head, side: int, t: Field) -> None:
    who, e = head.who, head.face
    size = who.eye_size * 1.14
    beyond = side * t  # -1 at the nose, +1 at the temple
    along = beyond.clamp(-1.3, 1.35)
    inner, outer = smoothstep(1.2, -1.2, along), smoothstep(-1.1, 0.7, along)
    arch = 0.024 * (1 - ((along - 0.25) / 1.3) ** 2)
    lift = 0.052 * e.brow_in * inner + 0.058 * e.brow_out * outer + 0.022 * e.eye_wide.clamp(0, 1)
    lift = lift + 0.050 * e.asym.clamp(0, 1.2) * outer * (side > 0) - 0.018 * e.asym.clamp(0, 1) * (side < 0)
    drop = 0.050 * e.furrow * inner + 0.012 * e.furrow + 0.020 * e.squint + 0.018 * e.sneer
    center = who.eye_y - who.brow_height - arch + 0.010 - lift + drop
    thickness = (
        who.brow_thickness * (1 - 0.60 * smoothstep(0.1, 1.3, along)) * (0.72 + 0.28 * smoothstep(-1.3, -0.7, along))
    )
    distance = torch.maximum(
        (part.y - center).abs() * 0.93 - thickness, ((beyond - 0.05 + 0.10 * e.furrow).abs() - 1.16) * size
    )
    hairs = 0.60 + 0.05 * torch.sin(along * 46 + (part.y - center) * 90)
    part.paint((who.hair * hairs.unsqueeze(1)).clamp(0, 1), part.cover(distance, 2.6) * 0.93)


def _glasses(part: Canvas, head: _Head) -> None:
    who = head.who
    size = who.eye_size * 1.14
    ink = _color(part.x, INK)
    y = part.y - who.eye_y - 0.01
    for side in (-1, 1):
        x = part.x - side * who.eye_x * 1.02
        distance = (superellipse(x, y, size * 1.42, size * 1.18, 3) - 1) * size * 1.1
        part.paint((part.image * 0.94 + 0.06).clamp(0, 1), part.cover(distance) * who.glasses * 0.5)
        part.paint(ink, part.cover(distance.abs() - 0.010, 1.3) * who.glasses)
    bridge = part.cover((y + 0.02).abs() - 0.009, 1.3) * part.cover(part.x.abs() - (who.eye_x - size * 1.28), 1.3)
    part.paint(ink, bridge * who.glasses)


def _hairline(part: Canvas, head: _Head) -> Field:
    """Compute the lower edge of the hair on the forehead for the styles swept, fringe, parted and crop."""
    who, x = head.who, part.x
    middle = x.abs() / who.face_width
    styles = (
        0.42 * (x - who.parting * 0.6) ** 2,
        0.10 + 0.05 * torch.sin((x + who.parting) * 9) - 0.14 * middle**2 + 0.40 * middle**4,
        -0.06 + 0.48 * (x - who.parting * 0.5).abs() ** 1.5,
        -0.02 + 0.62 * middle**3,
    )
    return who.hairline + sum(shape * (who.hair_style == i) for i, shape in enumerate(styles))


def _hair_in_front(part: Canvas, head: _Head) -> None:
    who, x, y = head.who, part.x, part.y
    width, length = who.face_width, who.hair_length
    crop = (who.hair_style == 3).float()
    wave = 0.012 * torch.sin(y * 22 + x * 6 + who.hair_wave * 6) * who.hair_wave
    volume = 1.07 + 0.05 * (1 - crop)
    radius = superellipse(
        x, y + 0.035, width * (volume + 0.05 * length) + 0.5 * wave, who.face_height * (volume + 0.05) + 0.6 * wave, 2.3
    )
    cap = (radius - 1) * width
    fringe = torch.maximum(cap, (y - _hairline(part, head)) * 0.8)
    temple = width * (0.90 - 0.05 * length) - 0.05 * smoothstep(0.1, -0.3, y) - x.abs()
    sides = torch.maximum(cap, torch.maximum(temple, y - (0.02 + 0.75 * length)))
    angle = torch.atan2(x - who.parting * 0.5, -(y + 0.9))
    strands = 0.06 * torch.sin(angle * 70 + 3 * torch.sin(y * 7)) + 0.03 * torch.sin(angle * 140 + 1.3)
    shine = torch.exp(-(((radius - 0.80 - 0.05 * torch.sin(angle * 30)) / 0.07) ** 2)) * smoothstep(0.25, -0.45, y)
    shine = 0.34 * shine * (1 - 0.45 * x / width).clamp(0.2, 1.4)
    tone = 0.78 + 0.20 * (1 - radius).clamp(0, 1) + strands - 0.10 * smoothstep(0.0, width, x)
    color = who.hair * tone.unsqueeze(1) + shine.unsqueeze(1) * (0.25 + 0.75 * who.hair) * 0.75
    part.paint(color.clamp(0, 1), part.cover(torch.minimum(fringe, sides), 1.4))
