"""Distributions over latent variables and images, with their KLs, mixtures and tempering."""

from nelbo.distributions.autoregressive import AutoregressiveOneHots
from nelbo.distributions.beta import BetaPixels
from nelbo.distributions.categorical import CategoricalPixels
from nelbo.distributions.columns import ColumnLayout, TableRows
from nelbo.distributions.continuous_bernoulli import ContinuousBernoulli
from nelbo.distributions.delta import Delta
from nelbo.distributions.discretized import DiscretizedGaussian, DiscretizedLogistic
from nelbo.distributions.discretized_mixture import DiscretizedLogisticMixture
from nelbo.distributions.first_units import FirstUnits, FirstUnitsMixture, first_units
from nelbo.distributions.flow import Flow
from nelbo.distributions.mixture import FlowMixture, GaussianMixture, NormalMixture, even_mixture
from nelbo.distributions.normal import DiagonalNormal, FullNormal, StandardNormal
from nelbo.distributions.observed import ObservedPixels, has_pixels
from nelbo.distributions.one_hot import OneHots, Quantized, RelaxedOneHot, one_hot
from nelbo.distributions.pairwise import log_densities
from nelbo.distributions.pixels import BernoulliPixels, LaplacePixels, NormalPixels
from nelbo.distributions.sampling import (
    code_of,
    log_prob_at_sample,
    mean_of,
    sample_at,
    sample_with_density,
    two_means,
)
from nelbo.distributions.support import is_discrete
from nelbo.distributions.tempering import temper

__all__ = [
    "AutoregressiveOneHots",
    "BernoulliPixels",
    "BetaPixels",
    "CategoricalPixels",
    "ColumnLayout",
    "ContinuousBernoulli",
    "Delta",
    "DiagonalNormal",
    "DiscretizedGaussian",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "FirstUnits",
    "FirstUnitsMixture",
    "Flow",
    "FlowMixture",
    "FullNormal",
    "GaussianMixture",
    "LaplacePixels",
    "NormalMixture",
    "NormalPixels",
    "ObservedPixels",
    "OneHots",
    "Quantized",
    "RelaxedOneHot",
    "StandardNormal",
    "TableRows",
    "code_of",
    "even_mixture",
    "first_units",
    "has_pixels",
    "is_discrete",
    "log_densities",
    "log_prob_at_sample",
    "mean_of",
    "one_hot",
    "sample_at",
    "sample_with_density",
    "temper",
    "two_means",
]
