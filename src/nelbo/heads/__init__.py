"""Heads turn features into distributions and own their parameters."""

from nelbo.heads.bernoulli import Bernoulli, ContinuousBernoulli
from nelbo.heads.discretized import DiscretizedLogistic
from nelbo.heads.gaussian import FixedGaussian, Gaussian, LearnedGaussian, OptimalGaussian, PerPixelGaussian
from nelbo.heads.likelihood import Likelihood
from nelbo.heads.posterior import DeterministicPosterior, DiagonalNormalPosterior, Posterior

__all__ = [
    "Bernoulli",
    "ContinuousBernoulli",
    "DeterministicPosterior",
    "DiagonalNormalPosterior",
    "DiscretizedLogistic",
    "FixedGaussian",
    "Gaussian",
    "LearnedGaussian",
    "Likelihood",
    "OptimalGaussian",
    "PerPixelGaussian",
    "Posterior",
]
