"""Priors p(z) over latent variables: vectors or one-hot codes."""

from nelbo.priors.autoregressive import Autoregressive
from nelbo.priors.flow import Flow
from nelbo.priors.mixture import Mixture
from nelbo.priors.normal import DiagonalNormal, StandardNormal
from nelbo.priors.one_hot import Categorical, Uniform
from nelbo.priors.prior import Encode, Prior
from nelbo.priors.vamp import VampPrior

__all__ = [
    "Autoregressive",
    "Categorical",
    "DiagonalNormal",
    "Encode",
    "Flow",
    "Mixture",
    "Prior",
    "StandardNormal",
    "Uniform",
    "VampPrior",
]
