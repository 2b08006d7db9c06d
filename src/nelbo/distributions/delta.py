"""A point mass, as the code of a plain autoencoder.

Shapes: any batch shape, event (D,).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints


class Delta(Distribution):
    """A point mass on `loc`. It has no density, so `log_prob` and every KL raise an error instead of returning 0.

    Args:
        loc: the point, (..., D).
    """

    arg_constraints = {"loc": constraints.real_vector}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor) -> None:
        self.loc = loc
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The point, (..., D)."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """Zero, (..., D)."""
        return torch.zeros_like(self.loc)

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:  # type: ignore[override]
        """Return copies of the point, (*sample_shape, ..., D); gradients flow to `loc`."""
        return self.loc.expand(*sample_shape, *self.loc.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Raise an error: a point mass has no density.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a deterministic code has no log q(z|x), so neither a KL nor an ELBO")
