"""`data=image_folder`: a folder of pictures, read once into a memory map.

Shapes: N examples, C H W image.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from nelbo.data.arrays import UNLABELLED, Arrays, Examples, split_off_test
from nelbo.data.fetch import cache_directory
from nelbo.data.sets.pictures import check_pixels, chunk_size, read_picture, suffixes
from nelbo.data.store import Chunk, Store, fingerprint, version
from nelbo.errors import ConfigError, DataError, path
from nelbo.files import short_name

NAMED = 3
"""How many unreadable files a message names."""


def image_folder(root: str, image_size: int, channels: int, test_size: float, seed: int) -> Arrays:
    """Pictures below `root`; with folders in between, the first of them is the class.

    `root/train` and `root/test`, where both exist, are the split, and `root/val` the validation set; otherwise `seed`
    draws them. The memory map in the cache is made anew when a file was added, removed or changed.

    Args:
        root: the folder.
        image_size: height and width, to which pictures are cropped and resized.
        channels: 1 or 3.
        test_size: how many pictures, or which share of them, are the test set.
        seed: of that choice.

    Raises:
        ConfigError: if there is no such folder, or a number is out of range.
        DataError: if it has no pictures, or some cannot be read; names them.
    """
    image_size, channels = check_pixels(image_size, channels)
    home = path("root", root).resolve()
    if not home.is_dir():
        raise ConfigError("root", root, "is not a folder of pictures")
    parts = {name for name in ("train", "val", "test") if (home / name).is_dir()}
    if not {"train", "test"} <= parts:
        if parts & {"train", "val"}:
            raise DataError(
                f"{home}: has {', '.join(sorted(parts))}; needs train and test (val is optional), or classes"
            )
        examples, classes, _ = _part([home], image_size, channels)
        return split_off_test(examples, test_size, seed, classes)
    train, classes, counts = _part([home / name for name in ("train", "val") if name in parts], image_size, channels)
    test, test_classes, _ = _part([home / "test"], image_size, channels)
    if test_classes and test_classes != classes:
        raise DataError(f"{home}: train has the classes {', '.join(classes)}, test has {', '.join(test_classes)}")
    return Arrays(train, test, validation=counts[-1] if "val" in parts else 0, classes=tuple(classes))


def _part(homes: list[Path], image_size: int, channels: int) -> tuple[Examples, list[str], list[int]]:
    """Pictures of some folders, one after the other; their classes; how many each has."""
    found = [_pictures(home) for home in homes]
    for home, files in zip(homes, found, strict=True):
        if not files:
            raise DataError(f"{home}: holds no pictures ({', '.join(sorted(suffixes()))})")
    classes = sorted({file.parts[0] for files in found for file in files if len(file.parts) > 1})
    number = {name: index for index, name in enumerate(classes)}
    listed = [
        (home / file, number[file.parts[0]] if len(file.parts) > 1 else UNLABELLED)
        for home, files in zip(homes, found, strict=True)
        for file in files
    ]
    where = fingerprint([str(home) for home in homes], image_size, channels)
    place = cache_directory() / "image_folder" / f"{short_name(homes[0].name)}-{where}"
    store = Store(place, [_version(file) for file, _ in listed])
    make = partial(_chunks, homes[0], listed, image_size, channels)
    examples = store.open(make, len(listed) * channels * image_size**2)
    return examples, classes, [len(files) for files in found]


def _version(file: Path) -> list[object]:
    try:
        return version(file)
    except OSError:  # a link to nowhere: it is named when it is read
        return [str(file)]


def _pictures(home: Path) -> list[Path]:
    """Picture files below `home`, relative to it, in the order of their names; hidden ones are left out.

    Raises:
        DataError: if a folder cannot be read.
    """
    known, seen, found = suffixes(), set[str](), []

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error

    for folder, folders, names in os.walk(home, onerror=refuse, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:  # a link back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(folder, name).relative_to(home)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in known
        ]
    return sorted(found)


def _chunks(home: Path, listed: list[tuple[Path, int]], image_size: int, channels: int) -> Iterator[Chunk]:
    size = chunk_size(image_size, channels)
    broken: list[str] = []
    with (
        warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(listed), desc=home.name, unit="image", disable=None, leave=False) as bar,
    ):
        for start in range(0, len(listed), size):
            part = listed[start : start + size]
            pixels, labels = [], []
            images = pool.map(lambda file: read_picture(str(file), image_size, channels), [file for file, _ in part])
            for (file, label), image in zip(part, images, strict=True):
                if isinstance(image, str):
                    broken.append(f"{file.relative_to(home) if file.is_relative_to(home) else file} ({image})")
                else:
                    pixels.append(image)
                    labels.append(label)
            bar.update(len(part))
            if pixels:
                yield Chunk(np.stack(pixels), np.array(labels))
    if broken:
        more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        told = f"{len(broken)} of {len(listed)} pictures cannot be read: {', '.join(broken[:NAMED])}{more}"
        raise DataError(f"{home}: {told}; repair or remove them")
