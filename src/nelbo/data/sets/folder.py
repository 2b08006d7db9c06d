"""`data=image_folder`: a folder of pictures, read once into a memory map.

Shapes: N examples, C H W image.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nelbo.data.arrays import UNLABELLED, Arrays, Examples, split_off_test
from nelbo.data.fetch import cache_directory
from nelbo.data.sets.names import RENAME, TEST, TRAIN, VALIDATION, split_folders
from nelbo.data.sets.pictures import RULES, check_pixels, chunk_size, pictures_up_to, read_picture, suffixes
from nelbo.data.sets.sixteen_bits import SixteenBits
from nelbo.data.store import Chunk, Store, fingerprint, version
from nelbo.errors import ConfigError, DataError, path
from nelbo.files import short_name

log = logging.getLogger(__name__)
NAMED = 3
"""How many files a message names."""
DEEPEST = 3
"""How many folders, each the only one in the other, are looked through for splits."""


def image_folder(
    root: str, image_size: int, channels: int, max_megapixels: float, test_size: float, seed: int
) -> Arrays:
    """Pictures below `root`; with folders in between, the first of them is the class.

    Folders of the usual names (`train`, `Valid`, `test_set` ...) are the splits; without one for testing `seed` draws
    its pictures. The memory map in the cache is made anew when a file was added, removed or changed.

    Args:
        root: the folder.
        image_size: height and width, to which pictures are cropped and resized.
        channels: 1 or 3.
        max_megapixels: larger pictures are refused.
        test_size: how many pictures, or which share of them, are the test set where there is none.
        seed: of that choice.

    Raises:
        ConfigError: if there is no such folder, its splits lie further down, or a number is out of range.
        DataError: if it has no pictures, its folders do not tell what to train on, or some pictures cannot be read.
    """
    image_size, channels = check_pixels(image_size, channels)
    home = path("root", root).resolve()
    if not home.is_dir():
        raise ConfigError("root", root, "is not a folder of pictures")
    splits = _splits(home)
    found = {split: _pictures(folder) for split, folder in splits.items()}
    for split, files in found.items():
        if not files:
            hint = "" if split == TRAIN else "; remove it, or put pictures there"
            raise DataError(f"{splits[split]}: holds no pictures ({', '.join(sorted(suffixes()))}){hint}")
    learned = _classes(found[TRAIN], found.get(VALIDATION, []))
    classes = _classes(*found.values())
    if unknown := [name for name in classes if name not in learned]:
        log.warning("%s: no training pictures of %s", home, ", ".join(unknown))

    def part(*names: str) -> Examples:
        files = {splits[name]: found[name] for name in names if name in found}
        return _open(files, classes, image_size, channels)

    with pictures_up_to(max_megapixels):
        train, validation = part(TRAIN, VALIDATION), len(found.get(VALIDATION, []))
        if TEST not in found:
            return split_off_test(train, test_size, seed, classes, validation)
        return Arrays(train, part(TEST), validation, tuple(classes))


def _splits(home: Path) -> dict[str, Path]:
    """The folders of the splits; the whole folder to train on where none is called so. What is left over is said.

    Raises:
        ConfigError: if the splits lie in a folder below.
        DataError: if it does not tell what to train on.
    """
    folders = _folders(home)
    names = split_folders(folders, str(home))
    if not names:
        _refuse_splits_below(home, folders)
        return {TRAIN: home}
    others = Counter(file.parts[0] for file in _pictures(home) if file.parts[0] not in names.values())
    if TRAIN not in names or (len(names) == 1 and others):  # or a class may be called so
        told = ", ".join([*names.values(), *others][:NAMED])
        raise DataError(f"{home}: has {told}; needs train and test (val is optional), or classes: {RENAME}")
    if others:
        named = [f"{name} ({count})" for name, count in others.items()]
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        log.warning("%s: pictures that are not used: %s%s", home, ", ".join(named[:NAMED]), more)
    return {split: home / name for split, name in names.items()}


def _refuse_splits_below(home: Path, folders: list[str]) -> None:
    """Raise if splits lie further down: in the only folder, or below the classes."""
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
        except DataError:  # what lies below one class among others only resembles splits
            continue
        if TRAIN in splits and len(splits) > 1:
            _refuse_below(home, place / name, splits)


def _refuse_below(home: Path, place: Path, splits: dict[str, str]) -> None:
    """Raise for the splits of the folder `place` below `home`."""
    held = ", ".join(splits[split] for split in (TRAIN, VALIDATION, TEST) if split in splits)
    held = f"{place.relative_to(home)} holds the splits {held}"
    if all(place.relative_to(home) in file.parents for file in _pictures(home)):
        raise ConfigError("root", home, f"its folder {held}: data.root={place}")
    better = f"put splits above classes, as in {splits[TRAIN]}/{place.name}"
    raise DataError(f"{home}: its folder {held}; {better}, or choose one folder: data.root={place}")


def _folders(home: Path) -> list[str]:
    """The names of the folders in one, sorted; hidden ones are left out, as their pictures are.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        with os.scandir(home) as entries:
            return sorted(
                entry.name
                for entry in entries
                if not entry.name.startswith(".")
                and (os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir())  # a link may lead nowhere
            )
    except OSError as error:
        raise DataError(f"{home}: cannot be read ({error.strerror})") from error


def _classes(*found: list[Path]) -> list[str]:
    """The folders that pictures are in."""
    return sorted({file.parts[0] for files in found for file in files if len(file.parts) > 1})


def _open(files: dict[Path, list[Path]], classes: list[str], image_size: int, channels: int) -> Examples:
    """Pictures of some folders, one after the other."""
    number = {name: index for index, name in enumerate(classes)}
    homes = list(files)
    listed = [
        (home / file, number[file.parts[0]] if len(file.parts) > 1 else UNLABELLED)
        for home, below in files.items()
        for file in below
    ]
    where = fingerprint([str(home) for home in homes], image_size, channels)
    identity = [RULES, classes, *(_version(file) for file, _ in listed)]
    store = Store(cache_directory() / "image_folder" / f"{short_name(homes[0].name)}-{where}", identity)
    make = partial(_chunks, homes[0], listed, image_size, channels)
    return store.open(make, len(listed) * channels * image_size**2)


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
    deep = SixteenBits()
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(listed), desc=home.name, unit="image", disable=None, leave=False) as bar,
    ):
        for start in range(0, len(listed), size):
            part = listed[start : start + size]
            pixels, labels = [], []
            images = pool.map(lambda file: read_picture(str(file), image_size, channels), [file for file, _ in part])
            for (file, label), image in zip(part, images, strict=True):
                name = str(file.relative_to(home) if file.is_relative_to(home) else file)
                if isinstance(image, str):
                    broken.append(f"{name} ({image})")
                else:
                    deep.add(name, image)
                    pixels.append(image.pixels)
                    labels.append(label)
            bar.update(len(part))
            if pixels:
                yield Chunk(np.stack(pixels), np.array(labels), sixteen_bits=deep.largest)
    if broken:
        more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        told = f"{len(broken)} of {len(listed)} pictures cannot be read: {', '.join(broken[:NAMED])}{more}"
        raise DataError(f"{home}: {told}; repair or remove them")
    deep.check(str(home))
