"""What torch.distributions lacks."""

from nelbo.distributions.continuous_bernoulli import ContinuousBernoulli
from nelbo.distributions.delta import Delta
from nelbo.distributions.normal import DiagonalNormal
from nelbo.distributions.tempering import temper

__all__ = ["ContinuousBernoulli", "Delta", "DiagonalNormal", "temper"]
