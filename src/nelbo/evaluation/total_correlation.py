"""The total correlation of the units of z, and the decomposition of the KL that contains it.

Shapes: N images, B images at a time, S codes per image, M = N S codes, D latent dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from nelbo.distributions import sample_with_density
from nelbo.errors import at_most, positive_integer
from nelbo.evaluation.likelihood import require_density
from nelbo.evaluation.measure import Findings, Measure, NotApplicable, Subject, mean_and_error
from nelbo.evaluation.pairs import log_sum_over_images
from nelbo.metrics.information import Estimates, own_and_others
from nelbo.numerics.precision import finest
from nelbo.trace import Latent
from nelbo.views.images import evenly_spaced

ELEMENTS = 2**18
"""Largest number of elements of a tensor of codes x distributions x D, so that it fits the cache of a processor."""

SATURATED = 1.0
"""Distance from log N, in nats, below which the mutual information counts as saturated."""

STANDARD_ERRORS = 4.0
"""Standard errors by which the sum of the parts may differ from the KL."""

ROUNDING = 1e-4
"""Rounding error of densities in float32, in nats."""


class TotalCorrelation(Measure):
    """The KL as mutual information, total correlation and dimension-wise KL (Chen et al. 2018, section 3.1), in nats.

    E_x KL(q(z|x) || p(z)) = I_q(x; z) + KL(q(z) || prod q(z_j)) + sum KL(q(z_j) || p(z_j)), where q(z) is the average
    of q(z|x) over the N images, including the image of each code. For these N images, as a finite set, the estimates of
    all three parts are unbiased. The last two parts sum to `marginal_kl` of `information` (Hoffman & Johnson 2016).

    For unseen images, log q(z) is too large on average if the code's own q(z|x) is part of q(z), and too small if it is
    left out (Poole et al. 2019). The true total correlation is therefore, in expectation, between
    `total_correlation_upper` (own q(z|x) included in q(z), left out of each q(z_j)) and `total_correlation_lower` (the
    reverse), which may be negative. The difference is small if I_q is well below log N. No value is clipped.

    N M D densities are computed. The standard errors, over images, ignore that the codes share one q(z).

    Args:
        num_samples: S, codes sampled for each image.
        limit: largest number of images; None for all.
    """

    top_level_only = True

    def __init__(self, *, num_samples: int, limit: int | None) -> None:
        self.num_samples = positive_integer("num_samples", num_samples)
        self.limit = at_most("limit", limit)

    @torch.no_grad()
    def __call__(self, subject: Subject) -> Findings:
        """Measure the subject.

        Raises:
            NotApplicable: if the units depend on each other given x or under p(z), or there is only one image.
        """
        require_independent_units(subject)
        images = len(evenly_spaced(len(subject.images), self.limit))
        if images < 2:
            raise NotApplicable("total_correlation: q(z) of one image is its q(z|x); raise limit")
        drawn = subject.map("total correlation: codes", lambda x: self._draw(subject, x), limit=images)
        z = drawn["z"].flatten(0, 1).to(subject.device)
        own = torch.arange(images, device=subject.device).repeat_interleave(self.num_samples)

        def part(q: Distribution, first: int) -> Tensor:
            assert isinstance(q, Independent)
            return log_sums(q, z, own - first)

        own_log_q, others_log_q = log_sum_over_images(subject, "total correlation", images, part)
        joint = Estimates(own_log_q[:, 0], others_log_q[:, 0], images)
        units = Estimates(own_log_q[:, 1:], others_log_q[:, 1:], images)
        # log q(z) and sum log q(z_j), with the code's own q(z|x) and without it.
        with_own, marginals_with_own = joint.log_aggregate, units.log_aggregate.sum(-1)
        without_own, marginals_without_own = joint.own - joint.upper, (units.own - units.upper).sum(-1)

        findings = Findings(recipe={"total_correlation_images": images, "total_correlation_samples": self.num_samples})
        for name, values in (
            ("index_code_mutual_information", joint.lower),
            ("total_correlation", with_own - marginals_with_own),
            ("dimension_wise_kl", marginals_with_own - drawn["log_p"].flatten()),
            ("total_correlation_lower", without_own - marginals_with_own),
            ("total_correlation_upper", with_own - marginals_without_own),
        ):
            findings.add_mean(name, values.unflatten(0, (images, -1)).mean(dim=1))
        findings.add_mean("total_correlation_rate", drawn["rate"])
        findings.values |= findings.recipe
        findings.warnings += self._warnings(findings, images)
        return findings

    def _draw(self, subject: Subject, x: Tensor) -> dict[str, Tensor]:
        """Return codes z (B, S, D) of a batch, their log p(z) (B, S), and the KL `rate` (B,)."""
        q = subject.model.encode(x)
        z, log_q = sample_with_density(q, self.num_samples)
        latent = Latent(q, subject.model.top_prior(), z, log_q)
        return {"z": z.transpose(0, 1), "log_p": finest(latent.log_p).T, "rate": finest(latent.kl).mean(dim=0)}

    def _warnings(self, findings: Findings, images: int) -> list[str]:
        """Return warnings if the parts do not sum to the KL, or if unseen images may have another total correlation."""
        warnings, per_image = [], findings.per_image
        parts = ("index_code_mutual_information", "total_correlation", "dimension_wise_kl")
        total = torch.stack([per_image[part] for part in parts]).sum(dim=0)
        excess, error = mean_and_error(total - per_image["total_correlation_rate"])
        if not abs(excess) <= STANDARD_ERRORS * error + ROUNDING:
            warnings.append(
                f"total_correlation: the sum of the three parts differs from the KL by {excess:+.3g} nats, which the "
                f"standard error of {error:.2g} does not explain, so the parts are unreliable"
            )
        mutual, most = per_image[parts[0]].mean().item(), math.log(images)
        if mutual > most - SATURATED:
            lower, upper = (per_image[f"total_correlation_{bound}"].mean().item() for bound in ("lower", "upper"))
            warnings.append(
                f"total_correlation is that of these {images} images alone, whose codes do not overlap (mutual "
                f"information {mutual:.2f} of at most log {images} = {most:.2f} nats); for unseen images it is between "
                f"{max(lower, 0):.2f} and {upper:.2f}"
            )
        return warnings


def require_independent_units(subject: Subject) -> None:
    """Raise an error unless q(z|x) and p(z) are products over units.

    Raises:
        NotApplicable: if the units depend on each other given x or under p(z), or z are not vectors with a density.
    """
    require_density(subject, "total_correlation")
    (latent,) = subject.example.latents
    if not (latent.is_continuous and isinstance(latent.q, Independent) and isinstance(latent.p, Independent)):
        raise NotApplicable(
            "total_correlation: needs units that are independent in q(z|x) and in p(z): posterior=diagonal_normal or "
            "laplace, prior=standard_normal or diagonal_normal"
        )


def log_sums(q: Independent[Distribution], z: Tensor, own: Tensor) -> Tensor:
    """Return log densities of codes under q of their own image, and logs of the sums under all others, (2, M, 1 + D).

    The first column is for the whole code, the other D for its units.

    Args:
        q: q(z|x) of B of the N images, batch shape (B,), event shape (D,).
        z: codes, (M, D).
        own: position of the image of each code among the B images, (M,); a number outside of the range if it is not
            one of them.
    """
    size = q.batch_shape[0]
    chunk = max(1, ELEMENTS // (size * z[0].numel()))
    parts = []
    for codes, places in zip(z.split(chunk), own.split(chunk), strict=True):
        units = q.base_dist.log_prob(codes.unsqueeze(1)).flatten(2).permute(2, 0, 1)
        # (1 + D, M, B), because sums over the last dimension are the fastest.
        log_q = torch.cat([units.sum(0, keepdim=True), units])
        parts.append(finest(own_and_others(log_q, places)).mT)
    return torch.cat(parts, dim=1)
