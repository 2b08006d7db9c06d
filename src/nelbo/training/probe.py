"""One forward pass on two images before training, which finds parts that do not work together."""

from __future__ import annotations

import torch

from nelbo.data.arrays import Batch
from nelbo.data.run_data import RunData
from nelbo.data.weights import SAMPLE_WEIGHT
from nelbo.errors import ConfigError
from nelbo.models import Model
from nelbo.models.nesting import LATENT_DIM
from nelbo.numerics.randomness import isolated
from nelbo.objectives import Objective
from nelbo.trace import LOG_BETA, Trace
from nelbo.training.batches import given_context

EXAMPLES = 2


def probe(model: Model, objective: Objective, start: Batch, data: RunData, likelihood: str) -> Trace:
    """Return a trace of two images, after checking that the objective and the pixels fit the model.

    Args:
        model: the model, in training mode.
        objective: the objective that will be minimised.
        start: training examples as the model will see them; all of their images are compared with the support.
        data: the data set of these images.
        likelihood: the name of the chosen likelihood, for the message.

    Raises:
        ConfigError: if the objective does not suit the model, or if pixels lie outside the likelihood's support.
    """
    with torch.no_grad(), isolated():
        context = {name: value[:EXAMPLES] for name, value in given_context(model, start).items()}
        trace = model.eval().trace(start.x[:EXAMPLES], objective.num_samples, context)
    model.train()
    if trace.label is not None and not objective.sums_over_classes:
        hint = "with conditioning=semi_supervised use objective=semi_supervised or elbo"
        raise objective.refuse(f"does not sum over the classes of a label; {hint}")
    objective.check(trace)
    if SAMPLE_WEIGHT in start.columns and not objective.weighs_examples:
        hint = f"gives examples no weights, and {data.name} has some ({SAMPLE_WEIGHT}); use objective=elbo or iwae"
        raise objective.refuse(hint)
    if LOG_BETA in trace.context and not objective.weighs_each_image:
        raise objective.refuse("has no weight for the KL of each image, which rates=many needs; use objective=elbo")
    if LATENT_DIM in trace.context and not objective.is_mean_over_images:
        raise objective.refuse("compares images, which have different numbers of latents with nesting=...")
    support = trace.px.support
    if support is not None and not support.check(start.x).all():
        hint = f"{data.name} ({data.protocol}) has pixels outside its support: {model.support_hint}"
        raise ConfigError("likelihood", likelihood, hint, located=True)
    return trace
