"""Priors p(z)."""

from nelbo.priors.prior import Encode, Prior
from nelbo.priors.standard_normal import StandardNormal

__all__ = ["Encode", "Prior", "StandardNormal"]
