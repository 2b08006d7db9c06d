"""Linear models with several levels of latents."""

from __future__ import annotations

import torch
from torch import Tensor

from nelbo.theory.gaussians import LinearGaussian
from nelbo.theory.hierarchy import LinearHierarchy, LinearPosterior


def normal(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def conditional(size: int, inputs: int, generator: torch.Generator) -> LinearGaussian:
    """Return a random distribution with a full covariance, whose eigenvalues are above 0.3."""
    root = normal(size, size, generator=generator)
    covariance = 0.3 * torch.eye(size).double() + root @ root.T / size
    return LinearGaussian(
        normal(size, inputs, generator=generator), normal(size, generator=generator), (covariance + covariance.T) / 2
    )


def linear_hierarchy(pixels: int, *latent_dims: int, seed: int = 0) -> LinearHierarchy:
    """Return a random model whose levels all depend on all levels above."""
    generator, above, levels = torch.Generator().manual_seed(seed), 0, []
    for size in latent_dims:
        levels.append(conditional(size, above, generator))
        above += size
    return LinearHierarchy(tuple(levels), conditional(pixels, above, generator))


def linear_posterior(pixels: int, *latent_dims: int, seed: int = 1) -> LinearPosterior:
    """Return a random q, which has nothing to do with any model."""
    generator, given, levels = torch.Generator().manual_seed(seed), pixels, []
    for size in latent_dims:
        levels.append(conditional(size, given, generator))
        given += size
    return LinearPosterior(tuple(levels))
