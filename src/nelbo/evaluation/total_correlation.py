"""How far the units of z are from independent, over all images together.

Shapes: N images, B of them at a time, S codes an image, M = N S codes, D latent dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from nelbo.distributions import sample_with_density
from nelbo.errors import at_most, positive_integer
from nelbo.evaluation.likelihood import require_density
from nelbo.evaluation.measure import Findings, Measure, NoMeaning, Subject, mean_and_error, spread
from nelbo.evaluation.pairs import over_images
from nelbo.metrics.information import Estimates, own_and_others
from nelbo.numerics.precision import finest
from nelbo.trace import Latent

ELEMENTS = 2**18
"""No tensor of codes x distributions x D has more: they stay in the cache."""
SATURATED = 1.0
STANDARD_ERRORS = 4.0
ROUNDING = 1e-4
"""Nats, of densities in float32."""


class TotalCorrelation(Measure):
    """The rate as information, dependence of the units, and distance of each from its prior (Chen et al. 2018, 3.1).

    E_x KL(q(z|x) || p(z)) = I_q(x; z) + KL(q(z) || prod q(z_j)) + sum KL(q(z_j) || p(z_j)), all in nats. q(z) is the
    average of q(z|x) over the N images, each code's own among them: of these images all three are without bias (M codes
    drawn, all N densities summed), which is what a set whose images are all there is wants. The last two sum to
    `marginal_kl` of `information` (Hoffman & Johnson 2016).

    For images yet unseen q(z) of a code that is among them is too large by its own q(z|x), and without it too small, in
    the mean of the logarithm (Poole et al. 2019). So the truth lies in expectation between `total_correlation_upper`,
    with the own one in q(z) and without in each q(z_j), and `total_correlation_lower`, the other way round, which may
    fall below 0. The difference is small where I_q is well below log N. No value is clipped.

    Costs N M D densities. The standard errors, over images, do not know that the codes share one q(z).

    Args:
        num_samples: S, codes drawn of each image.
        limit: no more than so many images; None for all.
    """

    def __init__(self, *, num_samples: int, limit: int | None) -> None:
        self.num_samples = positive_integer("num_samples", num_samples)
        self.limit = at_most("limit", limit)

    @torch.no_grad()
    def __call__(self, subject: Subject) -> Findings:
        """Measure.

        Raises:
            NoMeaning: if the units depend on each other given x or under p(z), or there is but one image.
        """
        require_independent_units(subject)
        images = len(spread(len(subject.images), self.limit))
        if images < 2:
            raise NoMeaning("total_correlation: one image has no q(z) but its own; give it a larger limit=")
        drawn = subject.map("total correlation: codes", lambda x: self._draw(subject, x), limit=images)
        z = drawn["z"].flatten(0, 1).to(subject.device)
        own = torch.arange(images, device=subject.device).repeat_interleave(self.num_samples)

        def part(q: Distribution, first: int) -> Tensor:
            assert isinstance(q, Independent)
            return log_sums(q, z, own - first)

        mine, others = over_images(subject, "total correlation", images, part)
        joint, units = Estimates(mine[:, 0], others[:, 0], images), Estimates(mine[:, 1:], others[:, 1:], images)
        among, marginals = joint.log_aggregate, units.log_aggregate.sum(-1)
        apart, marginals_apart = joint.own - joint.upper, (units.own - units.upper).sum(-1)

        findings = Findings(recipe={"total_correlation_images": images, "total_correlation_samples": self.num_samples})
        for name, values in (
            ("index_code_mutual_information", joint.lower),
            ("total_correlation", among - marginals),
            ("dimension_wise_kl", marginals - drawn["log_p"].flatten()),
            ("total_correlation_lower", apart - marginals),
            ("total_correlation_upper", among - marginals_apart),
        ):
            findings.add_mean(name, values.unflatten(0, (images, -1)).mean(dim=1))
        findings.add_mean("total_correlation_rate", drawn["rate"])
        findings.values |= findings.recipe
        findings.warnings += self._cautions(findings, images)
        return findings

    def _draw(self, subject: Subject, x: Tensor) -> dict[str, Tensor]:
        """Codes z (B, S, D) of a batch, their log p(z) (B, S), and the rate (B,)."""
        q = subject.model.encode(x)
        z, log_q = sample_with_density(q, self.num_samples)
        latent = Latent(q, subject.model.prior(subject.model.encode), z, log_q)
        return {"z": z.transpose(0, 1), "log_p": finest(latent.log_p).T, "rate": finest(latent.kl).mean(dim=0)}

    def _cautions(self, findings: Findings, images: int) -> list[str]:
        cautions, found = [], findings.per_image
        parts = ("index_code_mutual_information", "total_correlation", "dimension_wise_kl")
        total = torch.stack([found[part] for part in parts]).sum(dim=0)
        excess, error = mean_and_error(total - found["total_correlation_rate"])
        if not abs(excess) <= STANDARD_ERRORS * error + ROUNDING:
            cautions.append(
                f"total_correlation: the three parts sum to {excess:+.3g} nats beyond the rate, where the noise of the "
                f"codes explains {error:.2g}: believe none of them"
            )
        mutual, most = found[parts[0]].mean().item(), math.log(images)
        if mutual > most - SATURATED:
            lower, upper = (found[f"total_correlation_{bound}"].mean().item() for bound in ("lower", "upper"))
            cautions.append(
                f"total_correlation is that of these {images} images, whose codes are apart ({mutual:.2f} of at most "
                f"log {images} = {most:.2f} nats of information); for images yet unseen it lies anywhere from "
                f"{max(lower, 0):.2f} to {upper:.2f}"
            )
        return cautions


def require_independent_units(subject: Subject) -> None:
    """Refuse what has no q(z_j|x) or no p(z_j).

    Raises:
        NoMeaning: if the units depend on each other given x or under p(z), or z are no vectors with a density.
    """
    require_density(subject, "total_correlation")
    latent, *more = subject.example.latents
    if more or not (latent.is_continuous and isinstance(latent.q, Independent) and isinstance(latent.p, Independent)):
        raise NoMeaning(
            "total_correlation: takes units that are independent in q(z|x) and in p(z): posterior=diagonal_normal or "
            "laplace, prior=standard_normal or diagonal_normal"
        )


def log_sums(q: Independent[Distribution], z: Tensor, own: Tensor) -> Tensor:
    """Log densities of codes under their own image's q, and the log of the sum under all others, (2, M, 1 + D).

    The first column is that of the whole code, the others of each unit.

    Args:
        q: batch shape (B,), event (D,), some of the N.
        z: (M, D).
        own: (M,), where among the B that one stands from which the code came; anything else where it is not there.
    """
    size = q.batch_shape[0]
    chunk = max(1, ELEMENTS // (size * z[0].numel()))
    parts = []
    for codes, places in zip(z.split(chunk), own.split(chunk), strict=True):
        units = q.base_dist.log_prob(codes.unsqueeze(1)).flatten(2).permute(2, 0, 1)
        log_q = torch.cat([units.sum(0, keepdim=True), units])  # (1 + D, M, B): sums over B are quick where B is last
        parts.append(finest(own_and_others(log_q, places)).mT)
    return torch.cat(parts, dim=1)
