"""Subjects of an evaluation made of a model and tensors, without files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nelbo.evaluation.measure import Subject
from nelbo.models import Model


@dataclass(frozen=True)
class TensorSplit:
    """Images in memory, (N, C, H, W) in [0, 1]."""

    images: Tensor
    labels: Tensor
    factors: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, positions: Tensor) -> Tensor:
        return self.images[positions]

    def context(self, positions: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        return {"label": self.labels[positions]} if "label" in names else {}


def make_subject(
    model: Model,
    test: Tensor,
    train: Tensor | None = None,
    *,
    labels: Tensor | None = None,
    train_labels: Tensor | None = None,
    factors: Tensor | None = None,
    **rest: Any,
) -> Subject:
    """Return a subject of a model and images (N, C, H, W), without validation images.

    Args:
        model: the model.
        test: test images.
        train: training images; the test images if None.
        labels: labels of the test images.
        train_labels: labels of the training images.
        factors: factors of the test images.
        rest: other arguments of `Subject`.
    """
    train = test if train is None else train
    unlabelled = torch.full((len(test),), -1)
    splits = {
        "test": TensorSplit(test, unlabelled if labels is None else labels, factors),
        "train": TensorSplit(train, torch.full((len(train),), -1) if train_labels is None else train_labels),
        "val": TensorSplit(train[:0], torch.zeros(0, dtype=torch.long)),
    }
    return Subject("subject", model.eval(), splits, **rest)
