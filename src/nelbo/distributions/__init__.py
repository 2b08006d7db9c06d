"""What torch.distributions lacks."""

from nelbo.distributions.delta import Delta
from nelbo.distributions.normal import DiagonalNormal
from nelbo.distributions.tempering import temper

__all__ = ["Delta", "DiagonalNormal", "temper"]
