"""Small VAEs that are trained once for many betas and numbers of latents."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from nelbo.heads import Bernoulli, DiagonalNormalPosterior
from nelbo.models import VAE, ManyRates, Nesting
from nelbo.priors import StandardNormal
from tests.helpers.factors import CONVOLUTIONAL, NETS, SHAPE

RATES = partial(ManyRates, lowest=0.05, highest=10.0)
NESTING = partial(Nesting, decay=1.0)
COLOUR = (3, 8, 8)
"""The shape of images for convolutional networks."""


def make_many(nets: str = "mlp", **parts: Any) -> VAE:
    """Return a VAE of four latents in its state at the start of training.

    Args:
        nets: a key of `NETS`.
        parts: arguments of `VAE` in place of these; without `rates` and `nesting` it is an ordinary model.
    """
    encoder, decoder = NETS[nets]
    arguments: dict[str, Any] = {
        "shape": COLOUR if nets in CONVOLUTIONAL else SHAPE,
        "latent_dim": 4,
        "encoder": encoder,
        "posterior": DiagonalNormalPosterior,
        "prior": StandardNormal,
        "decoder": decoder,
        "likelihood": Bernoulli,
        **parts,
    }
    torch.manual_seed(0)
    return VAE(**arguments)


@torch.no_grad()
def shaken(model: VAE, std: float = 0.3) -> VAE:
    """Add noise to all parameters of a model and return it: gates differ from unit to unit and from beta to beta."""
    for parameter in model.parameters():
        parameter.add_(std * torch.randn_like(parameter))
    return model
