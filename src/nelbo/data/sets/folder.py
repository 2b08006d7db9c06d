"""`data=image_folder`: a folder of pictures, read once into a memory map.

Shapes: N examples, C H W image.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from nelbo.data.arrays import UNLABELLED, Arrays, Examples, split_off_test
from nelbo.data.fetch import cache_directory
from nelbo.data.sets.pictures import check_pixels, read_picture
from nelbo.data.store import Chunk, Store, fingerprint
from nelbo.errors import ConfigError, DataError

CHUNK = 512
NAMED = 3
"""How many unreadable files a message names."""


def image_folder(root: str, image_size: int, channels: int, test_size: float, seed: int) -> Arrays:
    """Pictures below `root`; with folders in between, the first of them is the class.

    `root/train` and `root/test`, where both exist, are the split; otherwise `seed` draws the test set. The memory map
    in the cache is made anew when a file was added, removed or changed.

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
    home = Path(root).expanduser().resolve()
    if not home.is_dir():
        raise ConfigError("root", root, "is not a folder of pictures")
    if (home / "train").is_dir() and (home / "test").is_dir():
        train, classes = _part(home / "train", image_size, channels)
        test, test_classes = _part(home / "test", image_size, channels)
        if test_classes and test_classes != classes:
            raise DataError(f"{home}: train has the classes {', '.join(classes)}, test has {', '.join(test_classes)}")
        return Arrays(train, test, classes=tuple(classes))
    examples, classes = _part(home, image_size, channels)
    return split_off_test(examples, test_size, seed, classes)


def _part(home: Path, image_size: int, channels: int) -> tuple[Examples, list[str]]:
    files = _pictures(home)
    if not files:
        raise DataError(f"{home}: holds no pictures ({', '.join(sorted(_suffixes())[:8])}, ...)")
    classes = sorted({file.parts[0] for file in files if len(file.parts) > 1})
    status = [(home / file).stat() for file in files]
    listing = fingerprint(*((str(file), one.st_size, one.st_mtime_ns) for file, one in zip(files, status, strict=True)))
    where = fingerprint(str(home), image_size, channels)
    store = Store(cache_directory() / "image_folder" / f"{home.name}-{where}", {"root": str(home), "files": listing})
    make = partial(_chunks, home, files, classes, image_size, channels)
    return store.open(make, len(files) * channels * image_size**2), classes


def _suffixes() -> set[str]:
    Image.init()
    return {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN}


def _pictures(home: Path) -> list[Path]:
    """Picture files below `home`, relative to it, in the order of their names; hidden ones are left out."""
    suffixes = _suffixes()
    found = []
    for folder, folders, names in os.walk(home):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(folder, name).relative_to(home)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes
        ]
    return sorted(found)


def _chunks(home: Path, files: list[Path], classes: list[str], image_size: int, channels: int) -> Iterator[Chunk]:
    read: Callable[[Path], np.ndarray | str] = lambda file: read_picture(str(home / file), image_size, channels)  # noqa: E731
    number = {name: index for index, name in enumerate(classes)}
    broken: list[str] = []
    count = 0
    with (
        warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(files), desc=home.name, unit="image", disable=None, leave=False) as bar,
    ):
        for start in range(0, len(files), CHUNK):
            part = files[start : start + CHUNK]
            pixels, labels = [], []
            for file, image in zip(part, pool.map(read, part), strict=True):
                if isinstance(image, str):
                    broken.append(f"{file} ({image})")
                else:
                    pixels.append(image)
                    labels.append(number[file.parts[0]] if len(file.parts) > 1 else UNLABELLED)
            bar.update(len(part))
            count += len(pixels)
            if pixels:
                yield Chunk(np.stack(pixels), np.array(labels))
    if broken:
        more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        mend = "repair or remove them"
        raise DataError(
            f"{home}: {len(broken)} of {len(files)} pictures cannot be read: {', '.join(broken[:NAMED])}{more}; {mend}"
        )
