"""One small pass before training, so that what cannot work is said at once."""

from __future__ import annotations

import torch
from torch import Tensor

from nelbo.data.module import ImageData
from nelbo.errors import ConfigError
from nelbo.models import VAE
from nelbo.numerics.randomness import isolated
from nelbo.objectives import Objective
from nelbo.trace import Trace

EXAMPLES = 2


def probe(model: VAE, objective: Objective, x: Tensor, data: ImageData, likelihood: str) -> Trace:
    """A trace of two images: pairs without meaning are refused, and pixels outside the likelihood's support.

    Args:
        model: in training mode.
        objective: what will be minimised.
        x: training images as the model will see them, (N, C, H, W); all are compared with the support.
        data: where they come from.
        likelihood: what was chosen as the likelihood, for the message.

    Raises:
        ConfigError: naming the pair and the ways out.
    """
    with torch.no_grad(), isolated():
        trace = model.eval().trace(x[:EXAMPLES], objective.num_samples)
    model.train()
    objective.check(trace)
    support = trace.px.support
    if support is not None and not support.check(x).all():
        hint = f"{data.name} ({data.protocol}) has pixels outside its support: {model.likelihood.hint}"
        raise ConfigError("likelihood", likelihood, hint, located=True)
    return trace
