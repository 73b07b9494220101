"""Pictures come in as RGB, upright, and go out as they are."""

import random
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emotivetalk.errors import InputError
from emotivetalk.media.image import load_image, save_image

PICTURE = np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.PNG"])
def test_lossless_formats_are_exact(tmp_path: Path, name: str) -> None:
    Image.fromarray(PICTURE).save(tmp_path / name)
    np.testing.assert_array_equal(load_image(tmp_path / name), PICTURE)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_save_and_load(tmp_path: Path, name: str) -> None:
    smooth = np.asarray(Image.fromarray(PICTURE[:4, :4]).resize((90, 70), Image.Resampling.BICUBIC))
    save_image(tmp_path / name, smooth)
    found = load_image(tmp_path / name)
    assert found.shape == smooth.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - smooth).mean() < 4
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, PICTURE), (3, PICTURE[::-1, ::-1]), (6, np.rot90(PICTURE, -1)), (8, np.rot90(PICTURE)), (2, PICTURE[:, ::-1])],
)
def test_exif_orientation(tmp_path: Path, orientation: int, upright: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PICTURE).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png"), upright)


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    alpha = np.zeros((70, 90, 1), np.uint8)
    alpha[:35] = 255
    Image.fromarray(np.concatenate([PICTURE, alpha], axis=2)).save(tmp_path / "a.png")
    found = load_image(tmp_path / "a.png")
    np.testing.assert_array_equal(found[:35], PICTURE[:35])
    assert (found[35:] == 255).all()


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA"])
def test_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(PICTURE).convert(mode).save(path)
    assert load_image(path).shape == (70, 90, 3)


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 70 * 90).reshape(70, 90).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_image(tmp_path / "a.png")[..., 0], ramp // 257)


def test_a_phones_two_picture_jpeg_is_its_first(tmp_path: Path) -> None:
    first = Image.fromarray(PICTURE)
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[first.resize((64, 64))], quality=95)
    assert load_image(tmp_path / "a.jpg").shape == (70, 90, 3)


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.png") as caught:
        save_image(tmp_path / "a.exe", PICTURE)
    assert caught.value.code == "output_format"


@pytest.mark.parametrize("form", ["AVIF", "GIF", "JPEG", "JPEG2000", "PNG", "TGA", "TIFF", "WEBP"])
def test_whatever_is_damaged_in_a_file_the_error_is_ours(tmp_path: Path, form: str) -> None:
    path, chance, refused = tmp_path / "picture", random.Random(form), 0
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path, form)
    whole = path.read_bytes()
    with warnings.catch_warnings(action="error"):  # nor does Pillow's own warning reach the user
        for _ in range(100):
            damaged = bytearray(whole)
            for _ in range(chance.randint(1, 6)):
                at = chance.randrange(len(damaged)) if chance.random() < 0.5 else chance.randrange(64)
                damaged[at] ^= 1 << chance.randrange(8)
            path.write_bytes(damaged if chance.random() < 0.7 else damaged[: chance.randrange(1, len(damaged))])
            with suppress(InputError):
                load_image(path)
                continue
            refused += 1
    assert refused > 10
