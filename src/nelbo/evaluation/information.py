"""The KL split into mutual information of image and code, and the distance of q(z) from the prior.

Shapes: N images, B batch, S codes per image, M = N S codes, D latent dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nelbo.distributions import Flow, sample_with_density
from nelbo.errors import at_most, positive_integer
from nelbo.evaluation.likelihood import require_density
from nelbo.evaluation.measure import Findings, Measure, NotApplicable, Subject
from nelbo.evaluation.pairs import log_sum_over_images
from nelbo.metrics.information import Estimates, sum_densities
from nelbo.numerics.precision import finest
from nelbo.trace import Latent
from nelbo.views.images import evenly_spaced

SATURATED = 1.0
"""Distance from log N, in nats, below which the mutual information counts as saturated."""


class Information(Measure):
    """E_x KL(q(z|x) || p(z)) = I_q(x; z) + KL(q(z) || p(z)), where q(z) averages q(z|x) over the N images, in nats.

    This decomposition is "ELBO surgery" (Hoffman & Johnson 2016). The mutual information I_q of the N images is at most
    log N. For unseen images it is a lower bound in expectation, and `mutual_information_upper` (leave-one-out) an upper
    bound (Poole et al. 2019, "structured bounds with tractable encoders"); the mean KL, `information_rate`, is another
    upper bound. No value is clipped at a bound.

    N x N densities are computed. The standard errors, over images, ignore that the codes share one q(z).

    Args:
        num_samples: S, codes sampled for each image.
        limit: largest number of images; None for all.
        flow_limit: largest number of images if q is a flow, whose density costs a pass through its layers for each of
            the S N^2 pairs.
    """

    top_level_only = True

    def __init__(self, *, num_samples: int, limit: int | None, flow_limit: int) -> None:
        self.num_samples = positive_integer("num_samples", num_samples)
        self.limit = at_most("limit", limit)
        self.flow_limit = positive_integer("flow_limit", flow_limit)

    @torch.no_grad()
    def __call__(self, subject: Subject) -> Findings:
        """Measure the subject.

        Raises:
            NotApplicable: if the model has no log q(z|x), or q(z|x) is a single code, or there is only one image.
        """
        require_density(subject, "information")
        (latent,) = subject.example.latents
        requested = len(evenly_spaced(len(subject.images), self.limit))
        images = min(requested, self.flow_limit) if isinstance(latent.q, Flow) else requested
        if images < 2:
            raise NotApplicable("information: one image has no mutual information with its code; raise limit")
        drawn = subject.map("information: codes", self._draw(subject), limit=images)
        z = drawn["z"].flatten(0, 1).to(subject.device)
        own = torch.arange(images, device=z.device).repeat_interleave(self.num_samples)
        own_log_q, others_log_q = log_sum_over_images(
            subject, "information", images, lambda q, first: sum_densities(q, z, own - first)
        )
        estimates = Estimates(own_log_q, others_log_q, images)

        findings = Findings(recipe={"information_images": images, "information_samples": self.num_samples})
        for name, values in (
            ("mutual_information", estimates.lower),
            ("mutual_information_upper", estimates.upper),
            ("marginal_kl", estimates.log_aggregate - drawn["log_p"].flatten()),
        ):
            findings.add_mean(name, values.unflatten(0, (images, -1)).mean(dim=1))
        findings.add_mean("information_rate", drawn["rate"])
        findings.values |= {"mutual_information_limit": math.log(images), **findings.recipe}
        if images < requested:
            findings.warnings.append(
                f"information: measured on {images} of {requested} images, because densities of a posterior flow are "
                f"slow; metrics.information.flow_limit={requested} takes {(requested / images) ** 2:.0f} times as long"
            )
        mutual, most = estimates.lower.mean().item(), math.log(images)
        if mutual > most - SATURATED:
            rate, upper = drawn["rate"].mean().item(), estimates.upper.mean().item()
            name = "information_rate" if rate < upper else "mutual_information_upper"
            findings.warnings.append(
                f"mutual_information is saturated: {mutual:.2f} of at most log {images} = {most:.2f} nats; for unseen "
                f"images it is between that and {min(rate, upper):.2f} ({name}), and marginal_kl contains the missing "
                "part"
            )
        return findings

    def _draw(self, subject: Subject) -> Callable[[Tensor], dict[str, Tensor]]:
        """Return a function from a batch to its codes z (B, S, D), their log p(z) (B, S), and their KL `rate` (B,)."""
        p = subject.model.top_prior()

        def draw(x: Tensor) -> dict[str, Tensor]:
            q = subject.model.encode(x)
            z, log_q = sample_with_density(q, self.num_samples)
            latent = Latent(q, p, z, log_q)
            return {"z": z.transpose(0, 1), "log_p": finest(latent.log_p).T, "rate": finest(latent.kl).mean(dim=0)}

        return draw
