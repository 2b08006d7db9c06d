"""Datasets and DataModules of a user's own, good and bad."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, random_split

from nelbo.data import Arrays
from nelbo.data.sets.digits import digits


def bars(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return images (count, 1, 8, 8) with a bar of random place and brightness, and whether it is upright, (count,)."""
    generator = torch.Generator().manual_seed(seed)
    upright = torch.randint(2, (count,), generator=generator)
    place = torch.randint(8, (count,), generator=generator)
    x = 0.1 * torch.rand(count, 1, 8, 8, generator=generator)
    for number in range(count):
        line = x[number, 0, :, place[number]] if upright[number] else x[number, 0, place[number]]
        line += 0.8
    return x, upright


class Bars(Dataset[Any]):
    """Images of bars with labels.

    Args:
        train: whether they are those for training.
        count: number of images.
        form: what an item is: x; pair; triple; mapping; bytes, whose x is uint8; array, whose x is of NumPy.
        noise: standard deviation of noise that is drawn for each item.
    """

    classes = ["flat", "upright"]

    def __init__(self, train: bool = True, count: int = 200, form: str = "pair", noise: float = 0.0) -> None:
        self.x, self.labels = bars(count, seed=int(train))
        self.form, self.noise = form, noise

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        x, label = self.x[index], int(self.labels[index])
        if self.noise:  # from each of the three generators
            drawn = torch.randn(1) + np.random.randn() + random.gauss(0, 1)
            x = (x + self.noise * drawn.float()).clamp(0, 1)
        known = {"brightness": x.mean(), "name": f"bar {index}"}
        return {
            "x": x,
            "pair": (x, label),
            "triple": (x, label, {"brightness": x.mean()}),
            "mapping": {"x": x, "label": label, **known},
            "bytes": ((x * 255).round().to(torch.uint8), label),
            "array": (x.numpy(), np.int64(label)),
            "target": (x, float(x.mean())),
        }[self.form]


class Vectors(Bars):
    """The same as vectors."""

    def __getitem__(self, index: int) -> Any:
        return self.x[index].flatten()


class Picture:
    """A stand-in for an image of Pillow."""

    __module__ = "PIL.Image"


class Broken(Bars):
    """Images of bars, the last of which cannot be used.

    Args:
        how: what is wrong with it.
        at: the position of the item; a negative one counts from the end.
    """

    def __init__(self, how: str, at: int = -1, count: int = 200) -> None:
        super().__init__(count=count)
        self.how, self.at = how, at % count

    def __getitem__(self, index: int) -> Any:
        x, label = super().__getitem__(index)
        if index != self.at and self.how not in ("grey", "whole", "text"):
            return x, label
        return {
            "shape": (x[:, 1:], label),
            "hole": (x * float("nan"), label),
            "pil": (Picture(), label),
            "text": f"bar {index}",
            "grey": x[0],
            "whole": ((x * 255).long(), label),
        }[self.how]


class Restless(Bars):
    """Images of bars with noise of a generator of its own, which reading an item moves on."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = np.random.default_rng(0)

    def __getitem__(self, index: int) -> Any:
        return self.x[index] * float(self.generator.uniform()), int(self.labels[index])


class Stream(IterableDataset[Any]):
    """Images of bars without positions."""

    def __init__(self, count: int = 200) -> None:
        self.x, _ = bars(count, seed=0)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.x)


class SizedStream(Stream):
    """The same, whose number is known."""

    def __len__(self) -> int:
        return len(self.x)


class BarModule(pl.LightningDataModule):
    """Images of bars.

    Args:
        batch_size: images in a batch.
        workers: number of processes that make items.
        noise: standard deviation of noise that is drawn for each item.
        kind: the class of its training set.
    """

    def __init__(self, batch_size: int = 20, workers: int = 0, noise: float = 0.0, kind: str = "Bars") -> None:
        super().__init__()
        self.batch_size, self.workers, self.noise, self.kind = batch_size, workers, noise, kind
        self.calls: list[str] = []

    def prepare_data(self) -> None:
        self.calls.append("prepare_data")

    def setup(self, stage: str) -> None:
        self.calls.append(stage)
        if stage == "fit":
            whole = Bars(noise=self.noise) if self.kind == "Bars" else globals()[self.kind]()
            if self.kind == "Bars":
                self.train, self.val = random_split(whole, [160, 40], torch.Generator().manual_seed(0))
            else:
                self.train = self.val = whole
        if stage == "test":
            self.test = Bars(train=False, count=50)

    def train_dataloader(self) -> Any:
        shuffle = self.kind == "Bars"
        return DataLoader(self.train, self.batch_size, shuffle=shuffle, num_workers=self.workers)

    def val_dataloader(self) -> Any:
        return DataLoader(self.val, self.batch_size, num_workers=self.workers)

    def test_dataloader(self) -> Any:
        return DataLoader(self.test, self.batch_size, num_workers=self.workers)


class WithoutTest(pl.LightningDataModule):
    """A DataModule that has no test loader, and no validation."""

    def train_dataloader(self) -> Any:
        return DataLoader(Bars(), 20, shuffle=True)


class WithoutValidation(WithoutTest):
    """A DataModule without validation."""

    def test_dataloader(self) -> Any:
        return DataLoader(Bars(train=False, count=50), 20)


class Scaled(BarModule):
    """A DataModule that changes batches on the device: it inverts all, and adds noise in training."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        x, labels = batch
        noise = 0.01 * torch.randn_like(x) if self.trainer.training else 0  # type: ignore[union-attr]
        return 1 - x + noise, labels


def some_digits() -> Arrays:
    """Return the digits."""
    return digits()
