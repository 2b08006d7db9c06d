"""What serving costs: an epoch of batches of 128, this library's and torch's default way, alternating.

python benchmarks/data.py [rounds=9]

- ours: `ImageData`, batches by indexing, converted to floats as the model gets them
- per item: torch's DataLoader with its defaults over a dataset that returns one float image and its label
- mapped: ours, from a memory map on disk instead of memory
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nelbo.data import Arrays, Augmentation, array_file, cifar10, mnist
from nelbo.data.module import ImageData

BATCH_SIZE = 128


class PerItem(Dataset[tuple[Tensor, Tensor]]):
    """One image a call, as floats in [0, 1]."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index].float().div_(255), self.labels[index]


def ours(arrays: Arrays, protocol: str = "raw") -> Callable[[], int]:
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
    return lambda: sum(len(data.present("train", batch, 0)[0]) for batch in data.train_dataloader())


def per_item(arrays: Arrays) -> Callable[[], int]:
    assert isinstance(arrays.train.images, Tensor)
    loader = DataLoader(PerItem(arrays.train.images, arrays.train.labels), batch_size=BATCH_SIZE, shuffle=True)
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
                "ours, dynamic": ours(arrays, "dynamic"),
                "mapped": ours(array_file(str(path), 1, 0)),
            }
            times: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(rounds):
                for way, epoch in ways.items():
                    times[way].append(seconds(epoch))
            count = len(arrays.train)
            for way, measured in times.items():
                ratios = [base / one for base, one in zip(times["per item"], measured, strict=True)]
                median = statistics.median(measured)
                print(
                    f"{name:8} {way:14} {median * 1e3:8.1f} ms an epoch  {count / median:12,.0f} images/s  "
                    f"per item / this: median {statistics.median(ratios):5.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
                )


if __name__ == "__main__":
    main(int(dict(argument.split("=") for argument in sys.argv[1:]).get("rounds", 9)))
