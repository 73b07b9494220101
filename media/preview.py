"""Previews of results: contact sheets and small animations."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from emotivetalk.files import atomic_write, check_writable, writing
from emotivetalk.media.image import save_image
from emotivetalk.timebase import FRAME_RATE_HZ

GAP = 4
BACKGROUND = (24, 24, 28)
INK = (240, 240, 240)


def contact_sheet(
    images: UInt8[np.ndarray, "images height width 3"], columns: int, labels: Sequence[str] | None, path: Path
) -> None:
    """Arrange pictures in rows, each above its label, and write the sheet (PNG, JPEG or WebP).

    Raises:
        ValueError: no images, no columns, or not as many labels as images. InputError: the place cannot be written.
    """
    num_images, height, width = images.shape[:3]
    if num_images == 0 or columns < 1:
        raise ValueError(f"a contact sheet of {num_images} images in {columns} columns is empty; give at least one.")
    if labels is not None and len(labels) != num_images:
        raise ValueError(f"there are {len(labels)} labels for {num_images} images; give one each.")
    columns = min(columns, num_images)
    rows = -(-num_images // columns)
    font_size = max(11, height // 16)
    font = ImageFont.load_default(size=font_size)
    strip = 0 if labels is None else round(font_size * 1.6)
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + strip + GAP) + GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for index, image in enumerate(images):
        left = GAP + index % columns * (width + GAP)
        top = GAP + index // columns * (height + strip + GAP)
        sheet.paste(Image.fromarray(image), (left, top))
        if labels is not None:
            text = _fitted(labels[index], font, width)
            draw.text((left + width / 2, top + height + strip / 2), text, INK, font, anchor="mm")
    save_image(path, np.asarray(sheet))


def save_animation(frames: UInt8[np.ndarray, "frames height width 3"], path: Path, fps: float = FRAME_RATE_HZ) -> None:
    """Write a looped animation, WebP or GIF by the name's ending. GIF rounds durations to 10 ms.

    Raises:
        ValueError: no frames. InputError: the place cannot be written.
    """
    if len(frames) == 0:
        raise ValueError("an animation needs at least one frame.")
    check_writable(path, (".webp", ".gif"))
    first, *others = [Image.fromarray(frame) for frame in frames]
    image_format = path.suffix[1:].upper()
    with atomic_write(path) as temporary, writing(path):
        first.save(
            temporary,
            format=image_format,
            save_all=True,
            append_images=others,
            duration=round(1000 / fps),
            loop=0,
            quality=85,
        )


def _fitted(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Shorten a label until it fits."""
    text = label
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-2].rstrip() + "…"
    return text
