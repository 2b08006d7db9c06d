"""What serving costs: an epoch of batches of 128, this library's and torch's default way, alternating.

python benchmarks/data.py [rounds=9]

- per item: torch's DataLoader with its defaults over a dataset that returns one float image and its label
- per item, uint8: the same without the conversion to floats
- ours: `ImageData`, batches by indexing, converted to floats as the model gets them
- ours, uint8: as served, before the conversion, which belongs to the device
- ours, mapped: from a memory map on disk instead of memory
- ours, dynamic: binarised anew

Last, the noise of a batch from (seed, epoch, index) against torch.rand of the same shape.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nelbo.data import Arrays, Augmentation, array_file, cifar10, mnist
from nelbo.data.module import ImageData
from nelbo.data.noise import PIXELS, Draws

BATCH_SIZE = 128


class PerItem(Dataset[tuple[Tensor, Tensor]]):
    """One image a call, as floats in [0, 1]."""

    def __init__(self, images: Tensor, labels: Tensor, *, floats: bool) -> None:
        self.images, self.labels, self.floats = images, labels, floats

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.images[index]
        return image.float().div_(255) if self.floats else image, self.labels[index]


def ours(arrays: Arrays, protocol: str = "raw", *, floats: bool = True) -> Callable[[], int]:
    data = ImageData(
        name="benchmark",
        source=lambda: arrays,
        shape=None,
        levels=256,
        protocol=protocol,
        augment=Augmentation(flip=False, pad_crop=0),
        batch_size=BATCH_SIZE,
        validation_size=0,
        seed=0,
        shuffle=True,
        num_workers=0,
        order_seed=0,
    )
    data.setup()
    if not floats:
        return lambda: sum(len(images) for images, _, _ in data.train_dataloader())
    return lambda: sum(len(data.present("train", batch, 0)[0]) for batch in data.train_dataloader())


def per_item(arrays: Arrays, *, floats: bool = True) -> Callable[[], int]:
    assert isinstance(arrays.train.images, Tensor)
    dataset = PerItem(arrays.train.images, arrays.train.labels, floats=floats)
    loader = DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True)
    return lambda: sum(len(images) for images, _ in loader)


def seconds(epoch: Callable[[], int]) -> float:
    start = time.perf_counter()
    epoch()
    return time.perf_counter() - start


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, arrays in (("mnist", mnist()), ("cifar10", cifar10())):
            assert isinstance(arrays.train.images, Tensor)
            path = Path(folder) / f"{name}.npy"
            np.save(path, arrays.train.images.numpy())
            ways = {
                "per item": per_item(arrays),
                "ours": ours(arrays),
                "per item, uint8": per_item(arrays, floats=False),
                "ours, uint8": ours(arrays, floats=False),
                "ours, mapped": ours(array_file(str(path), 1, 0)),
                "ours, dynamic": ours(arrays, "dynamic"),
            }
            times: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(rounds):
                for way, epoch in ways.items():
                    times[way].append(seconds(epoch))
            count = len(arrays.train)
            for way, measured in times.items():
                base = "per item, uint8" if "uint8" in way else "per item"
                ratios = [theirs / one for theirs, one in zip(times[base], measured, strict=True)]
                median = statistics.median(measured)
                print(
                    f"{name:8} {way:16} {median * 1e3:8.1f} ms an epoch  {count / median:12,.0f} images/s  "
                    f"{base} / this: median {statistics.median(ratios):5.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
                )


def noise(rounds: int, *shape: int) -> None:
    indices = torch.randperm(50_000)[: shape[0]]
    ratios = []
    for _ in range(20 * rounds):
        drawn = seconds(lambda: len(Draws(0, 0, indices).uniform(PIXELS, *shape[1:])))
        ratios.append(drawn / seconds(lambda: len(torch.rand(shape))))
    print(f"noise of {shape}: ours / torch.rand: median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    rounds = int(dict(argument.split("=") for argument in sys.argv[1:]).get("rounds", 9))
    main(rounds)
    noise(rounds, 256, 1, 28, 28)
    noise(rounds, 128, 3, 32, 32)
