"""A map-style torch Dataset of a user's own as the data of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from nelbo.data.arrays import Batch, RawBatch, held_out, random_split
from nelbo.data.item_examples import HELD_OUT, EpochBatches, FetchedItems, ItemExamples
from nelbo.data.loader import loader
from nelbo.data.own import OwnData, batch_of
from nelbo.data.own_sources import check_map_style, name_of
from nelbo.data.random_keys import KeyedStates
from nelbo.errors import ConfigError, DataError, boolean, integer, positive_integer

__all__ = ["OwnDataset"]

RANDOM_ITEMS = (
    "random numbers: those that an item draws from the generators of torch, NumPy and Python depend on (seed, epoch, "
    "index) alone; those of other generators depend on the workers, and a resumed run does not repeat them"
)


class OwnDataset(OwnData):
    """A map-style Dataset, whose items are x; (x, label); (x, label, columns); or a mapping with the key `x`.

    Args:
        name: name of the data, stored in results.
        source: makes the Dataset, or is one.
        test_source: the Dataset of test examples, or the options in which it differs from `source`; None to hold out
            `test_size` examples.
        val_source: the same for validation.
        test_size: number of examples to hold out for testing, or their share below 1; unused with a `test_source`.
        validation_size: the same for validation; 0 for none.
        shape: required shape of an example; None accepts any.
        levels: number of values that a pixel can take; None for 256 of uint8, and for any number of floats.
        batch_size: B, in each process.
        seed: seed of the split, and of random numbers of items that are not trained on.
        shuffle: whether the order of training batches is random and different in each epoch.
        num_workers: number of processes that make items.
        order_seed: seed of the order of training batches, and of random numbers of their items.

    Raises:
        ConfigError: for a value out of range.
    """

    def __init__(
        self,
        *,
        name: str,
        source: Any,
        test_source: Any,
        val_source: Any,
        test_size: float,
        validation_size: float,
        shape: Sequence[int] | None,
        levels: int | None,
        batch_size: int,
        seed: int,
        shuffle: bool,
        num_workers: int,
        order_seed: int,
    ) -> None:
        super().__init__(name=name, shape=shape, levels=levels, order_seed=order_seed)
        self.source, self.test_source, self.val_source = source, test_source, val_source
        self.test_size, self.validation_size = test_size, validation_size
        self.batch_size = positive_integer("batch_size", batch_size)
        self.seed = integer("seed", seed, minimum=0, maximum=2**32 - 1)
        self.shuffle = boolean("shuffle", shuffle)
        self.num_workers = integer("num_workers", num_workers, minimum=0)

    def setup(self, stage: str | None = None) -> None:
        """Make the Datasets and split them; later calls do nothing.

        Raises:
            ConfigError: if one is no map-style Dataset, or a size or shape does not fit.
            DataError: if examples cannot be used.
        """
        if self.splits:
            return
        whole = self._dataset("source", self.source)
        train = self._all(whole, "training")
        train, test = self._parted(train, "test", self.test_source, self.test_size)
        rest, val = self._parted(train, "val", self.val_source, self.validation_size)
        hashed = {"train": train, "test": test} | ({"val": val} if self.val_source is not None else {})
        splits = {"train": rest, "val": val, "test": test}
        self._inspect(splits, hashed)
        self.splits = dict(splits)
        names = getattr(whole, "classes", ())
        if isinstance(names, list | tuple) and all(isinstance(one, str) for one in names):
            self.classes = tuple(names)

    def _all(self, dataset: Any, split: str) -> ItemExamples:
        return ItemExamples(dataset, f"{name_of(dataset)}, {split}", seed=self.seed, order_seed=self.order_seed)

    def _parted(
        self, train: ItemExamples, split: str, source: object, size: float
    ) -> tuple[ItemExamples, ItemExamples]:
        """Return the training examples without those of another split, and that split."""
        if source is not None:
            other = self._dataset(f"{split}_source", source)
            return train, self._all(other, split)
        key = "test_size" if split == "test" else "validation_size"
        count = held_out(key, size, len(train))
        if split == "test" and not count:
            raise ConfigError(key, size, "a run needs test examples: hold some out, or give data.test_source")
        out, rest = random_split(len(train), count, self.seed)
        where = train.where.rpartition(",")[0]
        return train.take(rest, train.where), train.take(out, f"{where}, {split}")

    def _dataset(self, key: str, source: Any) -> Any:
        """Return the Dataset of a source."""
        if isinstance(source, Mapping):
            source = with_options(self.source, source, key)
        with KeyedStates(self.seed, key):
            dataset = source() if is_factory(source) else source
        check_map_style(key, dataset)
        return dataset

    def provenance(self) -> dict[str, Any]:
        """Return the description of the data that results store."""
        return {**super().provenance(), "split_seed": self.seed}

    def notes(self) -> list[str]:
        """Return what a run with these data does not have, a line each."""
        train = self.splits["train"]
        assert isinstance(train, ItemExamples)
        unused = train.unused()
        lines = [f"not used: {', '.join(unused)} of an item"] if unused else []
        return [RANDOM_ITEMS, *super().notes(), *lines]

    def read(self, split: str, positions: Tensor, *, epoch: int | None = None, device: Any = None) -> Batch:
        """Return examples of a split as model input; those of training have the random numbers of their epoch."""
        examples = self.splits[split]
        assert isinstance(examples, ItemExamples)
        batch = examples.fetch(positions, HELD_OUT if epoch is None else epoch)
        return self.present(split, batch if device is None else batch.to(device), epoch)

    def on_before_batch_transfer(self, batch: RawBatch | DataError, dataloader_idx: int) -> RawBatch:
        """Raise the error of a batch that could not be made."""
        return batch_of(batch)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Turn a batch of items into model input, on the device."""
        return self.present("", batch)

    def train_dataloader(self) -> DataLoader[RawBatch]:
        """Return the training batches; with `trainer.overfit_batches` they are identical in all epochs."""
        overfits = self._overfits()
        return self._loader("train", shuffle=self.shuffle and not overfits, constant=0 if overfits else None)

    def val_dataloader(self) -> DataLoader[RawBatch] | list[DataLoader[RawBatch]]:
        """Return the validation batches; an empty list without a validation set."""
        return self._loader("val", shuffle=False, constant=HELD_OUT) if len(self.splits["val"]) else []

    def test_dataloader(self) -> DataLoader[RawBatch]:
        """Return the test batches."""
        return self._loader("test", shuffle=False, constant=HELD_OUT)

    def _loader(self, split: str, *, shuffle: bool, constant: int | str | None) -> DataLoader[RawBatch]:
        batches = self._order(split, shuffle=shuffle, seed=self.order_seed, kind=EpochBatches)
        assert isinstance(batches, EpochBatches)
        batches.constant = constant
        examples = self.splits[split]
        assert isinstance(examples, ItemExamples)
        return loader(FetchedItems(examples), batches, num_workers=self.num_workers, pin_memory=self._pins_memory())


def is_factory(source: object) -> bool:
    """Return whether a source makes a Dataset, and is none itself."""
    return callable(source) and not hasattr(source, "__getitem__")


def with_options(source: Any, options: Mapping[str, Any], key: str) -> Callable[[], Any]:
    """Return a source that makes its Dataset with other options.

    Args:
        source: the source, as a config gives it.
        options: the options that differ.
        key: the option of the data that they are the value of.

    Raises:
        ConfigError: if the source takes no options, because it is a Dataset already.
    """
    target, arguments = getattr(source, "target", None), getattr(source, "arguments", None)
    if target is None or arguments is None:
        raise ConfigError(key, options, "options need a source that is made by a class or a function")
    made = type(source)(target, {**arguments, **options}, f"data.{key}")
    return made  # type: ignore[no-any-return]
