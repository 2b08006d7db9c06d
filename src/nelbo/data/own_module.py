"""A LightningDataModule of a user's own, as it is, as the data of a run.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, default_collate

from nelbo.data.arrays import Batch
from nelbo.data.item_examples import ItemExamples, Unindexed
from nelbo.data.items import as_batch, as_input, check_input
from nelbo.data.own import OwnData
from nelbo.data.own_loaders import Outside, OwnLoader, rows_of
from nelbo.data.own_sources import is_module, is_own, name_of, other_option
from nelbo.data.random_keys import KeyedStates
from nelbo.errors import ConfigError, DataError

__all__ = ["OwnModule"]

STAGES = ("fit", "test")
SEED = 0
"""Seed of random numbers of items that are not trained on, which are the same in all runs."""

SPLITS = ("train", "val", "test")

RESUMING = (
    "resuming: a run that stopped within an epoch fetches the batches of it again that it had used, because the "
    "loaders are those of {name}"
)
RANDOM_ITEMS = (
    "random numbers: what a loader or an item draws from the generators of torch, NumPy and Python depends on (seed, "
    "epoch) and on the number of workers; those of persistent workers and of other generators are not repeated"
)
NOT_CHECKED = (
    "provenance: results have no SHA-256, because there is no map-style Dataset to read by position; whether the data "
    "of two runs are the same is not checked, and nelbo evaluate and nelbo draw cannot be used"
)


class OwnModule(OwnData):
    """A LightningDataModule, which keeps its loaders; its batches are what `nelbo.data.items.as_batch` takes.

    Where the Dataset of a loader is map-style, examples are read from it for starting values, pictures and evaluation,
    and go through the `collate_fn` of the loader and the hooks of the DataModule, as outside of training.

    Args:
        name: name of the data, stored in results.
        module: the DataModule.
        shape: required shape of an example; None accepts any.
        levels: number of values that a pixel can take; None for 256 of uint8, and for any number of floats.
        order_seed: seed of the random numbers of the loaders.

    Raises:
        ConfigError: if `module` is no LightningDataModule.
    """

    def __init__(
        self, *, name: str, module: Any, shape: Sequence[int] | None, levels: int | None, order_seed: int
    ) -> None:
        super().__init__(name=name, shape=shape, levels=levels, order_seed=order_seed)
        if not is_module(module):
            option = other_option(module)
            hint = f"is no LightningDataModule{f'; use {option}' if option else ''}"
            raise ConfigError("module", name_of(module), hint)
        self.module = module
        self.loaders: dict[str, DataLoader[Any]] = {}
        self._transforms = is_own(module, "on_before_batch_transfer") or is_own(module, "on_after_batch_transfer")

    def setup(self, stage: str | None = None) -> None:
        """Prepare and set up the DataModule, and look at its loaders; later calls only lend it the Trainer.

        Raises:
            ConfigError: if a loader is missing, or cannot be used.
            DataError: if examples cannot be used.
        """
        if self.splits:
            self.module.trainer = self.trainer
            return
        with self._outside(), KeyedStates(SEED, "setup"):
            self.module.prepare_data()
            for each in STAGES:
                self.module.setup(each)
            self.loaders = {split: loader for split in SPLITS if (loader := self._own_loader(split)) is not None}
        for split in ("train", "test"):
            if split not in self.loaders:
                hint = f"has no {split}_dataloader, which a run needs to {'train' if split == 'train' else 'test'}"
                raise ConfigError("module", name_of(self.module), hint)
        items = {split: examples for split in SPLITS if (examples := self._items(split)) is not None}
        if "train" in items:
            self._inspect(items, items)
        else:
            self._inspect_batch()
        self.splits = {split: items.get(split) or Unindexed(self._count(split), self._where(split)) for split in SPLITS}
        self.batch_size = getattr(self.loaders["train"].batch_sampler, "batch_size", 0) or 0
        names = getattr(self.loaders["train"].dataset, "classes", ())
        if isinstance(names, list | tuple) and all(isinstance(one, str) for one in names):
            self.classes = tuple(names)

    def _where(self, split: str) -> str:
        return f"{name_of(self.module)}, {split}"

    def _own_loader(self, split: str) -> DataLoader[Any] | None:
        """Return the loader of a split; None if the DataModule has none.

        Raises:
            ConfigError: if it is no DataLoader with a length.
        """
        method = f"{split}_dataloader"
        loader = getattr(self.module, method)() if is_own(self.module, method) else None
        if loader is None or (isinstance(loader, list | tuple) and not loader):
            return None
        if isinstance(loader, list | tuple) and len(loader) == 1:
            (loader,) = loader
        shown = f"{type(self.module).__qualname__}.{method}"
        if not isinstance(loader, DataLoader):
            hint = f"must return one torch DataLoader, not a {type(loader).__name__}"
            raise ConfigError("module", shown, hint)
        try:
            count = len(loader)
            len(loader.dataset)  # type: ignore[arg-type]
        except TypeError as error:
            hint = "has no length, which a run needs to plan its epochs: the Dataset needs __len__()"
            raise ConfigError("module", shown, hint) from error
        if not count:
            raise ConfigError("module", shown, "is empty")
        return loader

    def _count(self, split: str) -> int:
        if split not in self.loaders:
            return 0
        loader = self.loaders[split]
        return len(loader.dataset if (rows := rows_of(loader)) is None else rows)  # type: ignore[arg-type]

    def _items(self, split: str) -> ItemExamples | None:
        """Return the examples of a split, if its Dataset can be read by position."""
        loader = self.loaders.get(split)
        if loader is None or loader.batch_sampler is None or isinstance(loader.dataset, IterableDataset):
            return None
        collate = loader.collate_fn
        if collate is not default_collate or self._transforms:
            collate = partial(self._collated, collate)
        return ItemExamples(
            loader.dataset,
            self._where(split),
            seed=SEED,
            order_seed=self.order_seed,
            rows=rows_of(loader),
            collate=collate,
        )

    def _collated(self, collate: Any, items: Sequence[Any]) -> Batch:
        """Return items as a batch that went through the hooks of the DataModule."""
        with self._outside():
            return as_batch(self._transformed(collate(items)))

    def _transformed(self, batch: Any) -> Any:
        return self.module.on_after_batch_transfer(self.module.on_before_batch_transfer(batch, 0), 0)

    @contextmanager
    def _outside(self) -> Iterator[None]:
        """A context in which the DataModule is outside of training."""
        before = getattr(self.module, "trainer", None)
        self.module.trainer = Outside()
        try:
            yield
        finally:
            self.module.trainer = before

    def _inspect_batch(self) -> None:
        """Take shape and levels from the first training batch, where examples cannot be read by position."""
        x = self._first_batch().x
        check_input(x, None, self._where("train"))
        found = tuple(x.shape[1:])
        if self.shape is not None and found != self.shape:
            raise ConfigError("shape", list(self.shape), f"{self.name} has examples of shape {list(found)}")
        self.shape = found
        self._settle_levels(x, self._where("train"))

    def _first_batch(self, split: str = "train") -> Batch:
        with self._outside():
            (batch, *_) = OwnLoader(self.loaders[split], self._where(split), (self.order_seed, "first"), checks=False)
            return as_batch(self._transformed(batch))

    def notes(self) -> list[str]:
        """Return what a run with these data does not have, a line each."""
        indexed = all(isinstance(self.splits[split], ItemExamples) for split in self.loaders)
        name = type(self.module).__qualname__
        return [RESUMING.format(name=name), RANDOM_ITEMS, *(super().notes() if indexed else [NOT_CHECKED])]

    def starting_batch(self) -> Batch:
        """Return training examples as model input: evenly spread, or the first batch."""
        if isinstance(self.splits["train"], ItemExamples):
            return super().starting_batch()
        batch = self._first_batch()
        return Batch(as_input(batch.x), batch.labels, batch.columns)

    def examples(self, count: int) -> Batch:
        """Return the first validation examples as model input, or test examples: `count`, or those of a batch."""
        split = "val" if len(self.splits["val"]) else "test"
        if isinstance(self.splits[split], ItemExamples):
            return super().examples(count)
        batch = self._first_batch(split)
        columns = {name: value[:count] for name, value in batch.columns.items()}
        return Batch(as_input(batch.x[:count]), batch.labels[:count], columns)

    def num_batches(self, world_size: int) -> int:
        """Return the number of training batches of an epoch."""
        return len(self.loaders["train"])

    def check_batches(self, least: int, world_size: int, *, validated: bool) -> None:
        """Refuse several processes, and batches that are too small for the objective.

        Raises:
            ConfigError: for either.
        """
        if world_size > 1:
            hint = "the loaders of a DataModule would give every process all batches; use one, or data=dataset"
            raise ConfigError("trainer.devices", world_size, hint, located=True)
        for split in ("train", "val") if validated else ("train",):
            loader = self.loaders[split]
            size = getattr(loader.batch_sampler, "batch_size", None)
            if not isinstance(size, int):
                continue
            rest = 0 if loader.drop_last else self._count(split) % size
            if (smallest := rest or size) < least:
                hint = f"leaves a batch of {smallest} {split} examples, but this objective needs {least}"
                raise ConfigError("data.module", name_of(self.module), hint, located=True)

    def train_dataloader(self) -> OwnLoader:
        """Return the training batches; with `trainer.overfit_batches` they are identical in all epochs."""
        self.module.trainer = self.trainer
        epoch, start = self.position
        return self._loader("train", epoch=epoch, start=start, constant=self._overfits())

    def val_dataloader(self) -> OwnLoader | list[OwnLoader]:
        """Return the validation batches; an empty list without a validation set."""
        return self._loader("val", constant=True) if "val" in self.loaders else []

    def test_dataloader(self) -> OwnLoader:
        """Return the test batches."""
        return self._loader("test", constant=True)

    def _loader(self, split: str, **options: Any) -> OwnLoader:
        checks = not self._transforms
        return OwnLoader(self.loaders[split], self._where(split), (self.order_seed, split), checks=checks, **options)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Do what the DataModule does."""
        return self.module.on_before_batch_transfer(batch, dataloader_idx)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Do what the DataModule does."""
        return self.module.transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Do what the DataModule does, and turn the batch into model input.

        Raises:
            DataError: if it is none.
        """
        try:
            after = as_batch(self.module.on_after_batch_transfer(batch, dataloader_idx))
        except TypeError as error:
            if "a batch must be" not in str(error):
                raise
            raise DataError(f"{name_of(self.module)}: {error}") from error
        return Batch(as_input(after.x), after.labels, after.columns)

    def teardown(self, stage: str) -> None:
        """Do what the DataModule does."""
        self.module.teardown(stage)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the DataModule."""
        state: dict[str, Any] = self.module.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of the DataModule."""
        self.module.load_state_dict(state_dict)
