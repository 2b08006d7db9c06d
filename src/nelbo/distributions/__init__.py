"""What torch.distributions lacks."""

from nelbo.distributions.continuous_bernoulli import ContinuousBernoulli
from nelbo.distributions.delta import Delta
from nelbo.distributions.levels import DiscretizedLogistic
from nelbo.distributions.normal import DiagonalNormal, StandardNormal
from nelbo.distributions.pixels import BernoulliPixels, NormalPixels
from nelbo.distributions.tempering import temper

__all__ = [
    "BernoulliPixels",
    "ContinuousBernoulli",
    "Delta",
    "DiagonalNormal",
    "DiscretizedLogistic",
    "NormalPixels",
    "StandardNormal",
    "temper",
]
