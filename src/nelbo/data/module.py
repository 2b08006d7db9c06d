"""The LightningDataModule that serves every data set: splitting, batches, augmentation and protocol.

Shapes: N examples, B batch, C H W image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from nelbo.data.arrays import LABEL, OBSERVED, Arrays, Batch, Examples, RawBatch, held_out, random_split
from nelbo.data.augmentation import Augmentation
from nelbo.data.labels import keep_labels, with_classes
from nelbo.data.levels import EIGHT_BITS, settle
from nelbo.data.loader import loader
from nelbo.data.noise import Draws
from nelbo.data.own_sources import not_arrays
from nelbo.data.protocols import PROTOCOLS, check_floats
from nelbo.data.reals import is_real, range_in_pictures, settle_real
from nelbo.data.run_data import RunData
from nelbo.data.weights import with_mean_one
from nelbo.errors import ConfigError, DataError, boolean, choice, integer, positive_integer

__all__ = ["Batch", "ImageData"]

START_EXAMPLES, START_PIXELS = 10_000, 50_000_000
"""Maximum number of training images, and of their pixels, that models take their starting values from."""

# Random numbers that are drawn once for all epochs have epoch numbers of their own, before those of training.
ONCE_FOR_TRAINING_ARRAY, ONCE_FOR_TEST_ARRAY, FIRST_EPOCH = range(3)


class ImageData(RunData):
    """Batches (`Batch`) of a data set: images x (B, C, H, W) in [0, 1], or real-valued images or vectors (B, D).

    Args:
        name: name of the data set, stored in results.
        source: data function; it is called once with `options` and returns the images.
        shape: required shape of the images, (C, H, W), or of vectors, (D,); None accepts any.
        levels: number of values that a pixel can take, for likelihoods of discrete pixels; None for 256, if the pixels
            leave no doubt that 255 is white. Data that are stored as floats have none.
        protocol: how stored pixels become model input: a key of `PROTOCOLS`.
        augment: random augmentation of training images; None for none.
        labelled: number of training images whose labels are known, as many of each class as possible, chosen at random;
            None for all.
        labelled_copies: how often each of these occurs in an epoch; every other training image occurs once.
        batch_size: B, in each process.
        validation_size: number of training images to hold out, or their share below 1; 0 for none.
        seed: seed of the split, and of pixels that are drawn once for all epochs.
        shuffle: whether the order of training batches is random and different in each epoch.
        num_workers: number of processes that fetch batches; indexing is fast enough without any.
        order_seed: seed of the order of training batches, and of what is drawn in each epoch.
        options: further arguments of `source`, such as the root of a folder.

    Raises:
        ConfigError: for a value out of range.
    """

    def __init__(
        self,
        *,
        name: str,
        source: Callable[..., Arrays],
        batch_size: int,
        validation_size: float,
        shape: Sequence[int] | None = None,
        levels: int | None = None,
        protocol: str = "raw",
        augment: Augmentation | None = None,
        labelled: int | None = None,
        labelled_copies: int = 1,
        seed: int = 0,
        shuffle: bool = True,
        num_workers: int = 0,
        order_seed: int = 0,
        **options: object,
    ) -> None:
        super().__init__()
        self.name, self.source = name, partial(source, **options)
        self.augment = Augmentation(flip=False, pad_crop=0) if augment is None else augment
        self.shape = None if shape is None else tuple(shape)
        self.levels = None if levels is None else integer("levels", levels, minimum=2, maximum=EIGHT_BITS)
        self.protocol = choice("protocol", protocol, list(PROTOCOLS))
        self.labelled = None if labelled is None else positive_integer("labelled", labelled)
        self.labelled_copies = positive_integer("labelled_copies", labelled_copies)
        self.batch_size = positive_integer("batch_size", batch_size)
        self.validation_size = validation_size
        self.seed = integer("seed", seed, minimum=0, maximum=2**32 - 1)
        self.shuffle = boolean("shuffle", shuffle)
        self.num_workers = integer("num_workers", num_workers, minimum=0)
        self.order_seed = integer("order_seed", order_seed, minimum=0, maximum=2**32 - 1)
        self.splits: dict[str, Examples] = {}
        self.classes: tuple[str, ...] = ()
        self.sha256 = ""
        self.table: Mapping[str, Any] = {}
        """Of a table, what turns its rows into x and back; see `Arrays`."""
        self.extremes: tuple[float, float] | None = None
        """Smallest and largest value of data that are stored as floats; None for 8-bit pixels."""
        self.position = (0, 0)
        """First epoch of training, and number of its batches to skip; a resumed run sets them.

        They must be set before the first iterator is created, because its workers fetch batches at once, before
        Lightning sets the sampler's epoch.
        """

    def setup(self, stage: str | None = None) -> None:
        """Load the images and split them; later calls do nothing.

        Raises:
            ConfigError: if the images do not have the configured shape, or there are too few to hold some out.
            DataError: if the data set cannot be loaded or is empty.
        """
        if self.splits:
            return
        try:
            arrays = self.source()
        except ConfigError as error:
            key = error.key.replace("data.source.", "data.")  # options of the source are keys of `data`
            raise ConfigError(key, error.value, error.hint, located=True) from error
        if not isinstance(arrays, Arrays):
            raise not_arrays(arrays)
        if empty := arrays.empty_parts():
            raise DataError(f"{self.name}: the data set is empty: it has no {' and no '.join(empty)} images")
        if arrays.shape != (test_shape := tuple(arrays.test.images.shape[1:])):
            raise DataError(f"{self.name}: training images have shape {arrays.shape}, test images {test_shape}")
        if self.shape is None:
            self.shape = arrays.shape
        if arrays.shape != self.shape:
            raise ConfigError("shape", list(self.shape), f"{self.name} has images of shape {list(arrays.shape)}")
        arrays = with_classes(arrays, str(self.name))
        arrays = self._settled(arrays)
        if self.dequantized_levels not in (None, EIGHT_BITS):
            raise ConfigError("protocol", self.protocol, f"is for 256 levels; {self.name} has {self.levels}")
        if self.protocol == "static" and (not arrays.validation or self.levels != 2):
            raise ConfigError("protocol", self.protocol, f"{self.name} is not published in binary form")
        self.augment.check(arrays.shape)
        if OBSERVED in arrays.train.columns and len(arrays.shape) == 3:
            self.augment.refuse_masks()
        train, validation = self._split(arrays)
        examples = with_mean_one(arrays.train, train, str(self.name))
        trained = examples.take(train)
        if self.labelled is not None:
            trained = keep_labels(trained, self.labelled, self.seed)
        self.splits = {"train": trained, "val": examples.take(validation), "test": arrays.test}
        self.classes, self.sha256, self.table = arrays.classes, arrays.sha256(), arrays.table

    def _settled(self, arrays: Arrays) -> Arrays:
        """Return a data set whose white is 255, or one of floats unchanged; set `levels`, or `extremes` of floats."""
        if len(arrays.shape) not in (1, 3):
            problem = f"its data have shape {arrays.shape}; needs images (C, H, W) or vectors (D,)"
            raise DataError(f"{self.name}: {problem}")
        if not (is_real(arrays.train.images) or is_real(arrays.test.images)):
            arrays = settle(arrays, self.levels, str(self.name))
            self.levels = self.levels or EIGHT_BITS
            return arrays
        arrays, self.extremes = settle_real(arrays, self.levels, str(self.name))
        check_floats(self.protocol, str(self.name), *self.extremes)
        return arrays

    def value_range(self, start: Batch) -> tuple[float, float] | None:
        """Return the values that pictures show as black and white, or None if x lies in [0, 1].

        Args:
            start: training examples, `starting_batch()`.
        """
        if self.extremes is None or (self.extremes[0] >= 0 and self.extremes[1] <= 1):
            return None
        return range_in_pictures(start.x)

    def _split(self, arrays: Arrays) -> tuple[Tensor, Tensor]:
        """Return the positions of the training images and of the validation images."""
        total = len(arrays.train)
        size = held_out("validation_size", self.validation_size, total)
        if arrays.validation:
            if 0 < self.validation_size < 1:
                size = arrays.validation  # any share selects the published validation set
            if size not in (0, arrays.validation):
                problem = f"{self.name} has a published validation set of {arrays.validation} images"
                hint = "use that number, or 0 to train on all images"
                raise ConfigError("validation_size", self.validation_size, f"{problem}; {hint}")
            order = torch.arange(total)
            return order[: total - size], order[total - size :]
        validation, train = random_split(total, size, self.seed)
        return train, validation

    @property
    def dequantized_levels(self) -> int | None:
        """Number of levels of the pixels before uniform noise was added; None without such noise."""
        return self.levels if self.protocol == "dequantized" else None

    def provenance(self) -> dict[str, Any]:
        """Return the description of the data that results store, so that only comparable results are compared."""
        labelled = {} if self.labelled is None else {"labelled": self.labelled}
        return {
            "data": self.name,
            "protocol": self.protocol,
            **{f"{split}_images": len(examples) for split, examples in self.splits.items()},
            "split_seed": self.seed,
            "data_sha256": self.sha256,
            **labelled,
        }

    def present(self, split: str, batch: RawBatch, epoch: int | None = None) -> Batch:
        """Turn a raw batch into model input.

        Args:
            split: "train", "val" or "test".
            batch: images, labels, and positions of the images in their array.
            epoch: epoch of training, whose random numbers are used for augmentation and protocol; None for images that
                are not trained on, which are not augmented and whose random numbers are the same in every epoch.
        """
        images, labels, positions, columns = batch
        protocol = PROTOCOLS[self.protocol]
        once = ONCE_FOR_TEST_ARRAY if split == "test" else ONCE_FOR_TRAINING_ARRAY
        fixed_draws = Draws(self.seed, once, positions)
        if epoch is None:
            return Batch(protocol.present(images, fixed_draws), labels, columns)
        epoch_draws = Draws(self.order_seed, FIRST_EPOCH + epoch, positions)
        if protocol.each_epoch:
            return Batch(protocol.present(self.augment(images, epoch_draws), epoch_draws), labels, columns)
        # Pixels that are drawn only once must be drawn before they are moved.
        return Batch(self.augment(protocol.present(images, fixed_draws), epoch_draws), labels, columns)

    def starting_batch(self) -> Batch:
        """Return training examples as model input, evenly spread over the training set."""
        train = self.splits["train"]
        count = max(1, min(START_EXAMPLES, START_PIXELS // math.prod(self.shape or ())))
        return self.present("train", train.__getitems__(torch.arange(0, len(train), -(-len(train) // count))))

    def examples(self, count: int) -> Batch:
        """Return the first `count` validation examples as model input, or test examples if there are none."""
        split = "val" if len(self.splits["val"]) else "test"
        examples = self.splits[split]
        return self.present(split, examples.__getitems__(torch.arange(min(count, len(examples)))))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Turn a raw batch into model input, on the device."""
        assert self.trainer is not None
        if self.trainer.training:
            return self.present("train", batch, 0 if self._overfits() else self.trainer.current_epoch)
        return self.present("test" if self.trainer.testing else "val", batch)

    def train_dataloader(self) -> DataLoader[RawBatch]:
        """Return the training batches; with `trainer.overfit_batches` they are identical in all epochs."""
        return self._loader("train", shuffle=self.shuffle and not self._overfits())

    def val_dataloader(self) -> DataLoader[RawBatch] | list[DataLoader[RawBatch]]:
        """Return the validation batches; an empty list without a validation set."""
        return self._loader("val", shuffle=False) if len(self.splits["val"]) else []

    def test_dataloader(self) -> DataLoader[RawBatch]:
        """Return the test batches."""
        return self._loader("test", shuffle=False)

    def visited(self, split: str) -> Examples:
        """Return the examples whose positions the batches of a split are: of training, labelled ones several times."""
        examples = self.splits[split]
        if split != "train" or self.labelled_copies == 1:
            return examples
        labels = examples.known(LABEL)
        assert labels is not None
        known = torch.nonzero(labels >= 0).flatten()
        return examples.take(torch.cat([torch.arange(len(examples)), known.repeat(self.labelled_copies - 1)]))

    def _loader(self, split: str, *, shuffle: bool) -> DataLoader[RawBatch]:
        batches = self._order(split, shuffle=shuffle, seed=self.order_seed)
        return loader(self.visited(split), batches, num_workers=self.num_workers, pin_memory=self._pins_memory())
