"""The data set `data=arrays`: images or vectors, and their labels, in a .npy, .npz or .safetensors file.

Shapes: N examples, C H W image, or D in place of C H W for vectors.
"""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from nelbo.data.arrays import OBSERVED, Arrays, Examples, split_off_test
from nelbo.data.fetch import cache_directory, workspace
from nelbo.data.labels import plain_labels, read_labels
from nelbo.data.memory_map import MemoryMap
from nelbo.data.readable import readable
from nelbo.data.reals import refuse_not_finite
from nelbo.data.sets.known import column_names, read_column, read_factors
from nelbo.data.sets.named_arrays import Options, Parts, parts_of, to_tensor
from nelbo.data.sets.names import WHOLE
from nelbo.data.sets.stored_values import as_stored, holds_pixels, layout_of, warn_of_pixels
from nelbo.data.store import fingerprint, version
from nelbo.errors import ConfigError, DataError
from nelbo.errors import path as as_path

log = logging.getLogger(__name__)
HINT = "save it again"

LARGEST_SHARE = 0.5
"""Maximum size of what is read into memory, as a share of the machine's memory."""

SLOW_TO_HASH = 1 << 30
"""Size in bytes above which the digest of a file is stored in the cache; hashing takes about 3 s on one core."""


def array_file(
    path: str, test_size: float, seed: int, layout: str | None = None, columns: Sequence[str] | None = None
) -> Arrays:
    """Read a data set from a file of arrays.

    Whole numbers from 0 to 255, booleans, and multiples of 1/255 in [0, 1] are pixels of 8 bits. Any other floats are
    real numbers, which are served as they are, as float32.

    A .npy file of uint8 or float32 is memory-mapped, so it may be larger than memory. Its labels are read from the file
    `<name>_labels.npy` beside it, if there is one, its factors from `<name>_factors.npy`, and a column from
    `<name>_<column>.npy`. Other files are read into memory. Their arrays are named by split and content, such as
    `train_images`, `x_val` or `testLabels`, or by content alone; `observed` is a mask of pixels. Others are ignored
    with a warning.

    Args:
        path: path of the file.
        test_size: number of training images that become the test set if the file has none, or their share below 1.
        seed: seed of that choice.
        layout: where the channels of images are, "first" or "last"; None to judge from the shape. Configs of earlier
            versions lack it and `columns`.
        columns: names of what else is read of each example, for models that are conditioned on it; None for nothing.

    Raises:
        ConfigError: if there is no such file, it is of another kind, or it lacks a column.
        DataError: if its content cannot be used.
    """
    file = as_path("path", path)
    readers = {".npy": _read_npy, ".npz": _read_npz, ".safetensors": _read_safetensors}
    if file.suffix not in readers:
        raise ConfigError("path", path, f"must end in {', '.join(readers)}")
    if not file.is_file():
        raise ConfigError("path", path, "is not a file" if file.is_absolute() else f"is not a file in {Path.cwd()}")
    options = Options(layout, tuple(column_names(columns)))
    train, validation, test, classes = readers[file.suffix](file, options)
    if test is None:
        return split_off_test(train, test_size, seed, classes, validation)
    return Arrays(train, test, validation, classes)


def _read_npy(path: Path, options: Options) -> Parts:
    with readable(path, ".npy file", HINT):
        with open(path, "rb") as stream:
            version = npy.read_magic(stream)
            read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, dtype = read_header(stream)
            offset = stream.tell()
        channels = layout_of(shape, options.layout, path, "the array")
        images: Tensor | MemoryMap
        if not fortran and _can_be_mapped(path, dtype):
            stored_as = torch.uint8 if dtype == np.uint8 else torch.float32
            digest = _digest(path)
            images = MemoryMap(path, shape, digest, offset=offset, channels=channels, hint=HINT, dtype=stored_as)
        else:
            hint = "save its values as uint8 or float32, which are read from disk as needed"
            _check_memory(path, path.stat().st_size, hint)
            array = as_stored({"the array": np.load(path, allow_pickle=False)}, path)["the array"]
            images = to_tensor(array, channels)
    counts = {WHOLE: len(images)}
    if (mask := path.with_name(f"{path.stem}_{OBSERVED}.npy")).exists():
        raise DataError(f"{path}: the mask {mask.name} is beside it; save both in one .npz or .safetensors")
    labels_path, stored = path.with_name(f"{path.stem}_labels.npy"), None
    if labels_path.exists():
        with readable(labels_path, "array of labels", HINT):
            stored = plain_labels(lambda: np.load(labels_path), labels_path)
    labels, classes = read_labels({WHOLE: stored}, counts, labels_path)
    factors, columns = _beside(path, counts, options.columns)
    return Examples(images, labels[WHOLE], factors, columns=columns), 0, None, classes


def _can_be_mapped(path: Path, dtype: np.dtype) -> bool:
    """Return whether the values of a .npy file can be read from disk as they are: pixels of 8 bits, or real numbers.

    Raises:
        DataError: if real numbers are not finite.
    """
    if dtype != np.dtype("<f4"):
        return bool(dtype == np.uint8)
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    if not values.size or holds_pixels(values):
        return False
    refuse_not_finite(values, str(path), "the array")
    warn_of_pixels(values, path, "the array")
    return True


def _beside(path: Path, counts: dict[str, int], columns: Sequence[str]) -> tuple[Tensor | None, dict[str, Tensor]]:
    """Read factors and columns from files beside a .npy file, `<name>_factors.npy` and `<name>_<column>.npy`.

    Raises:
        ConfigError: if a column has no file.
        DataError: if a file cannot be used.
    """
    file, found = path.with_name(f"{path.stem}_factors.npy"), {}
    with readable(file, "array of factors", HINT):
        factors = read_factors({WHOLE: partial(np.load, file)} if file.exists() else {}, counts, file)[WHOLE]
    for column in columns:
        file = path.with_name(f"{path.stem}_{column}.npy")
        if not file.exists():
            raise ConfigError("columns", column, f"needs the file {file}")
        with readable(file, "array", HINT):
            found[column] = read_column({WHOLE: partial(np.load, file)}, counts, column, file)[WHOLE]
    return factors, found


def _check_memory(path: Path, size: int, hint: str) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory * LARGEST_SHARE:
        problem = f"needs {size:,} bytes of memory, and this machine has {memory:,}"
        raise DataError(f"{path}: {problem}; {hint}")


def _read_npz(path: Path, options: Options) -> Parts:
    with readable(path, ".npz file", HINT):
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        _check_memory(path, size, "save its images as a .npy file, which is read from disk as needed")
        with np.load(path, allow_pickle=False) as content:
            return parts_of(content, path, content.files, options)


def _read_safetensors(path: Path, options: Options) -> Parts:
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise ConfigError("path", str(path), "needs a package: pip install safetensors") from error
    with readable(path, ".safetensors file", HINT):
        content = load_file(path)
    return parts_of(content, path, list(content), options)


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
