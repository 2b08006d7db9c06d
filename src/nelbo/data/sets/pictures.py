"""Conversion of picture files to pixels of one shape: rotated upright, cropped about the centre, resized.

Shapes: C channels, H W height and width: both are `image_size`, or it is (H, W).
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from nelbo.errors import ConfigError, first_line, height_and_width, number, positive_integer

ImageSize = int | tuple[int, int]
"""Height and width: one number for squares, or both."""

MODES = {1: "L", 3: "RGB"}
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
"""Accepted formats. Of the others that Pillow opens, some are not pictures, and one starts another program."""

BITS = (8, 16)
"""Bits of a value: uint8, or float32 in [0, 1] that hold 16 bits."""

ALPHAS = WHITEN, MASK = ("white", "mask")
"""What transparent pixels become: white, or unknown."""

OPAQUE = 128
"""The least alpha, of 255, of a pixel that was observed, after resizing."""

WHITE = 65535
"""The largest value of 16 bits."""

CHUNK_BYTES = 64 << 20
"""Size of a chunk of pixels in bytes."""

RULES = 3
"""Version of the conversion. Every change of the resulting pixels must increase it, so that old stores are not used."""


@dataclass(frozen=True)
class Picture:
    """A picture after conversion.

    Args:
        pixels: (C, H, W), or (C + 1, H, W) with a mask: uint8, or float32 in [0, 1] of a picture that is read with 16
            bits.
        sixteen_bits: largest value of a 16-bit picture, or an upper bound of it if only the upper eight bits are known;
            None for a picture with 8 bits, or a black one.
        lost: whether a 16-bit picture became one colour, because its values differ in the lower eight bits only.
    """

    pixels: np.ndarray
    sixteen_bits: int | None = None
    lost: bool = False


def check_bits(bits: object) -> int | None:
    """Return the number of bits that values are read with, one of `BITS`; None for those of the pictures.

    Raises:
        ConfigError: if it is anything else.
    """
    if bits is not None and (isinstance(bits, bool) or bits not in BITS):
        raise ConfigError("bits", bits, "must be 8, 16 or null, which is those of the pictures")
    return bits


def sides(image_size: ImageSize) -> tuple[int, int]:
    """Return height and width.

    Example:
        >>> sides(64), sides((70, 50))
        ((64, 64), (70, 50))
    """
    return (image_size, image_size) if isinstance(image_size, int) else image_size


def picture_bytes(image_size: ImageSize, channels: int) -> int:
    """Return the size of the pixels of a picture in bytes."""
    return channels * math.prod(sides(image_size))


def chunk_size(image_size: ImageSize, channels: int) -> int:
    """Return the number of pictures in a chunk that is written to a store."""
    return max(1, CHUNK_BYTES // picture_bytes(image_size, channels))


def suffixes() -> set[str]:
    """Return the suffixes of picture files, in lower case."""
    Image.init()
    return {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}


def check_pixels(image_size: object, channels: object) -> tuple[ImageSize, int]:
    """Return image size, one number for squares, and number of channels, if pictures can be converted to them.

    Raises:
        ConfigError: if they cannot.
    """
    size = height_and_width("image_size", image_size)
    count = positive_integer("channels", channels)
    if count not in MODES:
        raise ConfigError("channels", channels, "must be 1 (grey) or 3 (red, green, blue)")
    return size if size[0] != size[1] else size[0], count


@contextmanager
def pictures_up_to(max_megapixels: object) -> Iterator[None]:
    """Make Pillow refuse larger pictures in the `with` block, because a small file can hold one that fills the memory.

    Raises:
        ConfigError: if `max_megapixels` is not a number above 0.
    """
    before = Image.MAX_IMAGE_PIXELS
    limit = number("max_megapixels", max_megapixels, positive=True)
    with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
        Image.MAX_IMAGE_PIXELS = round(limit * 1e6)
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def to_picture(
    picture: Image.Image, image_size: ImageSize, channels: int, bits: int | None = 8, alpha: str = WHITEN
) -> Picture:
    """Convert a picture to uint8 pixels, or to floats in [0, 1].

    A value of 16 bits is white at 65535.

    Args:
        picture: the opened picture, whose pixels have not been decoded yet.
        image_size: height and width of the result, or (H, W).
        channels: 1 or 3.
        bits: 8 keeps the upper eight bits of 16-bit values; 16 makes float32 of every picture, v / 65535 or v / 255;
            None makes floats of grey 16-bit pictures, and uint8 of all others. Of 16-bit pictures in colour Pillow
            reads no more than the upper eight bits.
        alpha: `white`: transparent pixels become white; `mask`: they become 0, and a further channel is above 0 where a
            pixel was observed, which is more than half opaque.

    Raises:
        ValueError: if its pixels have 32 bits.
        OSError: if the file is truncated.
    """
    sixteen_bits, differs, largest = _has_sixteen_bits(picture), True, None
    ImageOps.exif_transpose(picture, in_place=True)  # in place, because a copy of a large picture takes much memory
    upright = picture
    if bits != 8 and upright.mode.startswith("I;16"):
        grey = _grey_floats(upright, image_size, channels)
        observed = np.ones_like(grey.pixels[:1])  # such a picture has no alpha
        return grey if alpha == WHITEN else replace(grey, pixels=np.concatenate([grey.pixels, observed]))
    if upright.mode.startswith("I;16"):
        stored = np.asarray(upright)
        largest, sixteen_bits = int(stored.max()), True
        differs = bool(stored.min() < largest)  # a picture of one colour loses nothing
        upright = Image.fromarray((stored >> 8).astype(np.uint8))  # convert() would clip at 255
    elif upright.mode in ("I", "F"):
        raise ValueError(f"its pixels are 32-bit numbers (mode {upright.mode})")
    elif sixteen_bits:  # Pillow has kept the upper eight bits
        bands = zip(upright.getbands(), _extrema(upright), strict=True)
        upper = max(high for band, (_, high) in bands if band != "A")
        largest = upper << 8 | 255 if upper else None
    height, width = sides(image_size)
    mask: np.ndarray | None = None
    if alpha == MASK:
        # Pillow weighs colours by their alpha when it resizes, so hidden ones do not show at the edges.
        upright = ImageOps.fit(upright.convert("RGBA"), (width, height), Image.Resampling.LANCZOS)
        mask = np.asarray(upright.getchannel("A")) >= OPAQUE
        upright = upright.convert("RGB")
    elif upright.has_transparency_data:
        opaque = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    lost = sixteen_bits and differs and all(low == high for low, high in _extrema(upright))
    if upright.mode != MODES[channels]:
        upright = upright.convert(MODES[channels])
    fitted = ImageOps.fit(upright, (width, height), Image.Resampling.LANCZOS) if mask is None else upright
    pixels = np.asarray(fitted).reshape(height, width, channels).transpose(2, 0, 1)
    if mask is not None:
        pixels = np.concatenate([pixels * mask, 255 * mask[None].astype(np.uint8)])
    return Picture(pixels / np.float32(255) if bits == 16 else pixels, largest or None, lost)


def _grey_floats(picture: Image.Image, image_size: ImageSize, channels: int) -> Picture:
    """Convert a grey 16-bit picture to floats v / 65535, the same in all channels."""
    stored = np.asarray(picture).astype(np.float32)
    height, width = sides(image_size)
    fitted = ImageOps.fit(Image.fromarray(stored), (width, height), Image.Resampling.LANCZOS)
    values = np.asarray(fitted).clip(0, WHITE) / np.float32(WHITE)  # the filter may go beyond black and white
    return Picture(np.repeat(values[None], channels, axis=0), int(stored.max()) or None)


def _has_sixteen_bits(picture: Image.Image) -> bool:
    """Return whether Pillow drops the lower eight bits of each value; this is known only before it decodes them."""
    tiles = getattr(picture, "tile", None) or []
    modes = [tile[3][0] if isinstance(tile[3], tuple) and tile[3] else tile[3] for tile in tiles]
    return any(isinstance(mode, str) and ";16" in mode for mode in modes)


def _extrema(picture: Image.Image) -> list[tuple[int, int]]:
    """Return the smallest and the largest value of each channel."""
    extrema = picture.getextrema()
    return list(extrema) if isinstance(extrema[0], tuple) else [extrema]  # type: ignore[list-item]


def read_picture(
    file: str | IO[bytes], image_size: ImageSize, channels: int, bits: int | None = 8, alpha: str = WHITEN
) -> Picture | str:
    """Read and convert a picture file as `to_picture` does; return the reason as text if it cannot be read."""
    try:
        with Image.open(file, formats=FORMATS) as picture:
            return to_picture(picture, image_size, channels, bits, alpha)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        pixels = re.search(r"\((\d+) pixels\)", str(error))
        size = f"{int(pixels[1]) / 1e6:.0f}" if pixels else "its"
        return f"{size} megapixels, more than data.max_megapixels={(Image.MAX_IMAGE_PIXELS or 0) / 1e6:g}"
    except Exception as error:  # damaged files make decoders raise any kind of exception
        return first_line(error)
