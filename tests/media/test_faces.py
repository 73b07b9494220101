"""Faces are found, one for each person, on photographs and on drawn portraits; crops go out and come back unseen."""

import cv2
import numpy as np
import pytest
import skimage.data

from emotivetalk.errors import InputError
from emotivetalk.media.faces import FaceBox, Framing, PortraitCrop, choose_face, crop_portrait, detect_faces


def box(*numbers: float) -> FaceBox:
    return FaceBox(*(float(number) for number in numbers))


PHOTO = skimage.data.astronaut()[:340, :400]
PLACE = box(172, 60, 104, 104)  # her face, by eye


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth picture in which no two places look the same."""
    coarse = np.random.default_rng(seed).integers(60, 200, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def near(found: FaceBox, expected: FaceBox) -> bool:
    tolerance = 0.15 * expected.width
    return (
        abs(found.center[0] - expected.center[0]) < tolerance
        and abs(found.center[1] - expected.center[1]) < tolerance
        and abs(found.width - expected.width) < 0.25 * expected.width
    )


def test_a_photograph_has_one_face() -> None:
    (found,) = detect_faces(PHOTO)
    assert near(found, PLACE)


def test_two_people_from_left_to_right() -> None:
    left, right = detect_faces(np.hstack([PHOTO[:200, :300], PHOTO[:200, :300][:, ::-1]]))
    assert near(left, PLACE)
    assert near(right, box(600 - 172 - 104, 60, 104, 104))


def test_no_face() -> None:
    with pytest.raises(InputError, match=r"no face .* 'wall\.png'") as caught:
        choose_face(textured(120, 120), None, "wall.png")
    assert caught.value.code == "face_missing" and "portrait" in caught.value.remedy


@pytest.fixture
def two_found(monkeypatch: pytest.MonkeyPatch) -> list[FaceBox]:
    faces = [box(10, 20, 60, 60), box(100, 20, 30, 30)]
    monkeypatch.setattr("emotivetalk.media.faces.detect_faces", lambda image: faces)
    return faces


def test_several_faces_need_a_choice(two_found: list[FaceBox]) -> None:
    with pytest.raises(InputError) as caught:
        choose_face(PHOTO, None, "two.png")
    assert caught.value.code == "face_ambiguous"
    assert "2 faces" in caught.value.message and "2: 30 px wide at (115, 35)" in caught.value.message
    assert "--face N" in caught.value.remedy
    assert choose_face(PHOTO, 1, "two.png") == two_found[0]


def test_choices_that_cannot_be(two_found: list[FaceBox]) -> None:
    for index in (0, 3, -1):
        with pytest.raises(InputError, match="N from 1 to 2") as caught:
            choose_face(PHOTO, index, "two.png")
        assert caught.value.code == "face_out_of_range"
    with pytest.raises(InputError, match="30 pixels wide; the limit is 48") as caught:
        choose_face(PHOTO, 2, "two.png")
    assert caught.value.code == "face_too_small"


@pytest.mark.parametrize("size", [64, 256])
@pytest.mark.parametrize("face", [PLACE, box(0, 0, 90, 90), box(300, 250, 150, 150)])
def test_the_face_is_where_the_framing_wants_it(face: FaceBox, size: int) -> None:
    framing = Framing(center_x=0.5, center_y=0.45, width=0.4)
    crop = crop_portrait(PHOTO, face, size, framing)
    assert crop.image.shape == (size, size, 3) and crop.image.dtype == np.uint8
    pixel = size / crop.side
    assert crop.face.center[0] == pytest.approx(0.5 * size, abs=pixel)
    assert crop.face.center[1] == pytest.approx(0.45 * size, abs=pixel)
    assert crop.face.width == pytest.approx(0.4 * size, rel=0.01)


def test_beyond_the_picture_its_edge_goes_on() -> None:
    image = textured(200, 300)
    crop = crop_portrait(image, box(0, 0, 100, 100), 200, Framing(0.5, 0.5, 0.5))
    assert (crop.left, crop.top, crop.side) == (-50, -50, 200)
    np.testing.assert_array_equal(crop.image[50:, 50:], image[:150, :150])
    assert (crop.image[:50, 50:] == image[:1, :150]).all()


@pytest.mark.parametrize(("jitter", "snaps"), [(0.0, True), (0.1, True), (0.25, False)])
def test_an_already_framed_portrait_is_not_moved(jitter: float, snaps: bool) -> None:
    framing = Framing()
    image = textured(256, 256)
    width = framing.width * 256 * (1 + jitter)
    center = framing.center_x * 256, (framing.center_y + jitter / 4) * 256
    face = FaceBox(center[0] - width / 2, center[1] - width / 2, width, width)
    crop = crop_portrait(image, face, 256, framing)
    assert ((crop.left, crop.top, crop.side) == (0, 0, 256)) is snaps
    if snaps:
        np.testing.assert_array_equal(crop.image, image)
        assert crop.face == face
        np.testing.assert_array_equal(crop.paste_back(255 - image), 255 - image)


def placed(size: int = 128) -> PortraitCrop:
    return crop_portrait(textured(300, 400), box(150, 100, 80, 80), size, Framing(0.5, 0.5, 0.5))


def test_nothing_outside_the_crop_changes() -> None:
    crop = placed()
    result = crop.paste_back(255 - crop.image)
    inside = np.zeros(result.shape[:2], bool)
    inside[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side] = True
    np.testing.assert_array_equal(result[~inside], crop.whole[~inside])
    assert result.shape == crop.whole.shape and result is not crop.whole


def test_no_seam_even_for_another_colour() -> None:
    crop = placed()
    shifted = np.clip(crop.image.astype(int) + 40, 0, 255).astype(np.uint8)
    change = crop.paste_back(shifted).astype(int) - crop.whole
    steps = max(np.abs(np.diff(change, axis=axis)).max() for axis in (0, 1))
    border = [change[crop.top, :], change[crop.top + crop.side - 1, :], change[:, crop.left]]
    assert all(np.abs(edge).max() <= 1 for edge in border)
    assert steps <= 12, "a hard edge would be a step of 40"
    middle = change[crop.top + 40 : crop.top + crop.side - 40, crop.left + 40 : crop.left + crop.side - 40]
    assert abs(middle.mean() - 40) < 2


def test_the_middle_is_the_frame() -> None:
    crop = placed(size=160)
    assert crop.side == 160
    frame = textured(160, 160, seed=1)
    result = crop.paste_back(frame)
    inner = slice(40, 120)
    np.testing.assert_array_equal(
        result[crop.top : crop.top + 160, crop.left : crop.left + 160][inner, inner], frame[inner, inner]
    )


def test_the_same_crop_goes_back_unnoticed() -> None:
    crop = placed(size=160)
    np.testing.assert_array_equal(crop.paste_back(crop.image), crop.whole)


def test_a_crop_over_the_pictures_edge_is_not_faded_there() -> None:
    image = textured(200, 200)
    crop = crop_portrait(image, box(0, 120, 100, 100), 200, Framing(0.5, 0.5, 0.5))
    assert crop.left < 0 and crop.top > 0
    result = crop.paste_back(np.zeros((200, 200, 3), np.uint8))
    assert result[170, 0].max() == 0 and result[199, 20].max() == 0
    np.testing.assert_array_equal(result[crop.top], image[crop.top])


def test_wrong_arguments() -> None:
    crop = placed()
    with pytest.raises(ValueError, match="this crop takes"):
        crop.paste_back(crop.image[:-1, :-1])
    with pytest.raises(ValueError, match="is not a face"):
        crop_portrait(PHOTO, box(0, 0, 0, 0))
    with pytest.raises(ValueError, match="is not a face"):
        crop_portrait(PHOTO, box(600, 0, 80, 80))


@pytest.mark.parametrize("roll_deg", [90.0, 180.0, -90.0, 30.0])
def test_a_turned_crop_goes_back_where_it_was(roll_deg: float) -> None:
    image = textured(300, 400)
    face = FaceBox(150, 100, 80, 80, roll_deg)
    crop = crop_portrait(image, face, 160, Framing(0.5, 0.5, 0.5))
    quarters = roll_deg / 90
    if quarters == round(quarters):
        upright = crop_portrait(image, box(150, 100, 80, 80), 160, Framing(0.5, 0.5, 0.5))
        np.testing.assert_array_equal(crop.image, np.rot90(upright.image, round(quarters)))
        np.testing.assert_array_equal(crop.paste_back(crop.image), image)
    assert np.abs(crop.paste_back(crop.image).astype(int) - image).max() <= 6
    changed = (crop.paste_back(255 - crop.image) != image).any(axis=2)
    reach = 80 if quarters == round(quarters) else 80 * 2**0.5
    rows, columns = np.nonzero(changed)
    assert np.abs(rows - 140).max() <= reach and np.abs(columns - 190).max() <= reach
    assert changed[100:180, 150:230].mean() > 0.9
