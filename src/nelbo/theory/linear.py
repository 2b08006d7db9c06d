"""How many units the best linear VAE uses on given data.

Shapes: K directions, D latent dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from nelbo.theory.spectrum import LeadingSpectrum, units_worth_it


@dataclass(frozen=True, eq=False)
class LinearTheory:
    """The best linear VAE: unit i is worth its KL if lambda_i > beta sigma^2 (Lucas et al. 2019).

    Args:
        spectrum: of the training images and of held-out images.
        level: the water level, beta sigma^2.

    Example:
        >>> import torch
        >>> values = torch.tensor([4.0, 1.0, 0.1], dtype=torch.float64)
        >>> theory = LinearTheory(LeadingSpectrum(values, values.expand(100, 3), is_whole=True), level=0.5)
        >>> theory.units(latent_dim=1), theory.units(latent_dim=8)
        (1, 2)
    """

    spectrum: LeadingSpectrum
    level: float

    @property
    def eigenvalues(self) -> Tensor:
        """Eigenvalues of the covariance of the training images, descending, (K,)."""
        return self.spectrum.values

    @cached_property
    def useful_directions(self) -> int:
        """Number of the K directions that are each worth a unit, on held-out images too; see `units_worth_it`."""
        return units_worth_it(self.spectrum, self.level)

    def units(self, latent_dim: int) -> int:
        """Return how many of D units the best linear VAE uses."""
        return min(latent_dim, self.useful_directions)

    def units_above_level(self, latent_dim: int) -> int:
        """Return how many of D units have an eigenvalue of the training images above the level."""
        return min(latent_dim, int((self.eigenvalues > self.level).sum()))

    def rates(self, latent_dim: int) -> Tensor:
        """Return the KL of each used unit on the training images, 1/2 log(lambda / level), in nats, descending."""
        return 0.5 * (self.eigenvalues[: self.units(latent_dim)] / self.level).log()
