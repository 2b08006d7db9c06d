"""`data=arrays`: images and labels in a .npy, .npz or .safetensors file.

Shapes: N examples, C H W image.
"""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from nelbo.data.arrays import Arrays, Examples, split_off_test, unlabelled
from nelbo.data.fetch import cache_directory, workspace
from nelbo.data.memory_map import MemoryMap, channels_first
from nelbo.data.readable import readable
from nelbo.data.store import fingerprint, version
from nelbo.errors import ConfigError, DataError
from nelbo.errors import path as as_path

log = logging.getLogger(__name__)
LAYOUT = "images of shape (N, H, W), (N, C, H, W) or (N, H, W, C) with 1 or 3 channels"
TRAIN, TEST = (
    (("train_images", "train_labels"), ("x_train", "y_train")),
    (("test_images", "test_labels"), ("x_test", "y_test")),
)
WHOLE = (("images", "labels"), ("x", "y"))
MEND = "write it anew"
LARGEST_SHARE = 0.5
"""Of the machine's memory, what a packed file may unpack to."""
SLOW_TO_HASH = 1 << 30
"""Bytes; about three seconds on one core."""


def array_file(path: str, test_size: float, seed: int) -> Arrays:
    """A set in a file: uint8, or booleans, or numbers in [0, 1] that are multiples of 1/255.

    A .npy file of uint8 is memory-mapped, so it may be larger than memory; labels may lie beside it in
    `<name>_labels.npy`. The others are read into memory, and hold `train_images` and `test_images` (or `x_train` and
    `x_test`), or `images` alone, with labels named alike.

    Args:
        path: of the file.
        test_size: how many images, or which share of them, are the test set where the file has none.
        seed: of that choice.

    Raises:
        ConfigError: if there is no such file, or of another kind.
        DataError: if its content cannot be used; says why.
    """
    file = as_path("path", path)
    readers = {".npy": _read_npy, ".npz": _read_npz, ".safetensors": _read_safetensors}
    if file.suffix not in readers:
        raise ConfigError("path", path, f"must end in {', '.join(readers)}")
    if not file.is_file():
        raise ConfigError("path", path, "is not a file" if file.is_absolute() else f"is not a file in {Path.cwd()}")
    first, *rest = readers[file.suffix](file)
    return Arrays(first, rest[0]) if rest else split_off_test(first, test_size, seed)


def _read_npy(path: Path) -> list[Examples]:
    with readable(path, ".npy file", MEND):
        with open(path, "rb") as stream:
            version = npy.read_magic(stream)
            read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, dtype = read_header(stream)
            offset = stream.tell()
        channels = _layout(shape, path, "the array")
        images: Tensor | MemoryMap
        if dtype == np.uint8 and not fortran:
            images = MemoryMap(path, shape, _digest(path), offset=offset, channels=channels, mend=MEND)
        else:
            _check_memory(path, path.stat().st_size, "save its images as uint8, which are read from disk as needed")
            images = _pixels(np.load(path, allow_pickle=False), path, "the array")
    labels = unlabelled(len(images))
    beside = path.with_name(f"{path.stem}_labels.npy")
    if beside.exists():
        with readable(beside, "array of labels", MEND):
            labels = _labels(np.load(beside, allow_pickle=False), len(images), beside)
    return [Examples(images, labels)]


def _check_memory(path: Path, size: int, mend: str) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory * LARGEST_SHARE:
        raise DataError(f"{path}: unpacks to {size:,} bytes, this machine has {memory:,} of memory; {mend}")


def _read_npz(path: Path) -> list[Examples]:
    with readable(path, ".npz file", MEND):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        _check_memory(path, unpacked, "save its images as a .npy file, which is read from disk as needed")
        with np.load(path, allow_pickle=False) as content:
            return _examples({name: content[name] for name in content.files if _known(name)}, path, content.files)


def _read_safetensors(path: Path) -> list[Examples]:
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise ConfigError("path", str(path), "needs a package: pip install safetensors") from error
    with readable(path, ".safetensors file", MEND):
        content = load_file(path)
    return _examples(content, path, list(content))


def _known(name: str) -> bool:
    return any(name in pair for pair in (*TRAIN, *TEST, *WHOLE))


def _examples(content: Mapping[str, np.ndarray], path: Path, names: list[str]) -> list[Examples]:
    """[train, test], or [all]."""

    def part(pairs: tuple[tuple[str, str], ...]) -> Examples | None:
        for images, labels in pairs:
            if images in content:
                pixels = _pixels(content[images], path, images)
                found = _labels(content[labels], len(pixels), path) if labels in content else unlabelled(len(pixels))
                return Examples(pixels, found)
        return None

    train, test, whole = part(TRAIN), part(TEST), part(WHOLE)
    if train is not None and test is not None and whole is None:
        return [train, test]
    alone = [one for one in (train, whole) if one is not None]
    if len(alone) == 1 and test is None:
        return alone
    held = ", ".join(name if name.isprintable() else ascii(name) for name in names)
    wanted = "train_images and test_images, or images"
    raise DataError(f"{path}: holds {held or 'nothing'}; needs {wanted}, with labels named alike")


def _layout(shape: tuple[int, ...], path: Path, name: str) -> str:
    """Where the channels are: "first", "last" or "none"."""
    if 0 not in shape[1:]:
        if len(shape) == 3:
            return "none"
        if len(shape) == 4 and shape[1] in (1, 3):
            return "first"
        if len(shape) == 4 and shape[3] in (1, 3):
            return "last"
    raise DataError(f"{path}: {name} has shape {shape}; needs {LAYOUT}")


def _pixels(array: np.ndarray, path: Path, name: str) -> Tensor:
    """Any allowed array as uint8, (N, C, H, W)."""
    channels = _layout(array.shape, path, name)
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype != np.uint8:
        array = _eight_bits(array, path, name)
    return torch.from_numpy(np.ascontiguousarray(channels_first(array, channels)))


def _eight_bits(array: np.ndarray, path: Path, name: str) -> np.ndarray:
    mend = "save uint8 pixels, such as np.round(255 * x).astype(np.uint8)"
    if array.dtype.kind not in "fiu" or array.size == 0:
        raise DataError(f"{path}: {name} holds {array.dtype}; {mend}")
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 1):
        raise DataError(f"{path}: {name} holds {array.dtype} between {low:g} and {high:g}; {mend}")
    scaled = array.astype(np.float32) * 255
    rounded = np.round(scaled)
    if np.abs(scaled - rounded).max() > 0.01:  # silent rounding would change the data
        raise DataError(f"{path}: {name} holds values between the 256 levels; {mend}")
    return rounded.astype(np.uint8)


def _labels(array: np.ndarray, count: int, path: Path) -> Tensor:
    labels = array.reshape(len(array), -1)[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{path}: has labels of shape {array.shape} and type {array.dtype}; needs ({count},) whole numbers"
        )
    return torch.from_numpy(labels.astype(np.int64))


def _digest(path: Path) -> str:
    """The SHA-256 of a file; that of a large one is remembered in the cache for as long as the file is not changed."""
    known = cache_directory() / "arrays" / fingerprint(*version(path.resolve()))
    if known.exists():
        return known.read_text()
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if path.stat().st_size > SLOW_TO_HASH:
        try:
            with workspace(known.parent) as scratch:
                (scratch / "digest").write_text(digest)
                os.replace(scratch / "digest", known)
        except DataError as error:  # the set itself is at hand
            log.warning("%s will be hashed again by the next run: %s", path, error)
    return digest
