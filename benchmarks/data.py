"""The cost of serving data: an epoch of batches of 128, with nelbo and with torch's DataLoader in its default settings.

python benchmarks/data.py [rounds=9]

Rounds of all variants alternate in one run:

- per item: torch's DataLoader over a dataset that returns one float image and its label
- per item, uint8: the same without the conversion to floats
- ours: nelbo's `ImageData`, which indexes whole batches, converted to the floats that a model receives
- ours, uint8: the same before the conversion, which usually runs on the device of the model
- ours, mapped: from a memory map on disk instead of memory
- ours, dynamic: with pixels binarised at random in every epoch

At the end, the time of the noise of a batch, which depends on (seed, epoch, index), is compared with torch.rand of the
same shape.
"""

from __future__ import annotations

import argparse
import statistics
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
    """A dataset that returns one image and its label per call.

    Args:
        images: uint8 images, (N, C, H, W).
        labels: their labels, (N,).
        floats: whether images are converted to floats in [0, 1].
    """

    def __init__(self, images: Tensor, labels: Tensor, *, floats: bool) -> None:
        self.images, self.labels, self.floats = images, labels, floats

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.images[index]
        return image.float().div_(255) if self.floats else image, self.labels[index]


def ours(arrays: Arrays, protocol: str = "raw", *, floats: bool = True) -> Callable[[], int]:
    """Return a function that serves one epoch with nelbo and returns the number of images."""
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
    """Return a function that serves one epoch with torch's DataLoader and returns the number of images."""
    assert isinstance(arrays.train.images, Tensor)
    dataset = PerItem(arrays.train.images, arrays.train.labels, floats=floats)
    loader = DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True)
    return lambda: sum(len(images) for images, _ in loader)


def seconds(epoch: Callable[[], int]) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    epoch()
    return time.perf_counter() - start


def measure_epochs(rounds: int) -> None:
    """Print the median time of an epoch for each data set and variant."""
    with tempfile.TemporaryDirectory() as folder:
        for name, arrays in (("mnist", mnist()), ("cifar10", cifar10())):
            assert isinstance(arrays.train.images, Tensor)
            path = Path(folder) / f"{name}.npy"
            np.save(path, arrays.train.images.numpy())
            variants = {
                "per item": per_item(arrays),
                "ours": ours(arrays),
                "per item, uint8": per_item(arrays, floats=False),
                "ours, uint8": ours(arrays, floats=False),
                "ours, mapped": ours(array_file(str(path), 1, 0)),
                "ours, dynamic": ours(arrays, "dynamic"),
            }
            times: dict[str, list[float]] = {variant: [] for variant in variants}
            for _ in range(rounds):
                for variant, epoch in variants.items():
                    times[variant].append(seconds(epoch))
            count = len(arrays.train)
            for variant, measured in times.items():
                base = "per item, uint8" if "uint8" in variant else "per item"
                ratios = [theirs / one for theirs, one in zip(times[base], measured, strict=True)]
                median = statistics.median(measured)
                print(
                    f"{name:8} {variant:16} {median * 1e3:8.1f} ms per epoch  {count / median:12,.0f} images/s  "
                    f"{base} / this: median {statistics.median(ratios):5.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
                )


def measure_noise(rounds: int, *shape: int) -> None:
    """Print the time of the noise of a batch, relative to torch.rand."""
    indices = torch.randperm(50_000)[: shape[0]]
    ratios = []
    for _ in range(20 * rounds):
        drawn = seconds(lambda: len(Draws(0, 0, indices).uniform(PIXELS, *shape[1:])))
        ratios.append(drawn / seconds(lambda: len(torch.rand(shape))))
    print(f"noise of {shape}: ours / torch.rand: median {statistics.median(ratios):.2f}")


def main(arguments: list[str]) -> None:
    """Print all measurements."""
    rounds = int(dict(argument.split("=") for argument in arguments).get("rounds", 9))
    measure_epochs(rounds)
    measure_noise(rounds, 256, 1, 28, 28)
    measure_noise(rounds, 128, 3, 32, 32)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", metavar="key=value")
    main(parser.parse_args().arguments)
