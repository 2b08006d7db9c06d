"""Data sets as arrays of images and labels, in memory or on disk, and how images are held out of them.

Shapes: N examples in an array, B examples in a batch, C H W image, or D in place of C H W for vectors, F factors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from nelbo.data.memory_map import MemoryMap
from nelbo.errors import ConfigError, DataError, number

UNLABELLED = -1
"""Label of an image that has none."""

LABEL, FACTORS = "label", "factors"
"""The names under which a model is given labels, (B,) int64, and factors of variation, (B, F), as its context."""

OBSERVED = "observed"
"""The name under which a model is given which entries of x are known, (B, D), bool, where some may be missing."""


class RawBatch(NamedTuple):
    """Examples as they are stored.

    Args:
        images: (B, C, H, W), uint8, or float32 for data of real numbers.
        labels: (B,), int64.
        positions: positions of the examples in their array, (B,), int64.
        columns: what else is known of each example, by name, (B, ...) each.
    """

    images: Tensor
    labels: Tensor
    positions: Tensor
    columns: dict[str, Tensor] = {}  # noqa: RUF012 # a field of a tuple, never changed

    def to(self, device: torch.device) -> RawBatch:
        """Return the same batch on a device."""
        images, labels, positions = (part.to(device) for part in (self.images, self.labels, self.positions))
        return RawBatch(images, labels, positions, _moved(self.columns, device))


class Batch(NamedTuple):
    """Input of a model.

    Args:
        x: images, (B, C, H, W), float in [0, 1]; those of real numbers in their own units.
        labels: (B,), int64.
        columns: what else is known of each example, by name, (B, ...) each.
    """

    x: Tensor
    labels: Tensor
    columns: dict[str, Tensor] = {}  # noqa: RUF012 # a field of a tuple, never changed

    def context(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Return what a model that is conditioned on `names` is given of the data, as far as the data have it."""
        known = {LABEL: self.labels, **self.columns}
        return {name: known[name] for name in names if name in known}

    def to(self, device: torch.device) -> Batch:
        """Return the same batch on a device."""
        return Batch(self.x.to(device), self.labels.to(device), _moved(self.columns, device))


def _moved(columns: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: column.to(device) for name, column in columns.items()}


@dataclass(frozen=True, eq=False)
class Examples(Dataset[RawBatch]):
    """Images and labels, indexed by batch: those of a whole array, or of the positions `indices` in it.

    Args:
        images: (N, C, H, W), uint8 in [0, 255], or floats in units of their own.
        labels: (N,), int64; `UNLABELLED` for images without a label.
        factors: (N, F), int64: values of the known factors of variation; None if unknown.
        indices: positions of the examples in the array; None for all N.
        columns: what else is known of each example, by name, (N, ...) each, which models may be conditioned on: whole
            numbers are classes, floats are numbers.

    Example:
        >>> images = torch.zeros(5, 1, 8, 8, dtype=torch.uint8)
        >>> some = Examples(images, unlabelled(5)).take(torch.tensor([0, 3]))
        >>> len(some)
        2
        >>> x, labels, positions, _ = some.__getitems__(torch.tensor([1]))
        >>> x.shape, labels.tolist(), positions.tolist()
        (torch.Size([1, 1, 8, 8]), [-1], [3])
    """

    images: Tensor | MemoryMap
    labels: Tensor
    factors: Tensor | None = None
    indices: Tensor | None = None
    columns: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images) if self.indices is None else len(self.indices)

    def __getitem__(self, position: int) -> RawBatch:
        """Return a batch of one example."""
        return self.__getitems__(torch.tensor([position]))

    def __getitems__(self, positions: Tensor) -> RawBatch:
        """Return the batch of the examples at `positions` (B,)."""
        rows = positions if self.indices is None else self.indices[positions]
        known = {name: column[rows] for name, column in self.columns.items()}
        if self.factors is not None:
            known[FACTORS] = self.factors[rows].float()
        return RawBatch(self.images.index_select(0, rows), self.labels[rows], rows, known)

    def take(self, positions: Tensor) -> Examples:
        """Return the examples at `positions`, without copying images."""
        indices = positions if self.indices is None else self.indices[positions]
        return replace(self, indices=indices)

    def known(self, name: str) -> Tensor | None:
        """Return what is known of every example under a name of a model's context, (N, ...); None if nothing."""
        column = {LABEL: self.labels, FACTORS: self.factors}.get(name, self.columns.get(name))
        return column if column is None or self.indices is None else column[self.indices]

    def update_digest(self, digest: hashlib._Hash) -> None:
        """Add images, labels and indices to a digest."""
        if isinstance(self.images, MemoryMap):
            digest.update(self.images.sha256.encode())
        else:
            digest.update(str(tuple(self.images.shape)).encode())
            digest.update(self.images.contiguous().numpy().data)
        columns = [self.columns[name] for name in sorted(self.columns)]
        digest.update("".join(sorted(self.columns)).encode())
        for tensor in (self.labels, self.indices, *columns):
            if tensor is not None:
                digest.update(tensor.contiguous().numpy().data)


@dataclass(frozen=True, eq=False)
class Arrays:
    """A data set with its published splits.

    Args:
        train: examples for training, including the published validation set if there is one.
        test: examples for testing.
        validation: number of examples at the end of `train` that are a published validation set; 0 for none.
        classes: names of the labels 0, 1, ...
        factor_names: names of the columns of `factors`.
        table: of a table, what turns its rows into x and back: `columns`, a description of each column, and `label`,
            that of the column that is the label, or None; plain containers.
    """

    train: Examples
    test: Examples
    validation: int = 0
    classes: tuple[str, ...] = ()
    factor_names: tuple[str, ...] = ()
    table: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (C, H, W) of a training image, or (D,) of a vector."""
        return tuple(self.train.images.shape[1:])

    def empty_parts(self) -> list[str]:
        """Return which of the required splits, "training" and "test", have no images."""
        counts = {"training": len(self.train) - self.validation, "test": len(self.test)}
        return [part for part, count in counts.items() if count <= 0]

    def sha256(self) -> str:
        """Return the SHA-256 of all images, labels and indices; a memory map contributes the SHA-256 of its images."""
        digest = hashlib.sha256()
        for examples in (self.train, self.test):
            examples.update_digest(digest)
        return digest.hexdigest()


def unlabelled(count: int) -> Tensor:
    """Return labels (N,) for `count` images that have none."""
    return torch.full((count,), UNLABELLED)


def split_off_test(
    examples: Examples, size: float, seed: int, classes: Sequence[str] = (), validation: int = 0
) -> Arrays:
    """Hold a test set out of a data set that was published without one.

    Args:
        examples: the whole data set.
        size: number of test images, or their share of the images that are not for validation.
        seed: seed of the random choice.
        classes: names of the labels.
        validation: number of examples at the end of `examples` that are a published validation set; none of them become
            test images.

    Raises:
        ConfigError: if `size` leaves no test images or no training images.
    """
    total = len(examples) - validation
    count = held_out("test_size", size, total)
    if count == 0:
        raise ConfigError("test_size", size, f"must leave at least one of the {total} images to test on")
    test, rest = random_split(total, count, seed)
    train = torch.cat([rest, torch.arange(total, len(examples))])
    return Arrays(examples.take(train), examples.take(test), validation, tuple(classes))


def random_split(total: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw `size` of the positions 0 .. total - 1 at random; return them and the rest, both in ascending order."""
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return order[:size].sort().values, order[size:].sort().values


def held_out(key: str, size: float, total: int) -> int:
    """Return how many of `total` images to hold out.

    Args:
        key: name of the config value `size`, for errors.
        size: a whole number of images, or a share below 1; a positive share holds out at least one image.
        total: number of images.

    Raises:
        ConfigError: if `size` is neither, or leaves no training images.
        DataError: if `total` is 0.
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
