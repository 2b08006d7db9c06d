"""What a run, its callbacks and the evaluation of a finished run need of data, whatever the data are.

Shapes: N examples of a split, B batch, C H W image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor

from nelbo.data.arrays import Batch, RawBatch
from nelbo.data.loader import Batches
from nelbo.data.reals import range_in_pictures
from nelbo.errors import ConfigError

__all__ = ["Known", "RunData"]


class Known(Protocol):
    """The examples of a split, and what is known of them: `Examples` of arrays, or `ItemExamples` of a Dataset."""

    def __len__(self) -> int: ...

    def __getitems__(self, positions: Tensor) -> RawBatch:
        """Return the batch of the examples at `positions`, (B,)."""

    def known(self, name: str) -> Tensor | None:
        """Return what is known of every example under a name of a model's context, (N, ...); None if nothing."""

    @property
    def columns(self) -> Mapping[str, Tensor]:
        """What else is known than labels and factors, by name, of the examples or of the array that they are in."""


class RunData(pl.LightningDataModule, ABC):
    """The data of a run: `nelbo.data.module.ImageData`, or an adapter of a user's own (`OwnDataset`, `OwnModule`).

    The attributes below are set when `setup` has returned.
    """

    name: str
    """The name in results and messages."""

    shape: tuple[int, ...] | None
    """The shape of one example as the model is given it, such as (C, H, W)."""

    levels: int | None
    """The number of values that a pixel can take; None if it is any number."""

    protocol: str
    """How stored values become model input."""

    batch_size: int
    """B, in each process."""

    classes: tuple[str, ...]
    """Names of the labels 0, 1, ...; empty if they have none."""

    splits: Mapping[str, Known]
    """Examples by "train", "val" and "test"; "val" may be empty."""

    extremes: tuple[float, float] | None = None
    """The smallest and the largest value of arrays of floats that are served as they are; None for other data."""

    table: Mapping[str, Any] = MappingProxyType({})
    """Of a table, what turns its rows into x and back; see `Arrays`."""

    position: tuple[int, int]
    """First epoch of training, and number of its batches to skip; a resumed run sets them."""

    @abstractmethod
    def setup(self, stage: str | None = None) -> None:
        """Load the data, and split them; later calls load nothing.

        Raises:
            NelboError: if they cannot be loaded or used.
        """

    @property
    @abstractmethod
    def dequantized_levels(self) -> int | None:
        """Number of levels of the pixels before uniform noise was added; None without such noise."""

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Return the description of the data that results store, so that only comparable results are compared."""

    @abstractmethod
    def present(self, split: str, batch: RawBatch, epoch: int | None = None) -> Batch:
        """Turn a raw batch into model input.

        Args:
            split: "train", "val" or "test".
            batch: examples as they are stored.
            epoch: epoch of training; None for examples that are not trained on.
        """

    @abstractmethod
    def starting_batch(self) -> Batch:
        """Return training examples as model input, evenly spread over the training set if that is possible."""

    def value_range(self, start: Batch) -> tuple[float, float] | None:
        """Return the values that pictures show as black and white, or None if x lies in [0, 1].

        Args:
            start: training examples, `starting_batch()`.
        """
        low, high = (value.item() for value in start.x.aminmax())
        return None if low >= 0 and high <= 1 else range_in_pictures(start.x)

    @abstractmethod
    def examples(self, count: int) -> Batch:
        """Return the first `count` validation examples as model input, or test examples if there are none."""

    def read(
        self, split: str, positions: Tensor, *, epoch: int | None = None, device: torch.device | None = None
    ) -> Batch:
        """Return examples of a split as model input.

        Args:
            split: "train", "val" or "test".
            positions: positions of the examples in the split, (B,); of training in `visited`.
            epoch: epoch of training; None for examples that are not trained on.
            device: where they are presented; None for the CPU.
        """
        examples = self.splits[split] if epoch is None else self.visited(split)
        batch = examples.__getitems__(positions)
        return self.present(split, batch if device is None else batch.to(device), epoch)

    def visited(self, split: str) -> Known:
        """Return the examples whose positions the batches of a split are; training may visit some more than once."""
        return self.splits[split]

    def num_batches(self, world_size: int) -> int:
        """Return the number of training batches of an epoch in each of `world_size` processes."""
        return len(Batches(len(self.visited("train")), self.batch_size, shuffle=False, world_size=world_size))

    def notes(self) -> list[str]:
        """Return what a run with these data does not have and others do, a line each, for the start of the run."""
        return []

    def check_batches(self, least: int, world_size: int, *, validated: bool) -> None:
        """Check that batches are large enough for an objective that compares the images of a batch.

        Args:
            least: number of images that the objective needs in a batch, over all processes.
            world_size: number of processes.
            validated: whether validation images are used.

        Raises:
            ConfigError: if the smallest batch of training or validation images has fewer.
        """
        for split in ("train", "val") if validated else ("train",):
            total = len(self.visited(split))
            batches = Batches(total, self.batch_size, shuffle=False, world_size=world_size).global_batches()
            if total and (smallest := min(map(len, batches))) < least:
                problem = (
                    f"leaves a batch of {smallest} of the {total} {split} images, but this objective needs {least}"
                )
                raise ConfigError("data.batch_size", self.batch_size, f"{problem}; choose another size")

    def _order(self, split: str, *, shuffle: bool, seed: int, kind: type[Batches] = Batches) -> Batches:
        """Return the batches of positions of a split for this process.

        Args:
            split: "train", "val" or "test".
            shuffle: whether the order is random and different in each epoch.
            seed: seed of the order.
            kind: the class of the sampler.

        Raises:
            ConfigError: if there are too few examples for several processes.
        """
        trainer = self.trainer
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        total = len(self.visited(split))
        if world_size > 1 and (self.batch_size == 1 or total < world_size):
            hint = f"{world_size} processes need batches of at least 2, and {total} {split} images to share"
            raise ConfigError("data.batch_size", self.batch_size, hint)
        epoch, start = self.position if split == "train" else (0, 0)
        where = {"rank": rank, "world_size": world_size, "epoch": epoch, "start": start}
        return kind(total, self.batch_size, shuffle=shuffle, seed=seed, **where)

    def _pins_memory(self) -> bool:
        """Return whether batches are copied to pinned memory on their way to a GPU."""
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def _overfits(self) -> bool:
        return bool(self.trainer and self.trainer.overfit_batches)  # type: ignore[attr-defined] # set by Lightning
