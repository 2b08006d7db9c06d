"""Every implementation of every contract, with arguments for tiny sizes. A new factor is a new line here."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from nelbo.heads import (
    Bernoulli,
    ContinuousBernoulli,
    DeterministicPosterior,
    DiagonalNormalPosterior,
    DiscretizedLogistic,
    FixedGaussian,
    LearnedGaussian,
    OptimalGaussian,
    PerPixelGaussian,
)
from nelbo.models import VAE
from nelbo.nets import MLP, ConvDecoder, ConvEncoder
from nelbo.objectives import NegativeELBO, Reconstruction
from nelbo.priors import StandardNormal

SHAPE = (1, 6, 5)
LATENT_DIM = 3
LEVELS = 17

POSTERIORS = {"diagonal_normal": DiagonalNormalPosterior, "deterministic": DeterministicPosterior}
PRIORS = {"standard_normal": StandardNormal}
LIKELIHOODS = {
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
    "gaussian": LearnedGaussian,
    "gaussian_fixed": partial(FixedGaussian, sigma=0.3),
    "gaussian_per_pixel": PerPixelGaussian,
    "gaussian_optimal": OptimalGaussian,
    "discretized_logistic": partial(DiscretizedLogistic, levels=LEVELS),
}
NETS = {
    "mlp": (partial(MLP, hidden=[8], activation="Tanh"), partial(MLP, hidden=[8], activation="Tanh")),
    "linear": (partial(MLP, hidden=[], activation="Identity"), partial(MLP, hidden=[], activation="Identity")),
    "conv": (
        partial(ConvEncoder, channels=[4, 4], activation="SiLU"),
        partial(ConvDecoder, channels=[4, 4, 3], activation="SiLU"),
    ),
}
OBJECTIVES = {
    "elbo": partial(NegativeELBO, beta=1.0, num_samples=2),
    "reconstruction": partial(Reconstruction, num_samples=2),
}


def make_vae(
    nets: str = "mlp",
    posterior: str = "diagonal_normal",
    prior: str = "standard_normal",
    likelihood: str = "gaussian",
    shape: tuple[int, ...] = SHAPE,
    latent_dim: int = LATENT_DIM,
) -> VAE:
    encoder, decoder = NETS[nets]
    return VAE(
        shape=shape,
        latent_dim=latent_dim,
        encoder=encoder,
        posterior=POSTERIORS[posterior],
        prior=PRIORS[prior],
        decoder=decoder,
        likelihood=LIKELIHOODS[likelihood],
    )


def images(likelihood: str = "gaussian", count: int = 7, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """Pixels in the support of a likelihood."""
    x = torch.rand(count, *shape)
    steps = {"bernoulli": 1, "discretized_logistic": LEVELS - 1}.get(likelihood)
    return (x * steps).round() / steps if steps else x
