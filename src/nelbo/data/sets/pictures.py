"""Any picture to uint8 pixels of one shape: turned upright, cropped to a square about the centre, resized.

Shapes: C H W image.
"""

from __future__ import annotations

from typing import IO

import numpy as np
from PIL import Image, ImageOps

from nelbo.errors import ConfigError, first_line, positive_integer

MODES = {1: "L", 3: "RGB"}
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
"""What counts as a picture: of the rest that Pillow opens, some are no pictures, and one runs another program."""
CHUNK_BYTES = 64 << 20


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


def to_pixels(picture: Image.Image, image_size: int, channels: int) -> np.ndarray:
    """A picture as uint8, (C, image_size, image_size), what is transparent on white.

    Raises:
        ValueError: if its pixels have no 8-bit meaning.
        OSError: if it is truncated.
    """
    ImageOps.exif_transpose(picture, in_place=True)  # a large picture is copied as seldom as can be
    upright = picture
    if upright.mode.startswith("I;16"):
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))  # convert() would clip at 255
    elif upright.mode in ("I", "F"):
        raise ValueError(f"its pixels are 32-bit numbers (mode {upright.mode})")
    if upright.has_transparency_data:
        opaque = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    if upright.mode != MODES[channels]:
        upright = upright.convert(MODES[channels])
    fitted = ImageOps.fit(upright, (image_size, image_size), Image.Resampling.LANCZOS)
    return np.asarray(fitted).reshape(image_size, image_size, channels).transpose(2, 0, 1)


def read_picture(file: str | IO[bytes], image_size: int, channels: int) -> np.ndarray | str:
    """The pixels of a file, (C, image_size, image_size), or why it cannot be read."""
    try:
        with Image.open(file, formats=FORMATS) as picture:
            return to_pixels(picture, image_size, channels)
    except Exception as error:  # damaged files fail in every way that the decoders of a dozen formats know
        return first_line(error)
