"""What the LightningModule takes from a batch: images and the context that the model is conditioned on.

Shapes: B batch.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from nelbo.data.arrays import Batch
from nelbo.data.weights import SAMPLE_WEIGHT
from nelbo.models import Model
from nelbo.models.context import Context
from nelbo.numerics.collectives import Shares
from nelbo.numerics.randomness import isolated
from nelbo.trace import Trace

EXAMPLE_SEED = 0
"""Seed of the noise of an example trace."""


def given_context(model: Model, batch: Batch) -> Context:
    """Return the context of a batch: what the data have of the names that the model is conditioned on, (B, ...) each.

    What the model infers itself, such as a label, is not among them.

    Args:
        model: the model.
        batch: a batch on the device of the model.
    """
    return batch.context([name for name in model.context_names if name not in model.inferred_names])


def training_context(model: Model, batch: Batch) -> Context:
    """Return the context of a training batch: that of the data, and what the model draws of its own.

    Known values of what the model infers otherwise are among them.

    Args:
        model: the model.
        batch: a batch on the device of the model.
    """
    return {**batch.context(model.context_names), **model.draw_context(len(batch.x))}


def training_trace(model: Model, batch: Batch, num_samples: int) -> Trace:
    """Return the trace of a training batch, with the weights of its examples, if the data have some.

    Args:
        model: the model.
        batch: a batch on the device of the model.
        num_samples: S.
    """
    return weighted(model.trace(batch.x, num_samples, training_context(model, batch)), batch)


def weighted(trace: Trace, batch: Batch) -> Trace:
    """Return the trace of a batch with the weights of its examples, if the data have some."""
    weights = batch.columns.get(SAMPLE_WEIGHT)
    return trace if weights is None else replace(trace, example_weights=weights.reshape(-1).to(batch.x))


def evaluation_trace(model: Model, batch: Batch, num_samples: int) -> Trace:
    """Return the trace of a batch of validation or test, with what the model infers withheld from it.

    Args:
        model: the model.
        batch: a batch on the device of the model.
        num_samples: S.
    """
    trace = weighted(model.trace(batch.x, num_samples, given_context(model, batch)), batch)
    if not model.inferred_names:
        return trace
    return replace(trace, withheld=batch.context(model.inferred_names))


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
