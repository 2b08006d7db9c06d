"""A small classifier, trained once for each data set, for what its features tell of generated images.

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
"""Of architecture and training together; to be raised with every change of them, for it is part of a file's name."""

FEATURES = 64
STEPS, EPOCHS, BATCH_SIZE, LEARNING_RATE = 800, 20, 128, 4e-3
"""So many steps, or so many epochs where those are fewer."""

THREADS = 1
"""How many threads train it: sums over several come in another order, and so to other weights."""

STRIDE_FROM = 16
"""From this size on the first convolution looks at every other pixel."""


class SmallClassifier(nn.Module):
    """Three convolutions and two linear layers.

    Args:
        shape: (C, H, W) of the images.
        classes: how many.
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
            # Mean 0 and variance 1 over training images: distances and kernels have a scale that means something.
            nn.BatchNorm1d(FEATURES, affine=False),
        )
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (B, classes), of images (B, C, H, W) in [0, 1]."""
        logits: Tensor = self.head(self.body(2 * x - 1))
        return logits

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """The penultimate layer, (B, F), of images (B, C, H, W) in [0, 1]."""
        features: Tensor = self.body(2 * x - 1)
        return features


def _convolution(channels: int, out: int, *, kernel_size: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, out, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(out), nn.LeakyReLU(0.1)]


@dataclass(frozen=True)
class Trained:
    """A classifier that was trained.

    Args:
        net: in eval mode, on the CPU.
        sha256: of its weights.
        accuracy: on the test images that have labels; None if there are none.
        warnings: what became of a file that could not be used.
    """

    net: SmallClassifier
    sha256: str
    accuracy: float | None
    warnings: tuple[str, ...] = ()


def train(subject: Subject) -> Trained:
    """Train on the labelled training images, as the model sees them; on the CPU, to the same weights each time."""
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
        return Trained(net, weights_sha256(net.state_dict()), _accuracy(net, subject.splits["test"]))


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Of names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {tuple(state[name].shape)}".encode())
        digest.update(state[name].contiguous().numpy().data)
    return digest.hexdigest()


@contextmanager
def _single_threaded() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(before)


def _batches(positions: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches of `positions` without an end: each epoch in an order of its own, without a last smaller one."""
    size = min(BATCH_SIZE, len(positions))
    while True:
        shuffled = positions[torch.randperm(len(positions), generator=generator)]
        yield from shuffled[: len(positions) // size * size].split(size)


@torch.no_grad()
def _accuracy(net: SmallClassifier, split: Split) -> float | None:
    labels = split.labels
    labelled = torch.nonzero(labels >= 0).flatten()
    if not len(labelled):
        return None
    right = sum(int((net(split[chosen]).argmax(1) == labels[chosen]).sum()) for chosen in labelled.split(500))
    return right / len(labelled)
