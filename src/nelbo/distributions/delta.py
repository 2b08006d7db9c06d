"""A point mass: the code of a plain autoencoder.

Shapes: any batch shape, event (D,).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints


class Delta(Distribution):
    """All mass on `loc`, (..., D). It has no density, so `log_prob` and every KL are refused, never zero."""

    arg_constraints = {"loc": constraints.real_vector}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor) -> None:
        self.loc = loc
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The point itself."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """Zero."""
        return torch.zeros_like(self.loc)

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:  # type: ignore[override]
        """The point, `sample_shape` times; gradients flow to it."""
        return self.loc.expand(*sample_shape, *self.loc.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Refused.

        Raises:
            NotImplementedError: always; a point mass has no density.
        """
        raise NotImplementedError("a deterministic code has no log q(z|x), so neither a KL nor an ELBO")
