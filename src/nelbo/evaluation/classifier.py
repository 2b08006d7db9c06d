"""A small classifier of a data set, whose features are used to compare generated images with real ones.

Shapes: N images, B batch, F features, C H W image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from nelbo.evaluation.measure import Split, Subject
from nelbo.numerics.randomness import isolated

VERSION = 1
"""Version of architecture and training together, a part of the cache file's name: increase it with every change."""

FEATURES = 64
STEPS, EPOCHS, BATCH_SIZE, LEARNING_RATE = 800, 20, 128, 4e-3
"""Training takes the smaller of `STEPS` steps and `EPOCHS` epochs."""

THREADS = 1
"""Threads during training: with more of them sums are taken in another order, which changes the weights."""

STRIDE_FROM = 16
"""Smallest height and width of images for which the first convolution has stride 2."""


class SmallClassifier(nn.Module):
    """A classifier of three convolutions and two linear layers.

    Args:
        shape: (C, H, W) of the images.
        classes: number of classes.
    """

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        stride = 2 if min(height, width) >= STRIDE_FROM else 1
        self.body = nn.Sequential(
            *_convolution(channels, 16, kernel_size=5, stride=stride),
            *_convolution(16, 32, kernel_size=3, stride=1),
            nn.MaxPool2d(2),
            *_convolution(32, 64, kernel_size=3, stride=1),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Linear(64 * 9, FEATURES, bias=False),
            # Features have mean 0 and variance 1 over training images, so distances and kernels have a known scale.
            nn.BatchNorm1d(FEATURES, affine=False),
        )
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (B, classes), of images (B, C, H, W) in [0, 1]."""
        logits: Tensor = self.head(self.body(2 * x - 1))
        return logits

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Return the penultimate layer, (B, F), of images (B, C, H, W) in [0, 1]."""
        features: Tensor = self.body(2 * x - 1)
        return features


def _convolution(channels: int, out: int, *, kernel_size: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, out, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(out), nn.LeakyReLU(0.1)]


@dataclass(frozen=True)
class TrainedClassifier:
    """A trained classifier and its accuracy.

    Args:
        net: in eval mode, on the CPU.
        sha256: SHA-256 of its weights.
        accuracy: on the labelled test images; None if there are none.
        warnings: why a cache file was not used, one line each.
    """

    net: SmallClassifier
    sha256: str
    accuracy: float | None
    warnings: tuple[str, ...] = ()


def train(subject: Subject) -> TrainedClassifier:
    """Train a classifier on the labelled training images, preprocessed as for the model.

    Training runs on the CPU with fixed seeds and one thread, so it gives the same weights each time.
    """
    split = subject.splits["train"]
    labels = split.labels
    labelled = torch.nonzero(labels >= 0).flatten()
    order = torch.Generator().manual_seed(VERSION)
    with _single_threaded(), isolated(VERSION):
        steps = min(STEPS, EPOCHS * -(-len(labelled) // BATCH_SIZE))
        net = SmallClassifier(subject.model.shape, int(labels.max()) + 1)
        optimizer = torch.optim.Adam(net.parameters())
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
        for step, chosen in zip(range(steps), _batches(labelled, order), strict=False):
            loss = functional.cross_entropy(net(split[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            subject.watch("training the classifier", step + 1, steps)
        net.eval().requires_grad_(False)
        return TrainedClassifier(net, weights_sha256(net.state_dict()), _accuracy(net, subject.splits["test"]))


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names, shapes and values of a state dict."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {tuple(state[name].shape)}".encode())
        digest.update(state[name].contiguous().numpy().data)
    return digest.hexdigest()


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Run a block with `THREADS` threads and with gradients."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(before)


def _batches(positions: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield batches of `positions` endlessly, shuffled in each epoch, without a smaller last batch."""
    size = min(BATCH_SIZE, len(positions))
    while True:
        shuffled = positions[torch.randperm(len(positions), generator=generator)]
        yield from shuffled[: len(positions) // size * size].split(size)


@torch.no_grad()
def _accuracy(net: SmallClassifier, split: Split) -> float | None:
    """Return the accuracy on the labelled images of a split; None if there are none."""
    labels = split.labels
    labelled = torch.nonzero(labels >= 0).flatten()
    if not len(labelled):
        return None
    correct = sum(int((net(split[chosen]).argmax(1) == labels[chosen]).sum()) for chosen in labelled.split(500))
    return correct / len(labelled)
