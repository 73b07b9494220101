"""The renderer: each parameter changes only its part of the picture, masks match, and batches equal single frames."""

import pytest
import torch

from emotivetalk.corpus.avatar import HAIR, Identity
from emotivetalk.corpus.canvas import Canvas, smoothstep
from emotivetalk.corpus.parameters import EMOTION_TARGETS, EXPRESSION, LIP, POSE, POSE_AT_REST
from emotivetalk.corpus.renderer import render

SIZE = 96


def frame(lip=None, expression=None, pose=None, seed: int = 5, size: int = SIZE):
    rows = []
    for names, values, rest in (
        (LIP, lip, torch.zeros(6)),
        (EXPRESSION, expression, torch.zeros(12)),
        (POSE, pose, torch.from_numpy(POSE_AT_REST)),
    ):
        row = rest.clone()
        for name, value in (values or {}).items():
            row[names.index(name)] = value
        rows.append(row[None])
    return render(Identity.sample(1, seed), *rows, size)


REST = frame()


def changed(frames) -> torch.Tensor:
    return (frames.images - REST.images).abs().amax(1)[0] > 0.02


@pytest.mark.parametrize("name", LIP)
def test_lips_move_the_lower_face_only(name):
    moved = changed(frame(lip={name: 0.9, "jaw": 0.5} if name == "tongue" else {name: 0.9}))
    assert moved.sum() > 20
    assert not moved[: SIZE // 2].any()


@pytest.mark.parametrize("name", [n for n in EXPRESSION if n not in ("smile", "asym", "sneer", "blush")])
def test_eyes_and_brows_move_the_upper_face_only(name):
    moved = changed(frame(expression={name: 0.9}))
    assert moved.sum() > 10
    assert not moved[int(0.72 * SIZE) :].any()


@pytest.mark.parametrize("name", ["smile", "asym", "sneer", "blush"])
def test_the_other_expressions_are_visible(name):
    assert changed(frame(expression={name: 0.9})).sum() > 20


@pytest.mark.parametrize(
    ("name", "value"), [("tx", 0.05), ("ty", 0.05), ("rot", 0.1), ("scale", 1.1), ("yaw", 1.0), ("pitch", 1.0)]
)
def test_poses_move_the_head(name, value):
    assert changed(frame(pose={name: value})).sum() > 200


def test_masks_match_the_picture():
    opened = frame(lip={"jaw": 1.0})
    assert opened.mouth_mask.sum() > 1.5 * REST.mouth_mask.sum()
    inside = opened.mouth_mask[0, 0] > 0.5
    assert (opened.face_mask[0, 0][inside] > 0.99).all()
    rows = inside.any(1).nonzero().flatten()
    assert rows.min() > 0.6 * SIZE
    shifted = frame(pose={"tx": 0.1})
    centre = [(m[0, 0].sum(0) * torch.arange(SIZE)).sum() / m.sum() for m in (REST.face_mask, shifted.face_mask)]
    assert float(centre[1] - centre[0]) == pytest.approx(0.05 * SIZE, abs=0.5)
    moved = changed(frame(expression={"gaze_x": 1.0}))
    assert (REST.eye_mask[0, 0][moved] > 0.5).float().mean() > 0.9


def test_a_batch_equals_its_single_frames():
    people = Identity.sample(3, 9)
    lip, expression = torch.rand(3, 6), torch.from_numpy(EMOTION_TARGETS[[1, 5, 7]])
    pose = torch.from_numpy(POSE_AT_REST) + 0.03 * torch.randn(3, 6)
    together = render(people, lip, expression, pose, SIZE)
    for i in range(3):
        alone = render(people[[i]], lip[i : i + 1], expression[i : i + 1], pose[i : i + 1], SIZE)
        torch.testing.assert_close(alone.images[0], together.images[i], rtol=0, atol=1e-5)
        torch.testing.assert_close(alone.mouth_mask[0], together.mouth_mask[i], rtol=0, atol=1e-5)


def test_values_are_colors_and_sizes_agree():
    small, large = frame(size=64), frame(size=256)
    assert small.images.min() >= 0 and large.images.max() <= 1
    down = torch.nn.functional.avg_pool2d(large.images, 4)
    assert (down - small.images).abs().mean() < 0.02


def test_emotions_look_different_and_fear_is_not_surprise():
    faces = torch.from_numpy(EMOTION_TARGETS)
    rest = torch.from_numpy(POSE_AT_REST).expand(8, 6)
    images = render(Identity.sample(1, 5)[[0] * 8], torch.zeros(8, 6), faces, rest, SIZE).images
    distance = torch.cdist(images.flatten(1), images.flatten(1)) / images[0].numel() ** 0.5
    distance.fill_diagonal_(1)
    assert distance.min() > 0.015
    assert distance[4, 7] > 0.02


def test_an_identity_is_its_seed_and_traits_replace():
    one, again = Identity.sample(2, 3), Identity.sample(2, 3)
    assert all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(again).values(), strict=True))
    person = Identity.from_traits(3, hair="ginger", glasses=True, long_hair=False)
    torch.testing.assert_close(person.hair[0], torch.tensor(HAIR["ginger"]) / 255)
    assert person.glasses.item() == 1
    assert person.hair_length.item() == 0
    assert torch.equal(person.face_width, Identity.sample(1, 3).face_width)
    with pytest.raises(ValueError, match=r"hair 'green' is unknown.*Choose black"):
        Identity.from_traits(3, hair="green")


def test_a_region_is_a_view_that_covers_its_bounds():
    axis = torch.linspace(-1, 1, 64)
    image = torch.zeros(1, 3, 64, 64)
    canvas = Canvas(image, axis.view(1, 1, 64).expand(1, 64, 64), axis.view(1, 64, 1).expand(1, 64, 64), 2 / 64)
    part = canvas.region(-0.25, 0.25, 0.0, 0.5)
    part.paint(torch.ones(1, 3, 1, 1), torch.ones(1, *part.x.shape[1:]))
    expected = (canvas.x.abs() < 0.25) & (canvas.y > 0) & (canvas.y < 0.5)
    assert (image[:, 0][expected] == 1).all()
    assert image[0, 0].mean() < 0.35
    assert canvas.region(3, 4, 3, 4).image.numel() == 0


def test_smoothstep_rises_and_falls():
    x = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0])
    assert smoothstep(0, 1, x).tolist() == [0, 0, 0.5, 1, 1]
    assert smoothstep(1, 0, x).tolist() == [1, 1, 0.5, 0, 0]
