"""Files of drawings, whose suffix determines the format."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops

from nelbo.errors import ConfigError, first_line
from nelbo.pictures.picture import Drawing, Picture
from nelbo.pictures.sheet import stacked

STILL, MOVING = (".png", ".npz"), (".gif", ".mp4")
"""Suffixes of still and of moving pictures."""

FRAMES_PER_SECOND = 20
QUALITY = 8
"""Quality of the video, up to 10."""

ALMOST_WHITE = 244
"""Smallest level of red, green and blue of a palette colour that is replaced by white."""


def check(file: Path, picture: Picture) -> None:
    """Check that `file` can be written and has a format for the picture, before the work of drawing starts.

    Raises:
        ConfigError: if the file cannot be written, the suffix is unknown or does not fit, or a package is missing.
    """
    suffix = file.suffix.lower()
    if suffix not in STILL + MOVING:
        raise ConfigError("out", file, f"must end in one of {', '.join(STILL + MOVING)}")
    if suffix in MOVING and not picture.moves:
        raise ConfigError("out", file, f"this picture does not move; use {' or '.join(STILL)}")
    if suffix == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise ConfigError("out", file, "needs a package: pip install imageio-ffmpeg; or use .gif")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            raise IsADirectoryError("is a directory")
        if file.exists():
            file.open("r+b").close()
        else:
            tempfile.TemporaryFile(dir=file.parent).close()
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise ConfigError("out", file, f"cannot be written: {reason}; use another out=FILE") from error


def save(drawing: Drawing, file: Path) -> None:
    """Write a drawing: the still image to .png, the moving one to .gif or .mp4, the arrays to .npz.

    Raises:
        ConfigError: if the file cannot be written.
    """
    suffix = file.suffix.lower()
    try:
        if suffix == ".npz":
            arrays: dict[str, Any] = {name: array.detach().cpu().numpy() for name, array in drawing.arrays.items()}
            with file.open("wb") as stream:
                np.savez(stream, allow_pickle=False, **arrays)
        elif suffix == ".png":
            drawing.still.save(file)
        elif drawing.frames is not None:
            (_save_gif if suffix == ".gif" else _save_mp4)(drawing.frames(), file)
    except OSError as error:
        raise ConfigError("out", file, f"cannot be written: {first_line(error)}") from error


def _save_gif(frames: Iterator[Image.Image], file: Path) -> None:
    first, *rest = frames
    # Grey images need no palette. Colours get one palette for all frames, which avoids flicker, and it contains white.
    if ImageChops.difference(first, first.convert("L").convert("RGB")).getbbox() is None:
        first, *rest = (frame.convert("L") for frame in (first, *rest))
    else:
        palette = _with_white(stacked([first, rest[len(rest) // 2]]).quantize(255, dither=Image.Dither.NONE))
        first, *rest = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in (first, *rest))
    first.save(file, save_all=True, append_images=rest, duration=1000 // FRAMES_PER_SECOND, loop=0)


def _with_white(palette: Image.Image) -> Image.Image:
    """Replace the last colour of a palette, and all that Pillow may confuse with white, by white."""
    flat = palette.getpalette() or []
    colours = [flat[start : start + 3] for start in range(0, 3 * 255, 3)]
    white = [[255] * 3 if len(colour) < 3 or min(colour) >= ALMOST_WHITE else colour for colour in colours]
    palette.putpalette([*(value for colour in white for value in colour), *[255] * 3])
    return palette


def _save_mp4(frames: Iterator[Image.Image], file: Path) -> None:
    from imageio_ffmpeg import write_frames

    first, *rest = frames
    size = (first.width + first.width % 2, first.height + first.height % 2)  # the codec requires even sizes
    file.unlink(missing_ok=True)
    writer = write_frames(str(file), size, fps=FRAMES_PER_SECOND, quality=QUALITY, macro_block_size=1)
    writer.send(None)
    for frame in (first, *rest):
        page = Image.new("RGB", size, "white")
        page.paste(frame)
        writer.send(page.tobytes())
    writer.close()
    if not file.is_file():
        raise OSError("ffmpeg wrote nothing")
