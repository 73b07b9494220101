"""Pictures: read with every doubt removed, written whole or not at all."""

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from emotivetalk.errors import InputError
from emotivetalk.files import atomic_write, check_readable, check_writable, quoted, writing
from emotivetalk.limits import Limits

# Pillow would also open PostScript, PDF-like and scientific formats, whose readers run programs or guess.
READABLE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM", "TGA")
WRITABLE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
CONVERT = "Save it again as PNG or JPEG."


def load_image(path: Path, limits: Limits | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """Read a still picture as RGB, upright (EXIF orientation applied), transparency laid on white.

    Size and number of pictures are read from the header before a pixel is decoded.

    Raises:
        InputError: missing, a folder, not an image, animated, too small, too large, truncated.
    """
    limits = limits or Limits()
    check_readable(path, "image", limits.image_bytes)
    name = f"image {quoted(path)}"
    # Pillow warns from 89 megapixels on (the limit, checked below, is ours), and of damage that we say better.
    with warnings.catch_warnings(action="ignore"):
        return _load(path, name, limits)


def _load(path: Path, name: str, limits: Limits) -> UInt8[np.ndarray, "height width 3"]:
    # Of a damaged file, Pillow's plugins raise whatever they meet.
    try:
        picture = Image.open(path, formats=READABLE_FORMATS)
    except Image.DecompressionBombError as error:
        assert Image.MAX_IMAGE_PIXELS is not None
        raise _too_large(name, f"more than {2 * Image.MAX_IMAGE_PIXELS / 1e6:.0f}", limits) from error
    except Exception as error:
        raise InputError("image_unreadable", f"{name} is not an image that can be read", CONVERT) from error
    with picture:
        try:
            _check_header(picture, name, limits)
            picture.load()
            return _to_rgb(ImageOps.exif_transpose(picture))
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                "image_truncated", f"{name} is truncated or damaged", "Copy or export it again."
            ) from error


def save_image(path: Path, image: UInt8[np.ndarray, "height width 3"]) -> None:
    """Write RGB as PNG, JPEG or WebP by the name's ending, atomically.

    Raises:
        InputError: the place cannot be written; OutputError: writing failed.
    """
    check_writable(path, WRITABLE_SUFFIXES)
    image_format = {".png": "PNG", ".webp": "WEBP"}.get(path.suffix.lower(), "JPEG")
    with atomic_write(path) as temporary, writing(path):
        Image.fromarray(image).save(temporary, format=image_format, quality=95)


def _check_header(picture: Image.Image, name: str, limits: Limits) -> None:
    width, height = picture.size
    if width * height > limits.image_pixels:
        raise _too_large(name, f"{width * height / 1e6:.0f} ({width} x {height})", limits)
    if min(width, height) < limits.image_min_side:
        raise InputError(
            "image_too_small",
            f"{name} is {width} x {height} pixels; each side must have at least {limits.image_min_side}",
            "Use a larger picture, best 512 pixels or more.",
        )
    # An MPO is a camera's JPEG with a thumbnail or depth map behind the picture.
    num_pictures = getattr(picture, "n_frames", 1)
    if num_pictures > 1 and picture.format != "MPO":
        raise InputError(
            "image_animated",
            f"{name} holds {num_pictures} pictures (an animation or several pages); 1 is the limit",
            "Save the one to use as PNG or JPEG.",
        )


def _to_rgb(picture: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    if picture.mode.startswith("I;16"):  # Pillow's own conversion would clip 16 bits instead of scaling them
        grey = (np.asarray(picture).astype(np.uint32) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode in ("I", "F"):
        raise ValueError(f"mode {picture.mode} has no known range of brightness")
    if picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    return np.asarray(picture.convert("RGB")).copy()


def _too_large(name: str, megapixels: str, limits: Limits) -> InputError:
    return InputError(
        "image_too_large",
        f"{name} has {megapixels} megapixels; the limit is {limits.image_pixels / 1e6:g}",
        "Scale it down, or raise limits.image_pixels.",
    )
