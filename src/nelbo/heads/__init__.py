"""Heads, from features to distributions: likelihoods p(x|z) and posteriors q(z|x), with their parameters."""

from nelbo.heads.bernoulli import Bernoulli, ContinuousBernoulli
from nelbo.heads.beta import Beta
from nelbo.heads.categorical import Categorical
from nelbo.heads.columns import Columns
from nelbo.heads.discretized import DiscretizedGaussian, DiscretizedLogistic
from nelbo.heads.discretized_mixture import DiscretizedLogisticMixture
from nelbo.heads.gaussian import (
    FixedGaussian,
    Gaussian,
    LearnedGaussian,
    OptimalGaussian,
    PerChannelGaussian,
    PerPixelGaussian,
)
from nelbo.heads.laplace import Laplace
from nelbo.heads.likelihood import Likelihood
from nelbo.heads.one_hot import CategoricalPosterior
from nelbo.heads.posterior import (
    DeterministicPosterior,
    DiagonalNormalPosterior,
    FlowPosterior,
    FullNormalPosterior,
    LaplacePosterior,
    Posterior,
    ResidualNormalPosterior,
)
from nelbo.heads.vector_quantized import VectorQuantizedPosterior

__all__ = [
    "Bernoulli",
    "Beta",
    "Categorical",
    "CategoricalPosterior",
    "Columns",
    "ContinuousBernoulli",
    "DeterministicPosterior",
    "DiagonalNormalPosterior",
    "DiscretizedGaussian",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "FixedGaussian",
    "FlowPosterior",
    "FullNormalPosterior",
    "Gaussian",
    "Laplace",
    "LaplacePosterior",
    "LearnedGaussian",
    "Likelihood",
    "OptimalGaussian",
    "PerChannelGaussian",
    "PerPixelGaussian",
    "Posterior",
    "ResidualNormalPosterior",
    "VectorQuantizedPosterior",
]
