"""How many units the best linear VAE would have active on the same data.

Shapes: N images, P pixels, D latent dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nelbo.distributions import DiagonalNormal, NormalPixels
from nelbo.evaluation.measure import NoMeaning, Subject
from nelbo.metrics.collapse import final_beta

MOST_IMAGES = 10_000
MOST_PIXELS = 4096
"""Beyond this the eigenvalues of a P x P matrix are no longer a matter of seconds: those of FEW_IMAGES^2 instead."""

FEW_IMAGES = 2000
ELBO = "nelbo.objectives.NegativeELBO"


@dataclass(frozen=True, eq=False)
class LinearTheory:
    """What the best linear VAE does: its unit i is worth its KL if lambda_i > beta sigma^2 (Lucas et al. 2019).

    Args:
        eigenvalues: lambda, of the covariance of the training images, (P,), descending.
        level: beta sigma^2.
    """

    eigenvalues: Tensor
    level: float

    def units(self, latent_dim: int) -> int:
        """How many of D units it has active."""
        return min(latent_dim, int((self.eigenvalues > self.level).sum()))


def linear_theory(subject: Subject) -> LinearTheory:
    """The optimum of a linear model with this one's sigma, on (an even part of) the training images.

    Raises:
        NoMeaning: if it is not known for this likelihood, prior or objective.
    """
    told = "collapse: the linear theory predicts nothing"
    px, (latent,) = subject.example.px, subject.example.latents
    if not isinstance(px, NormalPixels) or px.shared_scale.numel() != 1:
        raise NoMeaning(f"{told}: it is for a Gaussian likelihood with one sigma, such as likelihood=gaussian")
    if not isinstance(latent.p, DiagonalNormal):
        raise NoMeaning(f"{told}: it is for a Gaussian prior, such as prior=standard_normal")
    target = (subject.config.get("objective") or {}).get("_target_", ELBO)
    if target != ELBO:
        raise NoMeaning(f"{told}: it is for objective=elbo, and the run's is {target}")
    beta = final_beta(subject.config)
    if beta is None:
        raise NoMeaning(f"{told}: without the run's config.yaml, or a beta in it, the water level is not known")
    if beta == 0:
        raise NoMeaning(f"{told}: objective.beta=0 puts no weight on the KL, so every unit is worth it")
    limit = MOST_IMAGES if math.prod(subject.model.shape) <= MOST_PIXELS else FEW_IMAGES
    found = subject.map("collapse: spectrum", lambda x: {"x": x.flatten(1)}, split="train", limit=limit)
    return LinearTheory(eigenvalues(found["x"]), beta * px.shared_scale.double().square().item())


def eigenvalues(x: Tensor) -> Tensor:
    """Those of the covariance of x (N, P), descending, (min(N, P),), in float64."""
    centred = x.double() - x.double().mean(dim=0)
    product = centred.T @ centred if x.shape[1] <= len(x) else centred @ centred.T
    values: Tensor = torch.linalg.eigvalsh(product / len(x))
    return values.flip(0).clamp(min=0)
