"""Data of a user's own that are not arrays: what a map-style Dataset and a LightningDataModule have in common.

Shapes: N examples of a split, B batch, C H W image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from nelbo.data.arrays import FACTORS, Batch, RawBatch
from nelbo.data.item_examples import SAMPLED, ItemExamples, digest_of
from nelbo.data.items import as_input
from nelbo.data.levels import DARK, EIGHT_BITS
from nelbo.data.run_data import Known, RunData
from nelbo.errors import ConfigError, DataError, integer

__all__ = ["OwnData", "batch_of"]

START_ITEMS = 2000
"""Training examples that models take their starting values from; fewer than of arrays, because items are made."""

HELD_OUT_PIXELS = 50_000_000
"""Pixels of held-out examples that are kept for pictures."""

SAMPLE = "sample:"
"""How the digest of a sample of the data begins, where others are of all of them."""

NOT_HASHED = (
    f"provenance: results have a SHA-256 of {SAMPLED} examples of each split, not of all data, and comparisons of runs "
    "say so"
)
NOT_REPEATABLE = (
    "provenance: results have no SHA-256, because reading an example twice gives different values; whether the data of "
    "two runs are the same is not checked"
)


class OwnData(RunData):
    """Data whose examples are made one by one by code of the user's.

    x is a vector or an image: floats as the model is given them, or uint8, of which 255 is white.

    Args:
        name: name of the data, stored in results.
        shape: required shape of an example; None accepts any.
        levels: number of values that a pixel can take, for likelihoods of discrete pixels; None for 256 of uint8, and
            for any number of floats.
        order_seed: seed of the order of training batches, and of random numbers of their items.
    """

    protocol = "own"

    def __init__(self, *, name: str, shape: Sequence[int] | None, levels: int | None, order_seed: int) -> None:
        super().__init__()
        self.name = name
        self.shape = None if shape is None else tuple(shape)
        self.levels = None if levels is None else integer("levels", levels, minimum=2, maximum=EIGHT_BITS)
        self.order_seed = integer("order_seed", order_seed, minimum=0, maximum=2**32 - 1)
        self.splits: dict[str, Known] = {}
        self.classes: tuple[str, ...] = ()
        self.position = (0, 0)
        self.sha256 = ""
        self._kept: Batch | None = None

    @property
    def dequantized_levels(self) -> int | None:
        """None: the noise of dequantisation is added to stored pixels only."""
        return None

    def provenance(self) -> dict[str, Any]:
        """Return the description of the data that results store."""
        sizes = {f"{split}_images": len(examples) for split, examples in self.splits.items()}
        return {"data": self.name, "protocol": self.protocol, **sizes, "data_sha256": self.sha256}

    def notes(self) -> list[str]:
        """Return what a run with these data does not have, a line each."""
        return [NOT_HASHED if self.sha256 else NOT_REPEATABLE]

    def present(self, split: str, batch: RawBatch, epoch: int | None = None) -> Batch:
        """Turn a batch of items into model input."""
        columns = {name: value.float() if name == FACTORS else value for name, value in batch.columns.items()}
        return Batch(as_input(batch.images), batch.labels, columns)

    def starting_batch(self) -> Batch:
        """Return training examples as model input, evenly spread over the training set."""
        total = len(self.splits["train"])
        return self.read("train", torch.arange(0, total, -(-total // START_ITEMS)))

    def examples(self, count: int) -> Batch:
        """Return the first `count` validation examples as model input, or test examples if there are none.

        They are kept, because pictures ask for them again and again.
        """
        split = "val" if len(self.splits["val"]) else "test"
        most = max(1, HELD_OUT_PIXELS // math.prod(self.shape or (1,)))
        count = min(count, most, len(self.splits[split]))
        if self._kept is None or len(self._kept.x) < count:
            self._kept = self.read(split, torch.arange(count))
        kept = self._kept
        columns = {name: value[:count] for name, value in kept.columns.items()}
        return Batch(kept.x[:count], kept.labels[:count], columns)

    def _inspect(self, splits: dict[str, ItemExamples], hashed: dict[str, ItemExamples]) -> None:
        """Check a sample of each split; take shape and levels from it, and the digest of the data.

        Args:
            splits: the splits.
            hashed: what the digest is of: the same examples, divided so that it does not depend on how many of the
                training examples are held out for validation.

        Raises:
            ConfigError: if the examples do not have the configured shape or levels.
            DataError: if the splits do not fit together.
        """
        samples: dict[str, RawBatch] = {}
        for split, examples in splits.items():
            if not len(examples):
                continue
            samples[split] = examples.sampled_batch()
            found = tuple(samples[split].images.shape[1:])
            if self.shape is None:
                self.shape = found
            if found != self.shape and "train" in samples and split != "train":
                raise DataError(f"{examples.where}: x has the shape {list(found)}, and of training {list(self.shape)}")
            if found != self.shape:
                raise ConfigError("shape", list(self.shape), f"{self.name} has examples of shape {list(found)}")
            examples.shape = self.shape
            self._settle_levels(samples[split].images, examples.where)
        if samples["train"].images.dtype == torch.uint8:
            self.levels = EIGHT_BITS
        digest, again = (digest_of({name: part.sampled_batch() for name, part in hashed.items()}) for _ in range(2))
        self.sha256 = f"{SAMPLE}{digest}" if digest == again else ""

    def _settle_levels(self, x: torch.Tensor, where: str) -> None:
        """Check that the levels fit uint8 examples, and that 255 is white in them."""
        if x.dtype != torch.uint8:
            return
        if self.levels not in (None, EIGHT_BITS):
            hint = f"x of {where} is uint8, of which 255 is white; return floats between 0 and 1 for other levels"
            raise ConfigError("levels", self.levels, hint)
        if (largest := int(x.max())) < DARK and self.levels is None:
            hint = (
                f"no value of x is above {largest} in a sample of {where}, and 255 is white: return floats in [0, 1], "
                f"such as x / {max(1, largest)}, or set data.levels={EIGHT_BITS} if they are dark"
            )
            raise ConfigError("levels", None, hint)


def batch_of(batch: RawBatch | DataError) -> RawBatch:
    """Return a batch that a loader fetched, or raise the error that it fetched instead."""
    if isinstance(batch, DataError):
        raise batch
    return batch
