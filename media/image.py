"""Pictures: read and checked, and written whole or not at all."""

import io
import re
import struct
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms

from emotivetalk.errors import InputError
from emotivetalk.files import atomic_write, check_readable, check_writable, quoted, writing
from emotivetalk.limits import Limits

# Pillow would also open PostScript, PDF-like and scientific formats, whose readers run programs or guess.
READABLE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM", "TGA")
WRITABLE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
CONVERT = "Save it again as PNG or JPEG."
ORIENTATION_TAG = 0x0112  # of EXIF
TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
END_OF_JPEG = b"\xff\xd9"
PROGRESSIVE_FRAME, START_OF_SCAN = 0xC2, 0xDA  # markers of JPEG segments
NEXT_SEGMENT = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # within a scan, other bytes follow 0xFF
MISSING = 15  # bits of a coefficient of which no scan holds any; scans may omit up to 13
END_BYTES = 24  # bytes of JPEG data that are left out to see which blocks they hold
BLOCK_SIDE = 16  # pixels, with colors of half the resolution
LAST_ROWS = 2 * BLOCK_SIDE


def load_image(path: Path, limits: Limits | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """Read a still picture as sRGB, turned as EXIF says, transparency laid on white.

    Size and number of pictures are checked in the header, before a pixel is decoded. A JPEG that only lacks its end mark
    is complete; a progressive one may also lack the finest bits of its last rows.

    Raises:
        InputError: missing, a folder, not an image, animated, too small, too large, truncated, or of a mode without a known
            range of brightness.
    """
    limits = limits or Limits()
    check_readable(path, "image", limits.image_bytes)
    name = f"image {quoted(path)}"
    # Pillow warns from 89 megapixels on and of damage; the checks below say more.
    with warnings.catch_warnings(action="ignore"):
        return _load(path, name, limits)


def _load(path: Path, name: str, limits: Limits) -> UInt8[np.ndarray, "height width 3"]:
    # Pillow's plugins raise exceptions of any kind for damaged files.
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
            picture = _loaded(picture, path)
            return _to_rgb(_in_srgb(_upright(picture)), name)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                "image_truncated", f"{name} is truncated or damaged", "Copy or export it again."
            ) from error


def save_image(path: Path, image: UInt8[np.ndarray, "height width 3"]) -> None:
    """Write RGB as PNG, JPEG or WebP, by the name's ending. The file appears whole or not at all.

    Raises:
        InputError: the file cannot be written there. OutputError: writing failed.
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


def _loaded(picture: Image.Image, path: Path) -> Image.Image:
    """Decode all pixels; complete a JPEG whose last bytes are missing but not its pixels."""
    try:
        picture.load()
    except OSError:
        if picture.format not in ("JPEG", "MPO"):
            raise
        completed = _completed_jpeg(path)
        if completed is None:
            raise
        return completed
    return picture


def _completed_jpeg(path: Path) -> Image.Image | None:
    """Decode a JPEG without an end mark; None if pixels are missing.

    The decoder does not say how far it got. So the data are also decoded without their last bytes: the blocks that differ are
    the last ones that the data hold.
    """
    data = path.read_bytes()
    try:
        whole = Image.open(io.BytesIO(data + END_OF_JPEG), formats=["JPEG"])
        shorter = Image.open(io.BytesIO(data[:-END_BYTES] + END_OF_JPEG), formats=["JPEG"])
        differs = np.asarray(whole) != np.asarray(shorter)
    except OSError:
        return None
    if "progressive" in whole.info and not _has_all_scans(data):
        return None
    # The last scan of a progressive JPEG has no data for blocks that are smooth, so only their rows can be told.
    end = differs[-LAST_ROWS:] if "progressive" in whole.info else differs[-BLOCK_SIDE:, -BLOCK_SIDE:]
    return whole if end.any() else None


def _has_all_scans(data: bytes) -> bool:
    """Return True unless a progressive JPEG lacks whole scans: each has some bits of some coefficients of all rows."""
    low_bits: dict[
        int, list[int]
    ] = {}  # by component: for each of the 64 coefficients, the bits that are still to come
    at = 2  # behind the start mark
    while at + 4 <= len(data):
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : at + 2 + size]
        if data[at] != 0xFF or len(segment) < size - 2:
            return False
        at += 2 + size
        if marker == PROGRESSIVE_FRAME:
            low_bits = {component: [MISSING] * 64 for component in segment[6::3]}
        elif marker == START_OF_SCAN:
            if low_bits:
                *_, first, last, bits = segment
                for component in segment[1 : 1 + 2 * segment[0] : 2]:
                    low_bits[component][first : last + 1] = [bits & 15] * (last + 1 - first)
            scan_end = NEXT_SEGMENT.search(data, at)
            at = len(data) if scan_end is None else scan_end.start()
    return not any(bits for of_component in low_bits.values() for bits in of_component)


def _upright(picture: Image.Image) -> Image.Image:
    """Apply EXIF's orientation. Other EXIF values may be broken: cameras and editors write such files."""
    try:
        orientation = picture.getexif().get(ORIENTATION_TAG)
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, ZeroDivisionError, struct.error):
        return picture
    method = TO_UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return picture if method is None else picture.transpose(method)


def _in_srgb(picture: Image.Image) -> Image.Image:
    """Convert colors from the picture's profile to sRGB. A profile that cannot be used is ignored, as viewers do."""
    data = picture.info.get("icc_profile")
    color_mode = {"RGBA": "RGB", "LA": "L"}.get(picture.mode, picture.mode)
    if not data or color_mode not in ("RGB", "L", "CMYK"):
        return picture
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        colors = picture.convert(color_mode) if color_mode != picture.mode else picture
        converted = ImageCms.profileToProfile(colors, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture
    assert converted is not None
    if color_mode != picture.mode:
        converted.putalpha(picture.getchannel("A"))
    return converted


def _to_rgb(picture: Image.Image, name: str) -> UInt8[np.ndarray, "height width 3"]:
    if picture.mode.startswith("I;16"):  # Pillow clips 16 bits instead of scaling them
        grey = (np.asarray(picture).astype(np.uint32) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode in ("I", "F"):
        kind = "32-bit floats" if picture.mode == "F" else "32-bit integers"
        raise InputError(
            "image_mode",
            f"{name} has pixels that are {kind}, whose range is not known",
            "Save it as 8-bit PNG or JPEG.",
        )
    if picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    return np.asarray(picture.convert("RGB")).copy()


def _too_large(name: str, megapixels: str, limits: Limits) -> InputError:
    return InputError(
        "image_too_large",
        f"{name} has {megapixels} megapixels; the limit is {limits.image_pixels / 1e6:g}",
        "Scale it down, or raise limits.image_pixels.",
    )
