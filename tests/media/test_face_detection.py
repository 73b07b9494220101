"""Faces are found in drawings and photographs at any roll, and lookalikes are not."""

import cv2
import numpy as np
import pytest
import skimage.data

from emotivetalk.media.face_detection import detect_faces, detect_upright_faces, is_upright_face
from emotivetalk.media.faces import crop_portrait

torch = pytest.importorskip("torch")
GREY = (120, 120, 120)
NUM_SEEDS = 24


@pytest.fixture(scope="module")
def avatars() -> np.ndarray:
    """Drawn portraits of different people, in all emotions."""
    from emotivetalk.corpus import avatar, parameters, renderer

    emotions = torch.from_numpy(np.resize(parameters.EMOTION_TARGETS, (NUM_SEEDS, parameters.EMOTION_TARGETS.shape[1])))
    frames = renderer.render(
        avatar.Identity.sample(NUM_SEEDS, seed=3),
        torch.zeros(NUM_SEEDS, len(parameters.LIP)),
        emotions,
        torch.from_numpy(parameters.POSE_AT_REST).repeat(NUM_SEEDS, 1),
        size=256,
    )
    return (frames.images.permute(0, 2, 3, 1).numpy() * 255).round().clip(0, 255).astype(np.uint8)


def rolled(image: np.ndarray, clockwise_deg: float, scale: float = 0.8) -> np.ndarray:
    side = image.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), -clockwise_deg, scale)
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_AREA, borderValue=GREY)


def difference_deg(one: float, other: float) -> float:
    return abs((one - other + 180) % 360 - 180)


def test_every_avatar_is_found_upright_and_keeps_its_frame(avatars: np.ndarray) -> None:
    for number, image in enumerate(avatars):
        (face,) = detect_faces(image)
        assert face.roll_deg == 0, number
        np.testing.assert_array_equal(crop_portrait(image, face).image, image, err_msg=str(number))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_pictures_on_their_side_and_upside_down_are_turned(avatars: np.ndarray, turns: int) -> None:
    for number, image in enumerate([*avatars[::4], skimage.data.astronaut()]):
        turned = np.ascontiguousarray(np.rot90(image, turns))
        (face,) = detect_faces(turned)
        assert difference_deg(face.roll_deg, -90 * turns) == 0, number
        (upright,) = detect_faces(crop_portrait(turned, face).image)
        assert upright.roll_deg == 0, number


@pytest.mark.parametrize("roll_deg", [-45, -30, 30, 45])
def test_rolled_heads_are_turned_upright(avatars: np.ndarray, roll_deg: float) -> None:
    for number, image in enumerate(avatars[::8]):
        picture = rolled(image, roll_deg)
        (face,) = detect_faces(picture)
        assert difference_deg(face.roll_deg, roll_deg) < 12, number
        (upright,) = detect_faces(crop_portrait(picture, face).image)
        assert upright.roll_deg == 0, number


@pytest.mark.parametrize("place", [(0, 0), (0, 444), (244, 0), (244, 444)], ids=str)
def test_a_face_in_a_corner_is_found(avatars: np.ndarray, place: tuple[int, int]) -> None:
    picture = np.full((500, 700, 3), 190, np.uint8)
    picture[place[0] : place[0] + 256, place[1] : place[1] + 256] = avatars[0]
    (face,) = detect_faces(picture)
    assert face.center == pytest.approx((place[1] + 128, place[0] + 130), abs=12)


def test_small_and_dark_faces_are_found(avatars: np.ndarray) -> None:
    picture = np.full((720, 1280, 3), 190, np.uint8)
    picture[400:496, 900:996] = cv2.resize(avatars[1], (96, 96), interpolation=cv2.INTER_AREA)
    (face,) = detect_faces(picture)
    assert face.center == pytest.approx((948, 449), abs=6)
    (dark,) = detect_faces((skimage.data.astronaut() * 0.2).astype(np.uint8))
    assert dark.center == pytest.approx((224, 115), abs=12)


def test_two_faces_are_listed_from_left_to_right() -> None:
    photo = skimage.data.astronaut()[:300, :400]
    upside_down = photo[::-1, ::-1]
    left, right = detect_faces(np.hstack([photo, upside_down]))
    assert left.center[0] < 400 < right.center[0]
    assert left.roll_deg == 0 and right.roll_deg == 180


@pytest.mark.parametrize("name", ["coffee", "coins", "cat", "rocket", "page", "moon", "text", "hubble_deep_field"])
def test_pictures_without_a_face_have_none(name: str) -> None:
    picture = getattr(skimage.data, name)()
    picture = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    for turns in (0, 2):
        assert detect_faces(np.ascontiguousarray(np.rot90(picture, turns))) == []


def test_detection_is_deterministic(avatars: np.ndarray) -> None:
    picture = rolled(avatars[2], 33)
    assert detect_faces(picture) == detect_faces(picture)


def test_an_upside_down_face_in_a_video_is_not_taken(avatars: np.ndarray) -> None:
    (face,) = detect_upright_faces(avatars[0])
    assert is_upright_face(avatars[0], face)
    upside_down = np.ascontiguousarray(avatars[0][::-1])
    assert not any(is_upright_face(upside_down, face) for face in detect_upright_faces(upside_down))
