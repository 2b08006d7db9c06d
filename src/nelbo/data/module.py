"""The LightningDataModule of every data set that fits in memory.

Shapes: N or B examples, C H W image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from nelbo.data.arrays import Arrays
from nelbo.data.loader import Batch, Batches, TensorImages, loader
from nelbo.data.protocols import PROTOCOLS, as_floats, binarize, threshold
from nelbo.errors import ConfigError, DataError, choice, integer, positive_integer

START_EXAMPLES = 10_000
"""How many training images models take their starting values from."""


class ImageData(pl.LightningDataModule):
    """Images in memory as uint8, served as batches (x, labels) with x in [0, 1], (B, C, H, W).

    Args:
        name: of the data set, for results.
        source: called once, gives the images.
        shape: (C, H, W), which the loaded images must have.
        protocol: how grey pixels become what the model sees, a key of `PROTOCOLS`.
        batch_size: B, in each process.
        validation_size: how many training images are held out, chosen by `seed`; 0 for none.
        seed: of the split, and of pixels that are binarised once.
        shuffle: whether training batches come in a new order each epoch.
        num_workers: processes that fetch batches; indexing memory needs none.
        order_seed: of the order of training batches.

    Raises:
        ConfigError: for a value out of range.
    """

    def __init__(
        self,
        *,
        name: str,
        source: Callable[[], Arrays],
        shape: Sequence[int],
        protocol: str,
        batch_size: int,
        validation_size: int,
        seed: int,
        shuffle: bool,
        num_workers: int,
        order_seed: int,
    ) -> None:
        super().__init__()
        self.name, self.source, self.shape = name, source, tuple(shape)
        self.protocol = choice("protocol", protocol, list(PROTOCOLS))
        self.batch_size = positive_integer("batch_size", batch_size)
        self.validation_size = integer("validation_size", validation_size, minimum=0)
        self.seed = integer("seed", seed, minimum=0)
        self.shuffle = shuffle
        self.num_workers = integer("num_workers", num_workers, minimum=0)
        self.order_seed = order_seed
        self.splits: dict[str, TensorImages] = {}

    def setup(self, stage: str | None = None) -> None:
        """Load, split and binarise, once.

        Raises:
            ConfigError: if the set has another shape than the config says, or too few images to hold out.
            DataError: if the set cannot be had or is empty.
        """
        if self.splits:
            return
        arrays = self.source()
        if arrays.shape != self.shape:
            raise ConfigError("shape", list(self.shape), f"{self.name} has images of shape {list(arrays.shape)}")
        if not len(arrays.train_images) or not len(arrays.test_images):
            raise DataError(f"{self.name}: the data set is empty")
        if self.protocol == "static" and not arrays.validation:
            raise ConfigError("protocol", self.protocol, f"{self.name} is not published in binary form")
        train, validation = self._split(arrays)
        # Whole arrays are binarised, each from its own stream: the images held out do not depend on how many are.
        held_out, test = self._binarized(arrays.train_images, 0), self._binarized(arrays.test_images, 1)
        presented = arrays.train_images if self.protocol == "dynamic" else held_out
        self.splits = {
            "train": TensorImages(presented[train], arrays.train_labels[train]),
            "val": TensorImages(held_out[validation], arrays.train_labels[validation]),
            "test": TensorImages(test, arrays.test_labels),
        }

    def _split(self, arrays: Arrays) -> tuple[Tensor, Tensor]:
        """Indices of the training and the validation images."""
        total, size = len(arrays.train_images), self.validation_size
        if arrays.validation:
            if size not in (0, arrays.validation):
                mend = f"{self.name} comes with {arrays.validation} validation images: use that, or 0 to train on all"
                raise ConfigError("validation_size", size, mend)
            order = torch.arange(total)
            return order[: total - size], order[total - size :]
        if size >= total:
            raise ConfigError("validation_size", size, f"must leave some of the {total} training images")
        order = torch.randperm(total, generator=torch.Generator().manual_seed(self.seed))
        return order[size:].sort().values, order[:size].sort().values

    def _binarized(self, images: Tensor, stream: int) -> Tensor:
        if self.protocol == "threshold":
            return threshold(images)
        if self.protocol in ("fixed", "dynamic"):
            (state,) = np.random.SeedSequence([self.seed, stream]).generate_state(1)
            return binarize(images, torch.Generator().manual_seed(int(state)))
        return images

    def starting_images(self) -> Tensor:
        """Training images as the model will see them, (N, C, H, W) in [0, 1], evenly spread over the set."""
        images = self.splits["train"].images
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return as_floats(images[:: -(-len(images) // START_EXAMPLES)], resample=self.protocol == "dynamic")

    def examples(self, count: int) -> Batch:
        """The first images and labels held out (of the test set if none are), as the model will see them."""
        split = self.splits["val"] if self.validation_size else self.splits["test"]
        return as_floats(split.images[:count], resample=False), split.labels[:count]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """uint8 to floats, on the device."""
        images, labels = batch
        assert self.trainer is not None
        return as_floats(images, resample=self.protocol == "dynamic" and self.trainer.training), labels

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training batches."""
        return self._loader("train", shuffle=self.shuffle)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Validation batches; none if no images are held out."""
        return self._loader("val", shuffle=False) if self.validation_size else []

    def test_dataloader(self) -> DataLoader[Batch]:
        """Test batches."""
        return self._loader("test", shuffle=False)

    def _loader(self, split: str, *, shuffle: bool) -> DataLoader[Batch]:
        trainer = self.trainer
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        dataset = self.splits[split]
        batches = Batches(
            len(dataset),
            self.batch_size,
            shuffle=shuffle,
            seed=self.order_seed,
            rank=rank,
            world_size=world_size,
        )
        if world_size > 1 and (self.batch_size == 1 or len(dataset) < world_size):
            mend = f"{world_size} processes need batches of at least 2, and {len(dataset)} {split} images to share"
            raise ConfigError("data.batch_size", self.batch_size, mend)
        pin_memory = trainer is not None and trainer.strategy.root_device.type == "cuda"
        return loader(dataset, batches, num_workers=self.num_workers, pin_memory=pin_memory)
