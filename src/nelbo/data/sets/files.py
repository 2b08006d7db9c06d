"""The data set `data=arrays`: images and labels in a .npy, .npz or .safetensors file.

Shapes: N examples, C H W image.
"""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from nelbo.data.arrays import Arrays, Examples, split_off_test
from nelbo.data.fetch import cache_directory, workspace
from nelbo.data.labels import plain_labels, read_labels
from nelbo.data.memory_map import MemoryMap, channels_first
from nelbo.data.readable import readable
from nelbo.data.sets.eight_bits import advice, eight_bits
from nelbo.data.sets.names import IMAGES, LABELS, TEST, TRAIN, VALIDATION, WHOLE, roles_of
from nelbo.data.store import fingerprint, version
from nelbo.errors import ConfigError, DataError
from nelbo.errors import path as as_path

log = logging.getLogger(__name__)
LAYOUT = "images of shape (N, H, W), (N, C, H, W) or (N, H, W, C) with 1 or 3 channels"
NAMES = "train_images and test_images (val_images is optional), or images, with labels named in the same way"
HINT = "save it again"

LARGEST_SHARE = 0.5
"""Maximum size of what is read into memory, as a share of the machine's memory."""

SLOW_TO_HASH = 1 << 30
"""Size in bytes above which the digest of a file is stored in the cache; hashing takes about 3 s on one core."""

Parts = tuple[Examples, int, Examples | None, tuple[str, ...]]
"""Training examples, number of them at the end that are for validation, test examples if any, names of classes."""


def array_file(path: str, test_size: float, seed: int) -> Arrays:
    """Read a data set from a file of arrays.

    Pixels are whole numbers from 0 to 255, booleans, or multiples of 1/255 in [0, 1].

    A .npy file of uint8 is memory-mapped, so it may be larger than memory. Its labels are read from the file
    `<name>_labels.npy` beside it, if there is one. Other files are read into memory. Their arrays are named by split
    and content, such as `train_images`, `x_val` or `testLabels`, or by content alone. Arrays with other names are
    ignored with a warning.

    Args:
        path: path of the file.
        test_size: number of training images that become the test set if the file has none, or their share below 1.
        seed: seed of that choice.

    Raises:
        ConfigError: if there is no such file, or it is of another kind.
        DataError: if its content cannot be used.
    """
    file = as_path("path", path)
    readers = {".npy": _read_npy, ".npz": _read_npz, ".safetensors": _read_safetensors}
    if file.suffix not in readers:
        raise ConfigError("path", path, f"must end in {', '.join(readers)}")
    if not file.is_file():
        raise ConfigError("path", path, "is not a file" if file.is_absolute() else f"is not a file in {Path.cwd()}")
    train, validation, test, classes = readers[file.suffix](file)
    if test is None:
        return split_off_test(train, test_size, seed, classes, validation)
    return Arrays(train, test, validation, classes)


def _read_npy(path: Path) -> Parts:
    with readable(path, ".npy file", HINT):
        with open(path, "rb") as stream:
            version = npy.read_magic(stream)
            read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, dtype = read_header(stream)
            offset = stream.tell()
        channels = _layout(shape, path, "the array")
        images: Tensor | MemoryMap
        if dtype == np.uint8 and not fortran:
            images = MemoryMap(path, shape, _digest(path), offset=offset, channels=channels, hint=HINT)
        else:
            _check_memory(path, path.stat().st_size, "save its images as uint8, which are read from disk as needed")
            images = _pixels(np.load(path, allow_pickle=False), path, "the array")
    labels_path, stored = path.with_name(f"{path.stem}_labels.npy"), None
    if labels_path.exists():
        with readable(labels_path, "array of labels", HINT):
            stored = plain_labels(lambda: np.load(labels_path), labels_path)
    labels, classes = read_labels({WHOLE: stored}, {WHOLE: len(images)}, labels_path)
    return Examples(images, labels[WHOLE]), 0, None, classes


def _check_memory(path: Path, size: int, hint: str) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory * LARGEST_SHARE:
        problem = f"needs {size:,} bytes of memory, and this machine has {memory:,}"
        raise DataError(f"{path}: {problem}; {hint}")


def _read_npz(path: Path) -> Parts:
    with readable(path, ".npz file", HINT):
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        _check_memory(path, size, "save its images as a .npy file, which is read from disk as needed")
        with np.load(path, allow_pickle=False) as content:
            return _parts(content, path, content.files)


def _read_safetensors(path: Path) -> Parts:
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise ConfigError("path", str(path), "needs a package: pip install safetensors") from error
    with readable(path, ".safetensors file", HINT):
        content = load_file(path)
    return _parts(content, path, list(content))


def _parts(content: Mapping[str, np.ndarray], path: Path, names: list[str]) -> Parts:
    """Assemble the splits from named arrays.

    Args:
        content: the arrays.
        path: their file, for messages.
        names: names of the arrays.

    Raises:
        DataError: if there are no training images, or several arrays have the same role.
    """
    roles = roles_of(names, str(path))
    splits = [split for split in (TRAIN, VALIDATION, TEST, WHOLE) if (split, IMAGES) in roles]
    if splits not in ([WHOLE], [TRAIN], [TRAIN, VALIDATION], [TRAIN, TEST], [TRAIN, VALIDATION, TEST]):
        listed = ", ".join(map(printable, names))
        raise DataError(f"{path}: holds {listed or 'nothing'}; needs {NAMES}")
    used = {roles[split, kind] for split in splits for kind in (IMAGES, LABELS) if (split, kind) in roles}
    if unused := [printable(name) for name in names if name not in used]:
        log.warning("%s: arrays that are not used: %s", path, ", ".join(unused))
    images = {split: _pixels(content[roles[split, IMAGES]], path, roles[split, IMAGES]) for split in splits}
    for split in [split for split in splits if not len(images[split])]:
        _check_may_be_empty(split, roles[split, IMAGES], path)
        splits.remove(split)
    stored = {
        split: plain_labels(partial(content.__getitem__, roles[split, LABELS]), path)
        if (split, LABELS) in roles
        else None
        for split in splits
    }
    labels, classes = read_labels(stored, {split: len(images[split]) for split in splits}, path)
    train, validation = splits[0], 0
    if VALIDATION in splits:
        validation = len(images[VALIDATION])
        if images[TRAIN].shape[1:] != images[VALIDATION].shape[1:]:
            shapes = [tuple(images[split].shape[1:]) for split in (TRAIN, VALIDATION)]
            raise DataError(f"{path}: training images have shape {shapes[0]}, validation images {shapes[1]}")
        images[TRAIN] = torch.cat([images[TRAIN], images[VALIDATION]])
        labels[TRAIN] = torch.cat([labels[TRAIN], labels[VALIDATION]])
    test = Examples(images[TEST], labels[TEST]) if TEST in splits else None
    return Examples(images[train], labels[train]), validation, test, classes


def _check_may_be_empty(split: str, name: str, path: Path) -> None:
    """Check that an empty array of images is for validation, which is optional, and log a warning about it.

    Raises:
        DataError: if the array is for another split.
    """
    if split in (TRAIN, WHOLE):
        raise DataError(f"{path}: the data set is empty: {printable(name)} holds no images")
    if split == TEST:
        raise DataError(f"{path}: {printable(name)} holds no images to test on; add some, or remove the array")
    log.warning("%s: %s holds no images, so it is not used", path, printable(name))


def printable(name: str) -> str:
    """Return the name of an array for a message, escaped if it has unprintable characters."""
    return name if name.isprintable() else ascii(name)


def _layout(shape: tuple[int, ...], path: Path, name: str) -> str:
    """Return where the channels of images are, judged from their shape: "first", "last" or "none"."""
    if 0 not in shape[1:]:
        if len(shape) == 3:
            return "none"
        if len(shape) == 4 and shape[1] in (1, 3):
            return "first"
        if len(shape) == 4 and shape[3] in (1, 3):
            return "last"
    raise DataError(f"{path}: {name} has shape {shape}; needs {LAYOUT}")


def _pixels(array: np.ndarray, path: Path, name: str) -> Tensor:
    """Convert an array of images to uint8, (N, C, H, W)."""
    channels = _layout(array.shape, path, name)
    pixels = eight_bits(array) if len(array) else array.astype(np.uint8)
    if pixels is None:
        raise DataError(f"{path}: {advice(array, name)}")
    return torch.from_numpy(np.ascontiguousarray(channels_first(pixels, channels)))


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file; that of a large file is stored in the cache until the file changes."""
    stored = cache_directory() / "arrays" / fingerprint(*version(path.resolve()))
    if stored.exists():
        return stored.read_text()
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if path.stat().st_size > SLOW_TO_HASH:
        try:
            with workspace(stored.parent) as scratch:
                (scratch / "digest").write_text(digest)
                os.replace(scratch / "digest", stored)
        except DataError as error:  # the data set itself can be used
            log.warning("%s will be hashed again by the next run: %s", path, error)
    return digest
