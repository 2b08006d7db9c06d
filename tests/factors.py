"""Every implementation of every contract, with arguments for tiny sizes. A new factor is a new line here."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from nelbo.heads import (
    Bernoulli,
    Beta,
    Categorical,
    ContinuousBernoulli,
    DeterministicPosterior,
    DiagonalNormalPosterior,
    DiscretizedGaussian,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    FixedGaussian,
    FlowPosterior,
    FullNormalPosterior,
    Laplace,
    LaplacePosterior,
    LearnedGaussian,
    OptimalGaussian,
    PerChannelGaussian,
    PerPixelGaussian,
)
from nelbo.models import VAE
from nelbo.nets import MLP, ConvDecoder, ConvEncoder
from nelbo.nets.flows import KINDS
from nelbo.objectives import NegativeELBO, Reconstruction
from nelbo.priors import DiagonalNormal, Flow, Mixture, StandardNormal, VampPrior
from nelbo.schedules import Linear

SHAPE = (1, 6, 5)
LATENT_DIM = 3
LEVELS = 17

POSTERIORS = {
    "diagonal_normal": DiagonalNormalPosterior,
    "full_normal": FullNormalPosterior,
    "laplace": LaplacePosterior,
    **{f"flow_{kind}": partial(FlowPosterior, context=2, kind=kind, layers=2, hidden=[8]) for kind in KINDS},
    "deterministic": DeterministicPosterior,
}
PRIORS = {
    "standard_normal": StandardNormal,
    "diagonal_normal": DiagonalNormal,
    "mixture": partial(Mixture, components=4),
    "vamp": partial(VampPrior, components=5, from_data=True),
    **{f"flow_{kind}": partial(Flow, kind=kind, layers=2, hidden=[8]) for kind in KINDS},
}
LIKELIHOODS = {
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
    "gaussian": LearnedGaussian,
    "gaussian_fixed": partial(FixedGaussian, sigma=0.3),
    "gaussian_scheduled": partial(FixedGaussian, sigma=Linear(steps=10, start=1.0, end=0.2)),
    "gaussian_per_pixel": PerPixelGaussian,
    "gaussian_per_channel": PerChannelGaussian,
    "gaussian_optimal": OptimalGaussian,
    "discretized_logistic": partial(DiscretizedLogistic, levels=LEVELS),
    "discretized_gaussian": partial(DiscretizedGaussian, levels=LEVELS),
    "discretized_logistic_mixture": partial(DiscretizedLogisticMixture, levels=LEVELS, components=3),
    "categorical": partial(Categorical, levels=LEVELS),
    "laplace": Laplace,
    "beta": partial(Beta, levels=LEVELS),
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


def refusal(posterior: str, prior: str, objective: str = "elbo") -> str | None:
    """What is said to a pair without meaning; None where it has one."""
    if prior == "vamp" and posterior.startswith(("deterministic", "flow")):
        return "prior=vamp: is a mixture of q"
    if objective == "elbo" and posterior == "deterministic":
        return "objective=elbo: posterior=deterministic has no log q"
    if objective == "reconstruction" and prior != "standard_normal":
        return "objective=reconstruction: has no KL, so nothing would train the prior"
    return None


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
    discrete = {"discretized_logistic", "discretized_gaussian", "discretized_logistic_mixture", "categorical"}
    steps = {"bernoulli": 1, **dict.fromkeys(discrete, LEVELS - 1)}.get(likelihood)
    return (x * steps).round() / steps if steps else x
