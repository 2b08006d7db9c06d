"""Omniglot, SVHN and dSprites.

Digests are those that other projects publish (docs/data.md says which). The readers are tested on small files in the
same formats, and have not been run on the published files, whose hosts were not reachable during development.

Shapes: N examples.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy

from nelbo.data.arrays import Arrays, Examples, split_off_test
from nelbo.data.fetch import RemoteFile, cache_directory, fetch
from nelbo.data.origins import Https
from nelbo.data.readable import readable
from nelbo.data.store import Chunk, Store
from nelbo.errors import DataError

OMNIGLOT_FILES = (
    RemoteFile(
        "chardata.mat", "", None, (Https("https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat"),)
    ),
)
OMNIGLOT_LIMIT = 512 << 20
"""Maximum unpacked size in bytes; the published file has a third of that."""

COMPRESSED, CHUNK_BYTES = 15, 1 << 20
"""Type number of a compressed element of a MATLAB file, and bytes that are decompressed at a time."""

SVHN_FILES = tuple(
    RemoteFile(name, f"sha256:{sha256}", size, (Https(f"https://ufldl.stanford.edu/housenumbers/{name}"),))
    for name, size, sha256 in (
        ("train_32x32.mat", 182040794, "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
        ("test_32x32.mat", 64275384, "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
    )
)
DSPRITES_NAME = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
DSPRITES_FILES = (
    RemoteFile(
        DSPRITES_NAME,
        "md5:7da33b31b13a06f4b04a70402ce90c2e",
        None,
        (Https(f"https://github.com/google-deepmind/dsprites-dataset/raw/master/{DSPRITES_NAME}"),),
    ),
)
DSPRITES_FACTORS = ("color", "shape", "scale", "orientation", "x", "y")
DSPRITES_TEST = 0.1
DSPRITES_SEED = 0
CHUNK = 10_000


def omniglot() -> Arrays:
    """Return Omniglot as prepared by Burda et al. 2016: 24,345 training and 8,070 test images of 1x28x28.

    The labels are the fifty alphabets. The published grey values v in [0, 1] are stored as round(255 v).

    Raises:
        DataError: if the file cannot be fetched or is corrupt.
    """
    (path,) = fetch(OMNIGLOT_FILES, "omniglot")
    return read_omniglot(path)


def read_omniglot(path: Path) -> Arrays:
    """Read chardata.mat of Burda et al.: columns of 784 grey values in column-major order, and of one-hot alphabets.

    Raises:
        DataError: if the file is not in this format.
    """
    with readable(path, "Omniglot file"):
        _check_unpacked(path)
    content = _read_mat(path, "data", "target", "testdata", "testtarget")

    def part(data: str, target: str) -> Examples:
        greys, one_hot = content[data], content[target]
        if greys.shape[0] != 784 or greys.shape[1] != one_hot.shape[1] or not (greys.min() >= 0 and greys.max() <= 1):
            raise ValueError(f"{data} has shape {greys.shape}, {target} {one_hot.shape}")
        images = np.round(greys.T.reshape(-1, 1, 28, 28) * 255).astype(np.uint8).swapaxes(2, 3)
        return Examples(torch.from_numpy(images.copy()), torch.from_numpy(one_hot.argmax(axis=0)).long())

    with readable(path, "Omniglot file"):
        return Arrays(part("data", "target"), part("testdata", "testtarget"))


def _check_unpacked(path: Path) -> None:
    """Check the unpacked size of a MATLAB file, which has no published digest, so that it cannot fill the memory.

    The file consists of a header of 128 bytes and of elements with type, size and content, which may be compressed.

    Raises:
        ValueError: if it is larger than `OMNIGLOT_LIMIT`.
    """
    total = 0
    with open(path, "rb") as file:
        file.seek(128)
        while len(tag := file.read(8)) == 8:
            kind, size = struct.unpack("<2I", tag)
            if kind != COMPRESSED:
                file.seek(size, os.SEEK_CUR)
                continue
            decompressor, compressed = zlib.decompressobj(), file.read(size)
            while compressed and total <= OMNIGLOT_LIMIT:
                total += len(decompressor.decompress(compressed, CHUNK_BYTES))
                compressed = decompressor.unconsumed_tail
    if total > OMNIGLOT_LIMIT:
        raise ValueError(f"unpacks to more than {OMNIGLOT_LIMIT} bytes")


def svhn() -> Arrays:
    """Return SVHN (Netzer et al. 2011), cropped: 73,257 training and 26,032 test images of 3x32x32, ten digits.

    Raises:
        DataError: if the files cannot be fetched or are corrupt.
    """
    train, test = fetch(SVHN_FILES, "svhn")
    return Arrays(read_svhn(train), read_svhn(test), classes=tuple("0123456789"))


def read_svhn(path: Path) -> Examples:
    """Read an SVHN file: X of shape (32, 32, 3, N) and y of shape (N, 1), in which 10 stands for the digit 0.

    Raises:
        DataError: if the file is not in this format.
    """
    content = _read_mat(path, "X", "y")
    with readable(path, "SVHN file"):
        images, labels = content["X"], content["y"].reshape(-1)
        if images.shape != (32, 32, 3, len(labels)) or images.dtype != np.uint8:
            raise ValueError(f"X has shape {images.shape} and type {images.dtype}, y {labels.shape}")
        if not np.isin(labels, range(1, 11)).all():
            raise ValueError("y holds labels other than 1 to 10")
    return Examples(
        torch.from_numpy(np.ascontiguousarray(images.transpose(3, 2, 0, 1))), torch.from_numpy(labels % 10).long()
    )


def _read_mat(path: Path, *names: str) -> dict[str, Any]:
    from scipy.io import loadmat  # slow to import, and needed for these data sets only

    with readable(path, ".mat file"):
        content: dict[str, Any] = loadmat(path, variable_names=names)
    if missing := [name for name in names if name not in content]:
        raise DataError(f"{path}: has no {', '.join(missing)}; delete it to fetch it again")
    return content


def dsprites() -> Arrays:
    """Return dSprites (Matthey et al. 2017): 737,280 binary images of 1x64x64 with six known factors of variation.

    The labels are the shapes. The published data set has no test set; a tenth, drawn with a fixed seed, becomes it. The
    images are converted once to a memory map of 3 GB.

    Raises:
        DataError: if the file cannot be fetched or is corrupt.
    """
    (path,) = fetch(DSPRITES_FILES, "dsprites")
    return read_dsprites(path)


def read_dsprites(path: Path) -> Arrays:
    """Read the .npz file: imgs (N, 64, 64) of 0 and 1, and latents_classes (N, 6). Its pickled member is not read.

    Raises:
        DataError: if the file is not in this format.
    """
    with readable(path, "dSprites archive"):
        with zipfile.ZipFile(path) as archive, archive.open("latents_classes.npy") as stream:
            factors = npy.read_array(stream, allow_pickle=False)
        if factors.ndim != 2 or factors.shape[1] != len(DSPRITES_FACTORS):
            raise ValueError(f"latents_classes has shape {factors.shape}")
        store = Store(cache_directory() / "dsprites" / "store", [path.name, path.stat().st_size])
        examples = store.open(_dsprites_chunks(path, factors), 4096 * len(factors))
    arrays = split_off_test(examples, DSPRITES_TEST, DSPRITES_SEED, ("square", "ellipse", "heart"))
    return Arrays(arrays.train, arrays.test, classes=arrays.classes, factor_names=DSPRITES_FACTORS)


def _dsprites_chunks(path: Path, factors: np.ndarray) -> Callable[[], Iterator[Chunk]]:
    def make() -> Iterator[Chunk]:
        with zipfile.ZipFile(path) as archive, archive.open("imgs.npy") as stream:
            npy.read_magic(stream)
            shape, _, dtype = npy.read_array_header_1_0(stream)
            if shape != (len(factors), 64, 64) or dtype != np.uint8:
                raise ValueError(f"imgs has shape {shape} and type {dtype}")
            for start in range(0, len(factors), CHUNK):
                count = min(CHUNK, len(factors) - start)
                images = np.frombuffer(stream.read(count * 4096), np.uint8).reshape(count, 1, 64, 64) * np.uint8(255)
                part = factors[start : start + count]
                yield Chunk(images, part[:, DSPRITES_FACTORS.index("shape")], part)

    return make
