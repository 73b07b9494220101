"""Each parameter moves its part of the photograph, in proportion, and no other part."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from emotivetalk.corpus.landmarks import frame_portrait
from emotivetalk.corpus.parameters import EXPRESSION, LIP, POSE, POSE_AT_REST
from emotivetalk.corpus.person import Person
from emotivetalk.corpus.photo_glasses import GlassesStyle
from emotivetalk.corpus.photo_renderer import PhotoRenderer
from emotivetalk.corpus.renderer import Frames
from tests.corpus.drawn_face import drawn_landmarks, drawn_picture


@pytest.fixture(scope="module")
def portrait():
    landmarks = drawn_landmarks()
    return frame_portrait(drawn_picture(landmarks), landmarks)


@pytest.fixture(scope="module")
def renderer(portrait) -> PhotoRenderer:
    return PhotoRenderer(portrait, seed=3)


def draw(person: Person, size: int = 256, **values: float | list[float]) -> Frames:
    """Frames with these parameters, the others at rest; a list gives one frame per value."""
    num = max((len(v) for v in values.values() if isinstance(v, list)), default=1)
    tracks = torch.zeros(num, 6), torch.zeros(num, 12), torch.from_numpy(POSE_AT_REST).repeat(num, 1)
    for name, value in values.items():
        for track, names in zip(tracks, (LIP, EXPRESSION, POSE), strict=True):
            if name in names:
                track[:, names.index(name)] = torch.tensor(value)
    return person.frames(*tracks, size)


def change(one: Frames, other: Frames) -> torch.Tensor:
    return (one.images - other.images).abs().mean(1, keepdim=True)


def test_at_rest_is_the_photograph(renderer, portrait):
    error = (draw(renderer).images - F.avg_pool2d(portrait.picture[None], 2)).abs()
    assert error.mean() < 1e-3
    assert error.max() < 0.1


def test_jaw_moves_the_lower_face_alone(renderer):
    moved = change(draw(renderer), draw(renderer, jaw=1.0))
    nose = int((renderer.face.nose_base - 0.12 + 1) * 128)
    assert moved[:, :, :nose].max() < 6e-3
    assert moved[:, :, nose:].max() > 0.3


def opening(frames: Frames) -> torch.Tensor:
    """Rows of the mouth's mask in the middle column, in pixels."""
    column = (frames.mouth_mask * (frames.mouth_mask > 0.5))[:, 0].sum(1)
    return column.max(1).values


def test_jaw_opens_in_proportion_and_alike_on_every_face(renderer):
    landmarks = drawn_landmarks(width=0.30, center=(0.45, 0.55))
    other = PhotoRenderer(frame_portrait(drawn_picture(landmarks, skin=(110, 75, 60)), landmarks))
    for each in (renderer, other):
        rows = opening(draw(each, jaw=[0.0, 0.25, 0.5, 0.75, 1.0]))
        steps = (rows[1:] - rows[:-1]).numpy()
        assert (steps > 3).all(), steps
        assert np.ptp(steps) < 2.5, steps
    assert abs(float(opening(draw(renderer, jaw=1.0)) - opening(draw(other, jaw=1.0)))) < 2.5


def test_press_shuts_an_open_jaw(renderer):
    rows = opening(draw(renderer, jaw=[0.0, 0.8], press=[1.0, 1.0]))
    assert abs(float(rows[1] - rows[0])) < 1


def test_pucker_narrows_and_wide_widens(renderer):
    masks = draw(renderer, pucker=[0.0, 1.0, 0.0], wide=[0.0, 0.0, 1.0]).mouth_mask
    widths = (masks > 0.5).any(2)[:, 0].sum(1).tolist()
    assert widths[1] < 0.8 * widths[0] < widths[0] < widths[2]


def test_gap_is_dark_and_inside_the_mouth_mask(renderer):
    rest, open_ = draw(renderer), draw(renderer, jaw=1.0)
    dark = (open_.images.mean(1, keepdim=True) < 0.2) & (rest.images.mean(1, keepdim=True) > 0.3)
    dark = dark & (open_.face_mask > 0.5)
    assert dark.sum() > 150
    assert (open_.mouth_mask[dark] > 0.5).float().mean() > 0.97


def test_masks_follow_the_head(renderer):
    rest, moved = draw(renderer), draw(renderer, tx=0.05)

    def center(mask: torch.Tensor) -> float:
        return float((mask[0, 0].sum(0) * torch.arange(256)).sum() / mask.sum())

    for name in ("face_mask", "mouth_mask", "eye_mask"):
        assert center(getattr(moved, name)) - center(getattr(rest, name)) == pytest.approx(0.05 * 128, abs=0.7), name


def test_background_far_from_the_head_stays(renderer):
    rest = draw(renderer)
    moved = draw(renderer, tx=0.05, ty=-0.05, rot=0.1, scale=1.03, yaw=0.7, pitch=-0.7, jaw=1.0)
    difference = change(rest, moved)[0, 0]
    for rows, columns in (
        (slice(0, 40), slice(0, 12)),
        (slice(0, 40), slice(244, 256)),
        (slice(100, 200), slice(0, 8)),
    ):
        assert difference[rows, columns].max() < 0.02


def test_blink_covers_the_eyes_alone(renderer):
    rest, shut = draw(renderer), draw(renderer, blink=1.0)
    moved = change(rest, shut)
    assert moved[rest.eye_mask < 0.02].max() < 0.05
    white = rest.images.min(1, keepdim=True).values > 0.8
    assert white.sum() > 50
    assert ((shut.images.min(1, keepdim=True).values > 0.8) & white).sum() < 0.1 * white.sum()


def test_gaze_moves_the_irises(renderer):
    eye = renderer.face.eyes[0]
    row, start, end = (int((v + 1) * 128) for v in (eye.iris_y, eye.left, eye.right))

    def iris(frames: Frames) -> float:
        darkness = 1 - frames.images[0, :, row, start + 2 : end - 2].mean(0)
        return float((darkness**4 * torch.arange(len(darkness))).sum() / (darkness**4).sum())

    assert iris(draw(renderer, gaze_x=1.0)) > iris(draw(renderer)) + 1 > iris(draw(renderer, gaze_x=-1.0)) + 2


@pytest.mark.parametrize("name", [n for n in (*LIP, *EXPRESSION, *POSE) if n not in ("gaze_y", "tongue")])
def test_every_parameter_changes_the_frame(renderer, name):
    assert change(draw(renderer), draw(renderer, **{name: 0.9 if name == "scale" else 0.6})).max() > 0.02


def test_mirrored_person_is_mirrored_frames(portrait):
    person, mirrored = PhotoRenderer(portrait), PhotoRenderer(portrait.mirrored())
    common = {"wide": 0.5, "smile": 0.7, "brow_in": 0.5, "blink": 0.3, "pitch": 0.4}
    one = draw(person, gaze_x=0.4, yaw=0.5, tx=0.03, rot=0.05, **common)
    other = draw(mirrored, gaze_x=-0.4, yaw=-0.5, tx=-0.03, rot=-0.05, **common)
    assert (one.images.flip(-1) - other.images).abs().mean() < 0.004
    assert (one.mouth_mask.flip(-1) - other.mouth_mask).abs().mean() < 0.004


def test_same_seed_same_frames_and_batches_do_not_matter(portrait):
    jaws = [0.2, 0.9, 0.5]
    first, again = (draw(PhotoRenderer(portrait, seed=5), jaw=jaws).images for _ in range(2))
    assert torch.equal(first, again)
    single = torch.cat([draw(PhotoRenderer(portrait, seed=5), jaw=jaw).images for jaw in jaws])
    assert (first - single).abs().mean() < 1e-4
    assert not torch.equal(first, draw(PhotoRenderer(portrait, seed=6), jaw=jaws).images)


@pytest.mark.parametrize("size", [64, 200, 256, 384])
def test_any_size(renderer, size):
    frames = draw(renderer, size, jaw=[0.5, 0.0])
    assert frames.images.shape == (2, 3, size, size)
    assert frames.mouth_mask.shape == frames.face_mask.shape == frames.eye_mask.shape == (2, 1, size, size)
    for plane in vars(frames).values():
        assert 0 <= plane.min() <= plane.max() <= 1


def test_glasses_move_with_the_head_and_not_with_the_brows(portrait, renderer):
    style = GlassesStyle(color=0, thickness=0.012, width=0.16, height=0.11, power=2.5)
    wearer = PhotoRenderer(portrait, seed=3, glasses=style)

    def frame(**values: float) -> torch.Tensor:
        return change(draw(renderer, **values), draw(wearer, **values)) > 0.15

    assert frame().sum() > 300
    rows = frame().any(3)[0, 0].nonzero()
    assert torch.equal(frame(brow_in=1.0, brow_out=1.0).any(3)[0, 0].nonzero()[0], rows[0])
    assert abs(int(frame(ty=0.04).any(3)[0, 0].nonzero()[0]) - int(rows[0]) - 5) <= 1
