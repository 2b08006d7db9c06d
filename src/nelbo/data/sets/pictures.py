"""Any picture to uint8 pixels of one shape: turned upright, cropped to a square about the centre, resized.

Shapes: C H W image.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from nelbo.errors import ConfigError, first_line, number, positive_integer

MODES = {1: "L", 3: "RGB"}
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
"""What counts as a picture: of the rest that Pillow opens, some are no pictures, and one runs another program."""
CHUNK_BYTES = 64 << 20
RULES = 3
"""Of what is made of a picture's pixels; to be raised with every change, so that no store of older rules is used."""


@dataclass(frozen=True)
class Picture:
    """What was read of a picture.

    Args:
        pixels: uint8, (C, H, W).
        sixteen_bits: its largest value where it has 16 bits, or the largest that it may be where only the upper eight
            are known; None where it has eight, or is black.
        lost: whether its 16-bit values differ in the lower eight bits alone, so that it became one colour.
    """

    pixels: np.ndarray
    sixteen_bits: int | None = None
    lost: bool = False


def chunk_size(image_size: int, channels: int) -> int:
    """How many pictures to hold on the way into a store."""
    return max(1, CHUNK_BYTES // (channels * image_size**2))


def suffixes() -> set[str]:
    """Endings of file names that mean pictures, in lower case."""
    Image.init()
    return {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}


def check_pixels(image_size: object, channels: object) -> tuple[int, int]:
    """Both numbers, if pictures can be made so.

    Raises:
        ConfigError: if they cannot.
    """
    size = positive_integer("image_size", image_size)
    count = positive_integer("channels", channels)
    if count not in MODES:
        raise ConfigError("channels", channels, "must be 1 (grey) or 3 (red, green, blue)")
    return size, count


@contextmanager
def pictures_up_to(max_megapixels: object) -> Iterator[None]:
    """While it lasts, Pillow refuses larger pictures: a small file may announce one that fills the memory.

    Raises:
        ConfigError: if it is not a number above 0.
    """
    before = Image.MAX_IMAGE_PIXELS
    limit = number("max_megapixels", max_megapixels, positive=True)
    with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
        Image.MAX_IMAGE_PIXELS = round(limit * 1e6)
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def to_picture(picture: Image.Image, image_size: int, channels: int) -> Picture:
    """A picture as uint8, (C, image_size, image_size), what is transparent on white.

    Of 16 bits the upper eight are kept: 65535 is white.

    Raises:
        ValueError: if its pixels have no 8-bit meaning.
        OSError: if it is truncated.
    """
    sixteen_bits, differs, largest = _has_sixteen_bits(picture), True, None
    ImageOps.exif_transpose(picture, in_place=True)  # a large picture is copied as seldom as can be
    upright = picture
    if upright.mode.startswith("I;16"):
        stored = np.asarray(upright)
        largest, sixteen_bits = int(stored.max()), True
        differs = bool(stored.min() < largest)  # or there is nothing to lose
        upright = Image.fromarray((stored >> 8).astype(np.uint8))  # convert() would clip at 255
    elif upright.mode in ("I", "F"):
        raise ValueError(f"its pixels are 32-bit numbers (mode {upright.mode})")
    elif sixteen_bits:  # Pillow kept the upper eight bits
        bands = zip(upright.getbands(), _extrema(upright), strict=True)
        upper = max(high for band, (_, high) in bands if band != "A")
        largest = upper << 8 | 255 if upper else None
    if upright.has_transparency_data:
        opaque = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    lost = sixteen_bits and differs and all(low == high for low, high in _extrema(upright))
    if upright.mode != MODES[channels]:
        upright = upright.convert(MODES[channels])
    fitted = ImageOps.fit(upright, (image_size, image_size), Image.Resampling.LANCZOS)
    pixels = np.asarray(fitted).reshape(image_size, image_size, channels).transpose(2, 0, 1)
    return Picture(pixels, largest or None, lost)


def _has_sixteen_bits(picture: Image.Image) -> bool:
    """Whether Pillow will drop the lower half of each value; how it unpacks them is known until it has done so."""
    tiles = getattr(picture, "tile", None) or []
    modes = [tile[3][0] if isinstance(tile[3], tuple) and tile[3] else tile[3] for tile in tiles]
    return any(isinstance(mode, str) and ";16" in mode for mode in modes)


def _extrema(picture: Image.Image) -> list[tuple[int, int]]:
    """The smallest and the largest value of each channel."""
    extrema = picture.getextrema()
    return list(extrema) if isinstance(extrema[0], tuple) else [extrema]  # type: ignore[list-item]


def read_picture(file: str | IO[bytes], image_size: int, channels: int) -> Picture | str:
    """What a file holds, its pixels (C, image_size, image_size), or why it cannot be read."""
    try:
        with Image.open(file, formats=FORMATS) as picture:
            return to_picture(picture, image_size, channels)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        pixels = re.search(r"\((\d+) pixels\)", str(error))
        size = f"{int(pixels[1]) / 1e6:.0f}" if pixels else "its"
        return f"{size} megapixels, more than data.max_megapixels={(Image.MAX_IMAGE_PIXELS or 0) / 1e6:g}"
    except Exception as error:  # damaged files fail in every way that the decoders of a dozen formats know
        return first_line(error)
