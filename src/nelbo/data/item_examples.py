"""Splits of a map-style Dataset, indexed by batches of positions as `Examples` are.

Shapes: N examples of a split, B batch.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from nelbo.data.arrays import FACTORS, LABEL, UNLABELLED, RawBatch
from nelbo.data.items import batch_of_items, check_input, left_out
from nelbo.data.loader import Batches
from nelbo.data.random_keys import restored, seed_by
from nelbo.errors import DataError

__all__ = ["EpochBatches", "FetchedItems", "ItemExamples", "Unindexed", "digest_of"]

log = logging.getLogger(__name__)

SAMPLED = 64
"""Examples of each split that are checked, and that the digest of the data is made of."""

CHUNK = 256
"""Items that are read at once where all are read."""

HELD_OUT = "held out"
"""The key of the random numbers of an item that is not trained on, in place of the epoch."""

Keyed = tuple[int | str, Tensor]
"""The epoch, and the positions of a batch, (B,)."""


class ItemExamples:
    """A split of a map-style Dataset.

    An item is made with random numbers of (seed, epoch, index), if it draws them from the global generators.

    Args:
        dataset: the Dataset.
        where: its name, for messages.
        seed: seed of the random numbers of items that are not trained on.
        order_seed: seed of those of items that are.
        rows: positions of the examples in the Dataset, (N,); None for all.
        collate: puts items together, as the `collate_fn` of a DataLoader does.
    """

    def __init__(
        self,
        dataset: Any,
        where: str,
        *,
        seed: int,
        order_seed: int,
        rows: Tensor | None = None,
        collate: Callable[[Any], Any] = default_collate,
    ) -> None:
        self.dataset, self.where, self.collate = dataset, where, collate
        self.seed, self.order_seed = seed, order_seed
        self.rows = torch.arange(len(dataset)) if rows is None else rows
        self.shape: tuple[int, ...] | None = None
        """The shape that every example must have, once it is known."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, positions: Tensor, where: str) -> ItemExamples:
        """Return the split of the examples at `positions`, (M,), of this one."""
        seeds = {"seed": self.seed, "order_seed": self.order_seed}
        return ItemExamples(self.dataset, where, **seeds, rows=self.rows[positions], collate=self.collate)

    def __getitems__(self, positions: Tensor) -> RawBatch:
        """Return the batch of the examples at `positions` (B,), as they are where they are not trained on."""
        return self.fetch(positions, HELD_OUT)

    def fetch(self, positions: Tensor, epoch: int | str) -> RawBatch:
        """Return the batch of the examples at `positions` (B,).

        Args:
            positions: positions in the split.
            epoch: epoch of training, or `HELD_OUT`.

        Raises:
            DataError: if they make no batch, or one that a model cannot be given.
        """
        rows = self.rows[positions]
        batch = batch_of_items(list(self._items(rows.tolist(), epoch)), rows.tolist(), self.where, self.collate)
        check_input(batch.x, self.shape, self.where, rows.tolist())
        return RawBatch(batch.x, batch.labels, rows, batch.columns)

    def _items(self, rows: Sequence[int], epoch: int | str) -> Iterator[Any]:
        seed = self.seed if epoch == HELD_OUT else self.order_seed
        with restored():
            for row in rows:
                seed_by(seed, epoch, row)
                yield self.dataset[row]

    @cached_property
    def sample(self) -> Tensor:
        """Positions of at most `SAMPLED` examples, evenly spread."""
        count = min(SAMPLED, len(self))
        return torch.arange(count) * len(self) // max(1, count)

    @cached_property
    def first(self) -> RawBatch:
        """The first example."""
        return self.__getitems__(torch.arange(1))

    def unused(self) -> list[str]:
        """Return the names of entries of the first item that no model is given."""
        (item,) = self._items(self.rows[:1].tolist(), HELD_OUT)
        return left_out(item) if self.collate is default_collate else []

    @cached_property
    def _table(self) -> dict[str, Tensor]:
        """What is known of each example, (N, ...), by name."""
        log.info("reading the %d items of %s once, for what is known of each", len(self), self.where)
        batches = [self.__getitems__(chunk) for chunk in torch.arange(len(self)).split(CHUNK)]
        columns = {name: torch.cat([batch.columns[name] for batch in batches]) for name in batches[0].columns}
        return {LABEL: torch.cat([batch.labels for batch in batches]), **columns}

    def known(self, name: str) -> Tensor | None:
        """Return what is known of every example under a name of a model's context, (N, ...); None if nothing.

        The items are read for it, once. Where the first one has no label, the others are taken to have none.
        """
        if not len(self):
            return torch.full((0,), UNLABELLED) if name == LABEL else None
        if name == LABEL and int(self.first.labels) == UNLABELLED:
            return torch.full((len(self),), UNLABELLED)
        return self._table.get(name) if name == LABEL or name in self.first.columns else None

    @property
    def columns(self) -> Mapping[str, Tensor]:
        """What else is known of the examples, by name, (N, ...) each."""
        return {name: self._table[name] for name in self.first.columns if name != FACTORS}

    def sampled_batch(self) -> RawBatch:
        """Return the examples of `sample`."""
        return self.__getitems__(self.sample)


def digest_of(batches: Mapping[str, RawBatch]) -> str:
    """Return the SHA-256 of the examples of batches, by the name of their split."""
    digest = hashlib.sha256()
    for split, batch in batches.items():
        for name, tensor in (("x", batch.images), (LABEL, batch.labels), *sorted(batch.columns.items())):
            digest.update(f"{split} {name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


class EpochBatches(Batches):
    """Batches of positions together with the epoch, which decides the random numbers of the items."""

    constant: int | str | None = None
    """What stands in place of the epoch; None for the epoch."""

    def __iter__(self) -> Iterator[Keyed]:  # type: ignore[override] # positions alone in the base class
        epoch = self.epoch if self.constant is None else self.constant
        return ((epoch, positions) for positions in super().__iter__())


class FetchedItems(Dataset[RawBatch]):
    """The examples of a split as a DataLoader with `EpochBatches` fetches them.

    An error is returned and not raised, because a worker would make a traceback of it.
    """

    def __init__(self, examples: ItemExamples) -> None:
        self.examples = examples

    def __getitems__(self, keyed: Keyed) -> RawBatch | DataError:
        """Return the batch of the examples at (epoch, positions), or the error that there is none."""
        epoch, positions = keyed
        try:
            return self.examples.fetch(positions, epoch)
        except DataError as error:
            return error


class Unindexed:
    """A split whose examples cannot be read by position, or that the DataModule does not have.

    Args:
        count: number of examples, N.
        where: what it is of, for messages.
    """

    columns: Mapping[str, Tensor] = {}

    def __init__(self, count: int, where: str) -> None:
        self.count, self.where = count, where

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, positions: Tensor) -> RawBatch:
        """Refuse to read examples.

        Raises:
            DataError: always.
        """
        raise DataError(f"{self.where}: the Dataset is not map-style, so its examples cannot be read by position")

    def known(self, name: str) -> Tensor | None:
        """Return that nothing is known of the examples."""
        return None
