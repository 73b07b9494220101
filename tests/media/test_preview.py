"""Contact sheets and animations hold what they were given."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emotivetalk.media.image import load_image
from emotivetalk.media.preview import GAP, contact_sheet, save_animation

COLOURS = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0], [0, 250, 250]], np.uint8)
IMAGES = np.broadcast_to(COLOURS[:, None, None], (5, 64, 96, 3)).copy()


def test_pictures_are_in_reading_order(tmp_path: Path) -> None:
    contact_sheet(IMAGES, 3, None, tmp_path / "sheet.png")
    sheet = load_image(tmp_path / "sheet.png")
    assert sheet.shape == (2 * (64 + GAP) + GAP, 3 * (96 + GAP) + GAP, 3)
    for index, colour in enumerate(COLOURS):
        row, column = divmod(index, 3)
        assert (sheet[GAP + row * (64 + GAP) + 32, GAP + column * (96 + GAP) + 48] == colour).all()


def test_labels_are_drawn_and_stay_in_their_column(tmp_path: Path) -> None:
    labels = ["happy", "", "a label that is far too long to fit under its picture", "größer", "x"]
    contact_sheet(IMAGES, 5, labels, tmp_path / "sheet.png")
    strip = load_image(tmp_path / "sheet.png")[64 + GAP : -GAP]
    ink = (strip > 150).any(axis=2).any(axis=0)
    columns = [ink[GAP + index * (96 + GAP) :][:96] for index in range(5)]
    assert [column.any() for column in columns] == [True, False, True, True, True]
    assert not any(ink[index * (96 + GAP) : index * (96 + GAP) + GAP].any() for index in range(6))


@pytest.mark.parametrize("name", ["a.webp", "a.gif"])
def test_animation(tmp_path: Path, name: str) -> None:
    save_animation(IMAGES, tmp_path / name)
    with Image.open(tmp_path / name) as picture:
        assert picture.n_frames == 5
        for index, colour in enumerate(COLOURS):
            picture.seek(index)
            picture.load()
            assert picture.info["duration"] == 40
            assert np.abs(np.asarray(picture.convert("RGB"))[32, 48].astype(int) - colour).max() < 12


def test_callers_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="labels"):
        contact_sheet(IMAGES, 3, ["one"], tmp_path / "a.png")
    with pytest.raises(ValueError, match="empty"):
        contact_sheet(IMAGES[:0], 3, None, tmp_path / "a.png")
    with pytest.raises(ValueError, match="at least one"):
        save_animation(IMAGES[:0], tmp_path / "a.webp")
