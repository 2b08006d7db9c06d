"""The LightningDataModule of every data set.

Shapes: N or B examples, C H W image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from nelbo.data.arrays import Arrays, Examples, RawBatch, held_out, random_split
from nelbo.data.augmentation import Augmentation
from nelbo.data.labels import with_classes
from nelbo.data.levels import EIGHT_BITS, settle
from nelbo.data.loader import Batches, loader
from nelbo.data.noise import Draws
from nelbo.data.protocols import PROTOCOLS
from nelbo.errors import ConfigError, DataError, boolean, choice, integer, positive_integer

__all__ = ["ImageData"]

Batch = tuple[Tensor, Tensor]
"""What a model is given: x (B, C, H, W) in [0, 1] and labels (B,)."""

START_EXAMPLES, START_PIXELS = 10_000, 50_000_000
"""How many training images, and pixels of them, models take their starting values from at most."""

# Noise that is drawn once for all has epochs of its own; training epochs come after them.
ONCE_FOR_TRAINING_ARRAY, ONCE_FOR_TEST_ARRAY, FIRST_EPOCH = range(3)


class ImageData(pl.LightningDataModule):
    """uint8 images, in memory or on disk, served as batches (x, labels) with x in [0, 1], (B, C, H, W).

    Args:
        name: of the data set, for results.
        source: called once with `options`, gives the images.
        shape: (C, H, W), which the loaded images must have; None takes theirs.
        levels: how many values a pixel may take, for likelihoods of discrete pixels; None is 256, where the images
            leave no doubt that 255 is white.
        protocol: how stored pixels become what the model sees, a key of `PROTOCOLS`.
        augment: what training images go through before that.
        batch_size: B, in each process.
        validation_size: how many training images, or which share of them, are held out by `seed`; 0 for none.
        seed: of the split, and of pixels that are drawn once.
        shuffle: whether training batches come in a new order each epoch.
        num_workers: processes that fetch batches; indexing needs none.
        order_seed: of the order of training batches, and of what is drawn anew in each epoch.
        options: whatever else the source takes, such as the root of a folder.

    Raises:
        ConfigError: for a value out of range.
    """

    def __init__(
        self,
        *,
        name: str,
        source: Callable[..., Arrays],
        shape: Sequence[int] | None,
        levels: int | None,
        protocol: str,
        augment: Augmentation,
        batch_size: int,
        validation_size: float,
        seed: int,
        shuffle: bool,
        num_workers: int,
        order_seed: int,
        **options: object,
    ) -> None:
        super().__init__()
        self.name, self.source, self.augment = name, partial(source, **options), augment
        self.shape = None if shape is None else tuple(shape)
        self.levels = None if levels is None else integer("levels", levels, minimum=2, maximum=EIGHT_BITS)
        self.protocol = choice("protocol", protocol, list(PROTOCOLS))
        self.batch_size = positive_integer("batch_size", batch_size)
        self.validation_size = validation_size
        self.seed = integer("seed", seed, minimum=0, maximum=2**32 - 1)
        self.shuffle = boolean("shuffle", shuffle)
        self.num_workers = integer("num_workers", num_workers, minimum=0)
        self.order_seed = integer("order_seed", order_seed, minimum=0, maximum=2**32 - 1)
        self.splits: dict[str, Examples] = {}
        self.classes: tuple[str, ...] = ()
        self.sha256 = ""
        self.position = (0, 0)
        """The epoch that training begins in, and how many of its batches are over: elsewhere in a run that goes on.

        Set before the first iterator exists: workers fetch from it before Lightning sets the sampler's epoch.
        """

    def setup(self, stage: str | None = None) -> None:
        """Load and split, once.

        Raises:
            ConfigError: if the set has another shape than the config says, or too few images to hold out.
            DataError: if the set cannot be had or is empty.
        """
        if self.splits:
            return
        try:
            arrays = self.source()
        except ConfigError as error:
            key = error.key.replace("data.source.", "data.")  # what a source takes stands beside it
            raise ConfigError(key, error.value, error.hint, located=True) from error
        if empty := arrays.empty_parts():
            raise DataError(f"{self.name}: the data set is empty: it has no {' and no '.join(empty)} images")
        if arrays.shape != (tested := tuple(arrays.test.images.shape[1:])):
            raise DataError(f"{self.name}: training images have shape {arrays.shape}, test images {tested}")
        if self.shape is None:
            self.shape = arrays.shape
        if arrays.shape != self.shape:
            raise ConfigError("shape", list(self.shape), f"{self.name} has images of shape {list(arrays.shape)}")
        arrays = with_classes(arrays, str(self.name))
        arrays = settle(arrays, self.levels, str(self.name))
        self.levels = self.levels or EIGHT_BITS
        if self.dequantized_levels not in (None, EIGHT_BITS):
            raise ConfigError("protocol", self.protocol, f"is for 256 levels; {self.name} has {self.levels}")
        if self.protocol == "static" and (not arrays.validation or self.levels != 2):
            raise ConfigError("protocol", self.protocol, f"{self.name} is not published in binary form")
        self.augment.check(arrays.shape)
        train, validation = self._split(arrays)
        self.splits = {"train": arrays.train.take(train), "val": arrays.train.take(validation), "test": arrays.test}
        self.classes, self.sha256 = arrays.classes, arrays.sha256()

    def _split(self, arrays: Arrays) -> tuple[Tensor, Tensor]:
        """Positions of the training and the validation images."""
        total = len(arrays.train)
        size = held_out("validation_size", self.validation_size, total)
        if arrays.validation:
            if 0 < self.validation_size < 1:
                size = arrays.validation  # a share asks for some: these are the ones that were published
            if size not in (0, arrays.validation):
                hint = f"{self.name} comes with {arrays.validation} validation images: use that, or 0 to train on all"
                raise ConfigError("validation_size", self.validation_size, hint)
            order = torch.arange(total)
            return order[: total - size], order[total - size :]
        validation, train = random_split(total, size, self.seed)
        return train, validation

    @property
    def dequantized_levels(self) -> int | None:
        """How many levels uniform noise has filled; None if pixels are without such noise."""
        return self.levels if self.protocol == "dequantized" else None

    def provenance(self) -> dict[str, Any]:
        """What a result must carry so that it is compared with its like only."""
        return {
            "data": self.name,
            "protocol": self.protocol,
            **{f"{split}_images": len(examples) for split, examples in self.splits.items()},
            "split_seed": self.seed,
            "data_sha256": self.sha256,
        }

    def present(self, split: str, batch: RawBatch, epoch: int | None = None) -> Batch:
        """A raw batch of a split as the model sees it; where it trains, in which epoch."""
        images, labels, where = batch
        protocol = PROTOCOLS[self.protocol]
        once = ONCE_FOR_TEST_ARRAY if split == "test" else ONCE_FOR_TRAINING_ARRAY
        fixed = Draws(self.seed, once, where)
        if epoch is None:
            return protocol.present(images, fixed), labels
        anew = Draws(self.order_seed, FIRST_EPOCH + epoch, where)
        if protocol.anew:
            return protocol.present(self.augment(images, anew), anew), labels
        return self.augment(protocol.present(images, fixed), anew), labels  # what was drawn once is flipped as it is

    def starting_images(self) -> Tensor:
        """Training images as the model will see them, (N, C, H, W) in [0, 1], evenly spread over the set."""
        train = self.splits["train"]
        count = max(1, min(START_EXAMPLES, START_PIXELS // math.prod(self.shape or ())))
        x, _ = self.present("train", train.__getitems__(torch.arange(0, len(train), -(-len(train) // count))))
        return x

    def examples(self, count: int) -> Batch:
        """The first images and labels held out (of the test set if none are), as the model will see them."""
        split = "val" if len(self.splits["val"]) else "test"
        examples = self.splits[split]
        return self.present(split, examples.__getitems__(torch.arange(min(count, len(examples)))))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """uint8 to floats, on the device."""
        assert self.trainer is not None
        if self.trainer.training:
            return self.present("train", batch, 0 if self._overfits() else self.trainer.current_epoch)
        return self.present("test" if self.trainer.testing else "val", batch)

    def train_dataloader(self) -> DataLoader[RawBatch]:
        """Training batches; with `trainer.overfit_batches` the same ones in each epoch, pixel for pixel."""
        return self._loader("train", shuffle=self.shuffle and not self._overfits())

    def val_dataloader(self) -> DataLoader[RawBatch] | list[DataLoader[RawBatch]]:
        """Validation batches; none if no images are held out."""
        return self._loader("val", shuffle=False) if len(self.splits["val"]) else []

    def test_dataloader(self) -> DataLoader[RawBatch]:
        """Test batches."""
        return self._loader("test", shuffle=False)

    def check_batches(self, least: int, world_size: int, *, validated: bool) -> None:
        """Refuse batches that are too small for an objective which compares the images of a batch.

        Args:
            least: how many images it needs in each, of all processes together.
            world_size: processes that share them.
            validated: whether validation images are used.

        Raises:
            ConfigError: if the last batch of the training or the validation images has fewer.
        """
        for split in ("train", "val") if validated else ("train",):
            total = len(self.splits[split])
            batches = Batches(total, self.batch_size, shuffle=False, world_size=world_size).together()
            if total and (smallest := min(map(len, batches))) < least:
                hint = f"leaves a batch of {smallest} of the {total} {split} images, and this objective needs {least}"
                raise ConfigError("data.batch_size", self.batch_size, f"{hint}: choose another")

    def _overfits(self) -> bool:
        return bool(self.trainer and self.trainer.overfit_batches)  # type: ignore[attr-defined] # set by Lightning

    def _loader(self, split: str, *, shuffle: bool) -> DataLoader[RawBatch]:
        trainer = self.trainer
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        examples = self.splits[split]
        epoch, start = self.position if split == "train" else (0, 0)
        batches = Batches(
            len(examples),
            self.batch_size,
            shuffle=shuffle,
            seed=self.order_seed,
            rank=rank,
            world_size=world_size,
            epoch=epoch,
            start=start,
        )
        if world_size > 1 and (self.batch_size == 1 or len(examples) < world_size):
            hint = f"{world_size} processes need batches of at least 2, and {len(examples)} {split} images to share"
            raise ConfigError("data.batch_size", self.batch_size, hint)
        pin_memory = trainer is not None and trainer.strategy.root_device.type == "cuda"
        return loader(examples, batches, num_workers=self.num_workers, pin_memory=pin_memory)
