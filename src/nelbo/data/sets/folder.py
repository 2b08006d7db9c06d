"""The data set `data=image_folder`: a folder of pictures, converted once to a memory map.

Shapes: N examples, C H W image.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nelbo.data.arrays import UNLABELLED, Arrays, Examples, split_off_test
from nelbo.data.fetch import cache_directory
from nelbo.data.progress import ProgressBar
from nelbo.data.sets.masks import with_masks
from nelbo.data.sets.names import RENAME, TEST, TRAIN, VALIDATION, split_folders
from nelbo.data.sets.pictures import (
    ALPHAS,
    MASK,
    RULES,
    WHITEN,
    Picture,
    check_bits,
    check_pixels,
    chunk_size,
    picture_bytes,
    pictures_up_to,
    read_picture,
    suffixes,
)
from nelbo.data.sets.sixteen_bits import SixteenBits
from nelbo.data.store import Chunk, Store, fingerprint, version
from nelbo.errors import ConfigError, DataError, choice, path
from nelbo.files import short_name

log = logging.getLogger(__name__)
NAMED = 3
"""Maximum number of files or folders that a message lists."""

DEEPEST = 3
"""Maximum number of nested folders, each the only one in its parent, that are searched for splits."""


def image_folder(
    root: str,
    image_size: int | Sequence[int],
    channels: int,
    max_megapixels: float,
    test_size: float,
    seed: int,
    bits: int | None = 8,
    alpha: str | None = None,
) -> Arrays:
    """Read the pictures in a folder and the folders below it.

    Folders with the usual names (`train`, `Valid`, `test_set` ...) are splits. Folders in a split, or in `root` if
    there are no splits, are classes; folders below them do not matter. The memory map in the cache is created again if
    a file was added, removed or changed.

    Args:
        root: the folder.
        image_size: height and width in pixels to which pictures are cropped and resized, or a list of both.
        channels: 1 or 3.
        max_megapixels: maximum size of a picture; larger ones are refused.
        test_size: number of pictures that become the test set if there is none, or their share below 1.
        seed: seed of that choice.
        bits: those that values are read with: 8, of which the result is uint8, or 16, of which it is float32 in [0, 1];
            None for those of the pictures, which have to be the same. Configs of earlier versions lack it and `alpha`.
        alpha: what transparent pixels become: `white` (or None), or unknown, `mask`, which inputs=masked leaves out.

    Raises:
        ConfigError: if there is no such folder, its splits are in a folder below it, or a number is out of range.
        DataError: if it has no pictures, its folders do not show which are for training, pictures cannot be read, or
            some have 8 bits and others 16.
    """
    size, channels = check_pixels(image_size, channels)
    bits, alpha = check_bits(bits), choice("alpha", alpha or WHITEN, ALPHAS)
    home = path("root", root).resolve()
    if not home.is_dir():
        raise ConfigError("root", root, "is not a folder of pictures")
    splits = _splits(home)
    files = {split: _pictures(folder) for split, folder in splits.items()}
    for split in files:
        if not files[split]:
            hint = "" if split == TRAIN else "; remove it, or add pictures"
            raise DataError(f"{splits[split]}: holds no pictures ({', '.join(sorted(suffixes()))}){hint}")
    trained = _classes(files[TRAIN], files.get(VALIDATION, []))
    classes = _classes(*files.values())
    if untrained := [name for name in classes if name not in trained]:
        log.warning("%s: no training pictures of %s", home, ", ".join(untrained))

    def examples(*names: str) -> Examples:
        own = {splits[name]: files[name] for name in names if name in files}
        opened = _open(own, classes, {"image_size": size, "channels": channels, "bits": bits, "alpha": alpha})
        return opened if alpha == WHITEN else with_masks(opened, channels, home)

    with pictures_up_to(max_megapixels):
        train, validation = examples(TRAIN, VALIDATION), len(files.get(VALIDATION, []))
        if TEST not in files:
            return split_off_test(train, test_size, seed, classes, validation)
        return Arrays(train, examples(TEST), validation, tuple(classes))


def _splits(home: Path) -> dict[str, Path]:
    """Return the folder of each split; without splits, `home` is the training set.

    Logs a warning about pictures in other folders.

    Raises:
        ConfigError: if the splits are in a folder below.
        DataError: if the folders do not show which one is for training.
    """
    folders = _folders(home)
    names = split_folders(folders, str(home))
    if not names:
        _refuse_splits_below(home, folders)
        return {TRAIN: home}
    others = Counter(file.parts[0] for file in _pictures(home) if file.parts[0] not in names.values())
    if TRAIN not in names or (len(names) == 1 and others):  # a single folder named "train" may also be a class
        listed = ", ".join([*names.values(), *others][:NAMED])
        raise DataError(f"{home}: has {listed}; needs train and test (val is optional), or classes: {RENAME}")
    if others:
        counts = [f"{name} ({count})" for name, count in others.items()]
        more = f" and {len(counts) - NAMED} more" if len(counts) > NAMED else ""
        log.warning("%s: pictures that are not used: %s%s", home, ", ".join(counts[:NAMED]), more)
    return {split: home / name for split, name in names.items()}


def _refuse_splits_below(home: Path, folders: list[str]) -> None:
    """Raise an error if there are splits below `home`: in its only folder, or in the folders of classes.

    Args:
        home: the root folder, which has no splits itself.
        folders: names of the folders in it.

    Raises:
        ConfigError: if all pictures are in these splits, so that `root` should be another folder.
        DataError: if there are other pictures too.
    """
    place = home
    for _ in range(DEEPEST):
        if len(folders) != 1:
            break
        place, folders = place / folders[0], _folders(place / folders[0])
        splits = split_folders(folders, str(place))
        if TRAIN in splits and len(splits) > 1:
            _refuse_below(home, place, splits)
    for name in folders:
        try:
            splits = split_folders(_folders(place / name), str(place / name))
        except DataError:  # names of folders below a class may resemble splits without being any
            continue
        if TRAIN in splits and len(splits) > 1:
            _refuse_below(home, place / name, splits)


def _refuse_below(home: Path, place: Path, splits: dict[str, str]) -> None:
    """Raise the error for splits in the folder `place` below `home`; `splits` has their names."""
    names = ", ".join(splits[split] for split in (TRAIN, VALIDATION, TEST) if split in splits)
    problem = f"its folder {place.relative_to(home)} holds the splits {names}"
    if all(place.relative_to(home) in file.parents for file in _pictures(home)):
        raise ConfigError("root", home, f"{problem}; set data.root={place}")
    hint = f"put splits above classes, as in {splits[TRAIN]}/{place.name}"
    raise DataError(f"{home}: {problem}; {hint}, or use this folder alone: data.root={place}")


def _folders(home: Path) -> list[str]:
    """Return the sorted names of the folders in a folder, without hidden ones.

    Raises:
        DataError: if the folder cannot be read.
    """
    try:
        with os.scandir(home) as entries:
            return sorted(
                entry.name
                for entry in entries
                if not entry.name.startswith(".")
                and (os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir())  # links may be broken
            )
    except OSError as error:
        raise DataError(f"{home}: cannot be read ({error.strerror})") from error


def _classes(*splits: list[Path]) -> list[str]:
    """Return the sorted names of the classes of pictures: the first folder of each path."""
    return sorted({file.parts[0] for files in splits for file in files if len(file.parts) > 1})


def _open(files: dict[Path, list[Path]], classes: list[str], options: Mapping[str, Any]) -> Examples:
    """Return the pictures of several folders, in this order, from a store in the cache.

    Args:
        files: for each folder, the paths of its pictures relative to it.
        classes: names of the classes, in the order of their labels.
        options: `image_size`, `channels`, `bits` and `alpha` of `read_picture`.
    """
    image_size, channels, bits, alpha = options.values()
    number = {name: index for index, name in enumerate(classes)}
    homes = list(files)
    labelled = [
        (home / file, number[file.parts[0]] if len(file.parts) > 1 else UNLABELLED)
        for home, below in files.items()
        for file in below
    ]
    more = [*([] if bits == 8 else [bits]), *([] if alpha == WHITEN else [alpha])]
    settings = fingerprint([str(home) for home in homes], image_size, channels, *more)
    identity = [RULES, classes, *(_version(file) for file, _ in labelled)]
    store = Store(cache_directory() / "image_folder" / f"{short_name(homes[0].name)}-{settings}", identity)

    read: Callable[[str], Picture | str] = partial(read_picture, **options)
    stored = channels + (alpha == MASK)  # a mask is one more channel
    make = partial(_chunks, homes[0], labelled, chunk_size(image_size, stored), read)
    first = read(str(labelled[0][0])) if bits is None else None
    floats = bits == 16 or (isinstance(first, Picture) and first.pixels.dtype.kind == "f")
    return store.open(make, len(labelled) * picture_bytes(image_size, stored) * (4 if floats else 1))


def _version(file: Path) -> list[object]:
    try:
        return version(file)
    except OSError:  # a broken link; reading it raises an error that names it
        return [str(file)]


def _pictures(home: Path) -> list[Path]:
    """Return the sorted paths of the picture files below `home`, relative to it, without hidden ones.

    Raises:
        DataError: if a folder cannot be read.
    """
    known, seen, pictures = suffixes(), set[str](), []

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error

    for folder, folders, names in os.walk(home, onerror=refuse, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:  # a link to a folder that was visited
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        pictures += [
            Path(folder, name).relative_to(home)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in known
        ]
    return sorted(pictures)


def _chunks(
    home: Path, labelled: list[tuple[Path, int]], size: int, read: Callable[[str], Picture | str]
) -> Iterator[Chunk]:
    """Read pictures and their labels, several pictures at the same time.

    Args:
        home: the folder, for messages.
        labelled: files and their labels.
        size: number of pictures in a chunk.
        read: reads a file, as `read_picture` does.

    Raises:
        DataError: naming the pictures that cannot be read, after all have been tried; or two of which one has 8 bits
            and the other 16.
    """
    unreadable: list[str] = []
    sixteen_bits = SixteenBits()
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        ProgressBar(total=len(labelled), desc=home.name, unit="image", disable=None, leave=False) as bar,
    ):
        for start in range(0, len(labelled), size):
            part = labelled[start : start + size]
            pixels, labels = [], []
            images = pool.map(read, [str(file) for file, _ in part])
            for (file, label), image in zip(part, images, strict=True):
                name = str(file.relative_to(home) if file.is_relative_to(home) else file)
                if isinstance(image, str):
                    unreadable.append(f"{name} ({image})")
                else:
                    sixteen_bits.add(name, image)
                    pixels.append(image.pixels)
                    labels.append(label)
            bar.update(len(part))
            sixteen_bits.refuse_mixed(str(home))
            if pixels:
                yield Chunk(np.stack(pixels), np.array(labels), sixteen_bits=sixteen_bits.largest)
    if unreadable:
        more = f" and {len(unreadable) - NAMED} more" if len(unreadable) > NAMED else ""
        problem = f"{len(unreadable)} of {len(labelled)} pictures cannot be read"
        raise DataError(f"{home}: {problem}: {', '.join(unreadable[:NAMED])}{more}; repair or remove them")
    sixteen_bits.check(str(home))
