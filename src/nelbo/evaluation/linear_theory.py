"""How many units the best linear VAE would have active on the same data.

Shapes: K directions, D latent dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from nelbo.distributions import DiagonalNormal, NormalPixels
from nelbo.evaluation.measure import NoMeaning, Subject
from nelbo.evaluation.spectrum import Spectrum, spectrum, units_worth_it
from nelbo.metrics.collapse import final_beta

ELBO = "nelbo.objectives.NegativeELBO"


@dataclass(frozen=True, eq=False)
class LinearTheory:
    """What the best linear VAE does: its unit i is worth its KL if lambda_i > beta sigma^2 (Lucas et al. 2019).

    Args:
        spectrum: of the training images, and of images held out.
        level: beta sigma^2.
    """

    spectrum: Spectrum
    level: float

    @property
    def eigenvalues(self) -> Tensor:
        """Lambda, of the covariance of the training images, descending, (K,)."""
        return self.spectrum.values

    @cached_property
    def worth(self) -> int:
        """How many of all directions are worth a unit, on images held out too; see `units_worth_it`."""
        return units_worth_it(self.spectrum, self.level)

    def units(self, latent_dim: int) -> int:
        """How many of D units it has active."""
        return min(latent_dim, self.worth)

    def noise(self, latent_dim: int) -> str | None:
        """What to say where fewer of D units are worth it than the training images alone would make believe."""
        above = min(latent_dim, int((self.eigenvalues > self.level).sum()))
        if above == self.units(latent_dim):
            return None
        return (
            f"collapse: {above} units have an eigenvalue of the training images above the level, but only "
            f"{self.units(latent_dim)} of them lower the loss of images held out; the others are sampling noise"
        )


def linear_theory(subject: Subject) -> LinearTheory:
    """The optimum of a linear model with this one's sigma, on all training images.

    Raises:
        NoMeaning: if it is not known for this likelihood, prior or objective, or there are too few images.
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
    found = spectrum(subject, latent.q.event_shape[0])
    return LinearTheory(found, beta * px.shared_scale.cpu().double().square().item())
