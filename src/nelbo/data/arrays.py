"""A data set as published, in memory or on disk.

Shapes: N or B examples, C H W image, F factors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from nelbo.data.memory_map import MemoryMap
from nelbo.errors import ConfigError, DataError, number

UNLABELLED = -1
RawBatch = tuple[Tensor, Tensor, Tensor]
"""uint8 images (B, C, H, W), labels (B,), and where the images stand in their array (B,)."""


@dataclass(frozen=True, eq=False)
class Examples(Dataset[RawBatch]):
    """Images and labels, indexed a batch at a time: all of an array, or those at `indices`.

    Args:
        images: (N, C, H, W), uint8 in [0, 255].
        labels: (N,), int64; `UNLABELLED` where there are none.
        factors: (N, F), int64: the known factors of variation, where there are any.
        indices: which of the N these are; all of them if None.
    """

    images: Tensor | MemoryMap
    labels: Tensor
    factors: Tensor | None = None
    indices: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images) if self.indices is None else len(self.indices)

    def __getitem__(self, position: int) -> RawBatch:
        """A batch of one."""
        return self.__getitems__(torch.tensor([position]))

    def __getitems__(self, positions: Tensor) -> RawBatch:
        """A batch."""
        where = positions if self.indices is None else self.indices[positions]
        return self.images.index_select(0, where), self.labels[where], where

    def take(self, positions: Tensor) -> Examples:
        """Some of these, without a copy."""
        return Examples(
            self.images, self.labels, self.factors, positions if self.indices is None else self.indices[positions]
        )

    def update_digest(self, digest: hashlib._Hash) -> None:
        """Add images, labels and choice."""
        if isinstance(self.images, MemoryMap):
            digest.update(self.images.sha256.encode())
        else:
            digest.update(str(tuple(self.images.shape)).encode())
            digest.update(self.images.contiguous().numpy().data)
        for tensor in (self.labels, self.indices):
            if tensor is not None:
                digest.update(tensor.contiguous().numpy().data)


@dataclass(frozen=True, eq=False)
class Arrays:
    """A data set as published.

    Args:
        train: to train on, and to hold validation images out of.
        test: to test on.
        validation: how many of the last training images are a published validation set; 0 if there is none.
        classes: what the labels 0, 1, ... mean.
        factor_names: what the columns of `factors` mean.
    """

    train: Examples
    test: Examples
    validation: int = 0
    classes: tuple[str, ...] = ()
    factor_names: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return tuple(self.train.images.shape[1:])

    def empty_parts(self) -> list[str]:
        """Which of the parts that a set must have hold no images: "training", "test"."""
        counts = {"training": len(self.train) - self.validation, "test": len(self.test)}
        return [part for part, count in counts.items() if count <= 0]

    def sha256(self) -> str:
        """Of images and labels as they are served; for images mapped from disk, of their file."""
        digest = hashlib.sha256()
        for examples in (self.train, self.test):
            examples.update_digest(digest)
        return digest.hexdigest()


def unlabelled(count: int) -> Tensor:
    """Labels for images that have none, (N,)."""
    return torch.full((count,), UNLABELLED)


def split_off_test(
    examples: Examples, size: float, seed: int, classes: Sequence[str] = (), validation: int = 0
) -> Arrays:
    """A set that was published without test images: `size` of it, drawn by `seed`, becomes the test set.

    Args:
        examples: all of them.
        size: a number of images, or a share of those that are not for validation.
        seed: of the choice.
        classes: what the labels mean.
        validation: how many of the last are a published validation set, and stay that.

    Raises:
        ConfigError: if that leaves nothing to train on.
    """
    total = len(examples) - validation
    count = held_out("test_size", size, total)
    if count == 0:
        raise ConfigError("test_size", size, f"must leave at least one of the {total} images to test on")
    chosen, rest = random_split(total, count, seed)
    kept = torch.cat([rest, torch.arange(total, len(examples))])
    return Arrays(examples.take(kept), examples.take(chosen), validation, tuple(classes))


def random_split(total: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """`size` of `total` positions drawn by `seed`, and the rest, both in ascending order."""
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return order[:size].sort().values, order[size:].sort().values


def held_out(key: str, size: float, total: int) -> int:
    """How many of `total` to hold out: a whole number, or a share below 1.

    Raises:
        ConfigError: if it is neither, or leaves nothing to train on.
        DataError: if there are no images.
    """
    if total == 0:
        raise DataError("the data set is empty")
    number(key, size, minimum=0)
    count = max(1, round(size * total)) if 0 < size < 1 else int(size)
    if size >= 1 and count != size:
        raise ConfigError(key, size, "must be a whole number of images, or a share below 1")
    if count >= total:
        raise ConfigError(key, size, f"must leave some of the {total} training images")
    return count
