"""Weights of training examples: the column `sample_weight`.

Shapes: N examples.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from nelbo.data.arrays import Examples
from nelbo.errors import DataError

SAMPLE_WEIGHT = "sample_weight"
"""The name of the column with the factor of each example in the mean that training minimises, (N,)."""


def with_mean_one(examples: Examples, train: Tensor, name: str) -> Examples:
    """Return examples whose weights have the mean 1 over the training set; unchanged if they have none.

    Args:
        examples: those of training and validation.
        train: positions of the training examples, (N,).
        name: of the data set, for messages.

    Raises:
        DataError: if there is not one finite weight of at least 0 for each example, or all are 0.

    Example:
        >>> import torch
        >>> images, labels = torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
        >>> examples = Examples(images, labels, columns={"sample_weight": torch.tensor([1.0, 3.0])})
        >>> with_mean_one(examples, torch.arange(2), "own").columns["sample_weight"]
        tensor([0.5000, 1.5000])
    """
    weights = examples.known(SAMPLE_WEIGHT)
    if weights is None:
        return examples
    if weights.numel() != len(weights):
        shape = tuple(weights.shape)
        raise DataError(f"{name}: its column {SAMPLE_WEIGHT} has shape {shape}; needs one number for each example")
    weights = weights.double()
    if not weights.isfinite().all() or weights.min() < 0 or weights.max() == 0:
        problem = "must be finite numbers of at least 0, not all 0"
        raise DataError(
            f"{name}: its column {SAMPLE_WEIGHT} has values from {weights.min():g} to {weights.max():g}; {problem}"
        )
    mean = weights.reshape(-1)[train].mean()
    if mean == 0:
        raise DataError(f"{name}: its column {SAMPLE_WEIGHT} is 0 for all training examples")
    scaled = examples.columns[SAMPLE_WEIGHT].double().reshape(-1) / mean
    return replace(examples, columns={**examples.columns, SAMPLE_WEIGHT: scaled.float()})
