"""The published data sets, their sizes, and the state of their files in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nelbo.data.fetch import RemoteFile, cache_directory, mismatch, record
from nelbo.data.sets.cifar import CIFAR10_FILES, CIFAR100_FILES
from nelbo.data.sets.mnist import FASHION_FILES, MNIST_FILES, STATIC_FILES
from nelbo.data.sets.published import DSPRITES_FILES, OMNIGLOT_FILES, SVHN_FILES


@dataclass(frozen=True)
class Entry:
    """A published data set.

    Args:
        folder: its folder in the cache.
        files: the files that it needs in the cache; empty if it is part of an installed package.
        train: number of training images, including those that validation holds out.
        test: number of test images.
        labels: description of the labels.
    """

    folder: str
    files: Sequence[RemoteFile]
    train: int
    test: int
    labels: str

    def cached(self) -> bool:
        """Return whether all files exist in the cache; `problems` verifies their content."""
        return all((cache_directory() / self.folder / file.name).exists() for file in self.files)

    def size(self) -> int:
        """Return the size of the data set's folder in the cache, in bytes."""
        home = cache_directory() / self.folder
        return sum(path.stat().st_size for path in home.rglob("*") if path.is_file()) if home.is_dir() else 0

    def problems(self) -> list[str]:
        """Return a line for each cached file that is not as expected."""
        paths = [(file, cache_directory() / self.folder / file.name) for file in self.files]
        return [f"{path}: {problem}" for file, path in paths if (problem := mismatch(file, path, record(path)))]


CATALOGUE = {
    "mnist": Entry("mnist", MNIST_FILES, 60_000, 10_000, "10 digits"),
    "binarized_mnist": Entry("mnist", MNIST_FILES, 60_000, 10_000, "10 digits"),
    "binarized_mnist data.protocol=static": Entry("binarized_mnist", STATIC_FILES, 60_000, 10_000, "none"),
    "fashion_mnist": Entry("fashion_mnist", FASHION_FILES, 60_000, 10_000, "10 kinds of clothes"),
    "omniglot": Entry("omniglot", OMNIGLOT_FILES, 24_345, 8_070, "50 alphabets"),
    "digits": Entry("digits", (), 1_500, 297, "10 digits"),
    "cifar10": Entry("cifar10", CIFAR10_FILES, 50_000, 10_000, "10 classes"),
    "cifar100": Entry("cifar100", CIFAR100_FILES, 50_000, 10_000, "100 classes"),
    "svhn": Entry("svhn", SVHN_FILES, 73_257, 26_032, "10 digits"),
    "dsprites": Entry("dsprites", DSPRITES_FILES, 663_552, 73_728, "3 shapes, 6 factors"),
}
"""Data sets by the value of `data=` on the command line."""
