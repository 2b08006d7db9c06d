"""What the LightningModule takes from a batch: images and the context that the model is conditioned on.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nelbo.data.arrays import LABEL, Batch
from nelbo.models import Model
from nelbo.models.context import Context
from nelbo.numerics.collectives import Shares
from nelbo.numerics.randomness import isolated
from nelbo.trace import Trace

EXAMPLE_SEED = 0
"""Seed of the noise of an example trace."""


def as_batch(batch: Any) -> Batch:
    """Return a batch of our data or of another DataModule: x; (x, labels); or (x, labels, columns) or a mapping.

    Args:
        batch: a tensor, a sequence that begins with x and may go on with labels and a mapping of columns, or a mapping
            with the keys `x` and, if known, `label` and other names of a model's context.

    Raises:
        TypeError: for anything else.

    Example:
        >>> as_batch([torch.zeros(5, 1, 8, 8), torch.zeros(5, dtype=torch.int64)]).labels.shape
        torch.Size([5])
    """
    if isinstance(batch, Batch):
        return batch
    if isinstance(batch, Tensor):
        return Batch(batch, _no_labels(batch))
    if isinstance(batch, Mapping) and isinstance(batch.get("x"), Tensor):
        columns = {name: value for name, value in batch.items() if name not in ("x", LABEL)}
        return Batch(batch["x"], batch.get(LABEL, _no_labels(batch["x"])), columns)
    if isinstance(batch, Sequence) and batch and isinstance(batch[0], Tensor):
        x, *rest = batch
        labels = rest[0] if rest and isinstance(rest[0], Tensor) else _no_labels(x)
        columns = next((dict(part) for part in rest if isinstance(part, Mapping)), {})
        return Batch(x, labels, columns)
    raise TypeError(
        f"a batch must be a tensor x, (x, labels), (x, labels, columns) or a mapping with the key 'x', not a "
        f"{type(batch).__name__}"
    )


def _no_labels(x: Tensor) -> Tensor:
    return torch.full((len(x),), -1, device=x.device)


def given_context(model: Model, batch: Batch) -> Context:
    """Return the context of a batch: what the data have of the names that the model is conditioned on, (B, ...) each.

    Args:
        model: the model.
        batch: a batch on the device of the model.
    """
    return batch.context(model.context_names)


def training_context(model: Model, batch: Batch) -> Context:
    """Return the context of a training batch: that of the data, and what the model draws of its own.

    Args:
        model: the model.
        batch: a batch on the device of the model.
    """
    return {**given_context(model, batch), **model.draw_context(len(batch.x))}


def example_trace(model: Model) -> Trace:
    """Return the trace of two black images, which leaves the model and the random state as they were."""
    training = model.training
    with torch.no_grad(), isolated(EXAMPLE_SEED):
        trace = model.eval().trace(torch.zeros(2, *model.shape), 1, model.example_context(2))
    model.train(training)
    return trace


def weight_by_examples(loss: Tensor, shares: Shares) -> Tensor:
    """Return the same loss with its gradient weighted by this process's share of the batch's examples.

    DDP averages gradients over processes with equal weights, which is wrong if their numbers of examples differ.

    Args:
        loss: the loss of this process, a scalar in nats.
        shares: the numbers of examples of all processes.
    """
    if shares.weight != 1:
        loss.register_hook(lambda gradient: shares.weight * gradient)
    return loss
