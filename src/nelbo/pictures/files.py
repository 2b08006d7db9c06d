"""Drawings to files, by their suffix."""

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
FRAMES_PER_SECOND = 20
QUALITY = 8
"""Of the video, out of 10."""

ALMOST_WHITE = 244


def check(file: Path, picture: Picture) -> None:
    """Whether `file` can be written and can hold the picture: asked before minutes of work.

    Raises:
        ConfigError: if not.
    """
    suffix = file.suffix.lower()
    if suffix not in STILL + MOVING:
        raise ConfigError("out", file, f"must end in one of {', '.join(STILL + MOVING)}")
    if suffix in MOVING and not picture.moves:
        raise ConfigError("out", file, f"nothing moves in this picture: {' or '.join(STILL)}")
    if suffix == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise ConfigError("out", file, "needs a package: pip install imageio-ffmpeg; or take .gif")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            raise IsADirectoryError("is a directory")
        if file.exists():
            file.open("r+b").close()
        else:
            tempfile.TemporaryFile(dir=file.parent).close()
    except OSError as error:
        why = error.strerror or first_line(error)
        raise ConfigError("out", file, f"cannot be written: {why}; out=FILE puts it elsewhere") from error


def save(drawing: Drawing, file: Path) -> None:
    """Write a drawing: .png a still, .gif and .mp4 what moves, .npz the arrays.

    Raises:
        ConfigError: if it cannot be written.
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
    # 256 shades of grey are exact; colours get one palette for all frames, so that none flickers, with white in it.
    if ImageChops.difference(first, first.convert("L").convert("RGB")).getbbox() is None:
        first, *rest = (frame.convert("L") for frame in (first, *rest))
    else:
        palette = _with_white(stacked([first, rest[len(rest) // 2]]).quantize(255, dither=Image.Dither.NONE))
        first, *rest = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in (first, *rest))
    first.save(file, save_all=True, append_images=rest, duration=1000 // FRAMES_PER_SECOND, loop=0)


def _with_white(palette: Image.Image) -> Image.Image:
    """The palette with its last colour, and what is so near to white that Pillow may mistake it, made white."""
    flat = palette.getpalette() or []
    colours = [flat[start : start + 3] for start in range(0, 3 * 255, 3)]
    white = [[255] * 3 if len(colour) < 3 or min(colour) >= ALMOST_WHITE else colour for colour in colours]
    palette.putpalette([*(value for colour in white for value in colour), *[255] * 3])
    return palette


def _save_mp4(frames: Iterator[Image.Image], file: Path) -> None:
    from imageio_ffmpeg import write_frames

    first, *rest = frames
    size = (first.width + first.width % 2, first.height + first.height % 2)  # the codec takes even sizes only
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
