"""How much of the rate is information about the image, and how much of it a prior that is not q(z).

Shapes: N images, B batch, S codes an image, M = N S codes, D latent dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nelbo.distributions import Flow, sample_with_density
from nelbo.errors import at_most, positive_integer
from nelbo.evaluation.likelihood import require_density
from nelbo.evaluation.measure import Findings, Measure, NoMeaning, Subject, spread
from nelbo.evaluation.pairs import over_images
from nelbo.metrics.information import Estimates, sum_densities
from nelbo.numerics.precision import finest
from nelbo.trace import Latent

SATURATED = 1.0


class Information(Measure):
    """E_x KL(q(z|x) || p(z)) = I_q(x; z) + KL(q(z) || p(z)), q(z) the average of q(z|x) over the N images, in nats.

    "ELBO surgery" (Hoffman & Johnson 2016). The mutual information I_q cannot exceed log N. For images yet unseen it is
    a lower bound and `mutual_information_upper` (leave-one-out) an upper one, both in expectation (Poole et al. 2019,
    "structured bounds with tractable encoders"); the rate is an upper bound too. None of them is clipped at another.
    All N x N densities are needed. The standard errors, over images, do not know that the codes share one q(z).

    Args:
        num_samples: S, codes drawn of each image.
        limit: no more than so many images; None for all.
        flow_limit: the same where q is a flow: a density costs a pass through its layers, for each of S N^2 pairs.
    """

    def __init__(self, *, num_samples: int, limit: int | None, flow_limit: int) -> None:
        self.num_samples = positive_integer("num_samples", num_samples)
        self.limit = at_most("limit", limit)
        self.flow_limit = positive_integer("flow_limit", flow_limit)

    @torch.no_grad()
    def __call__(self, subject: Subject) -> Findings:
        """Measure.

        Raises:
            NoMeaning: if the model has no log q(z|x), or one of a single code, or there is but one image.
        """
        require_density(subject, "information")
        (latent,) = subject.example.latents
        asked = len(spread(len(subject.images), self.limit))
        images = min(asked, self.flow_limit) if isinstance(latent.q, Flow) else asked
        if images < 2:
            raise NoMeaning("information: one image shares no information with its code; give it a larger limit=")
        drawn = subject.map("information: codes", self._draw(subject), limit=images)
        z = drawn["z"].flatten(0, 1).to(subject.device)
        own = torch.arange(images, device=z.device).repeat_interleave(self.num_samples)
        mine, others = over_images(subject, "information", images, lambda q, first: sum_densities(q, z, own - first))
        found = Estimates(mine, others, images)

        findings = Findings(recipe={"information_images": images, "information_samples": self.num_samples})
        for name, values in (
            ("mutual_information", found.lower),
            ("mutual_information_upper", found.upper),
            ("marginal_kl", found.log_aggregate - drawn["log_p"].flatten()),
        ):
            findings.add_mean(name, values.unflatten(0, (images, -1)).mean(dim=1))
        findings.add_mean("information_rate", drawn["rate"])
        findings.values |= {"mutual_information_limit": math.log(images), **findings.recipe}
        if images < asked:
            findings.warnings.append(
                f"information: on {images} of {asked} images, as densities of a posterior flow are slow; "
                f"metrics.information.flow_limit={asked} takes {(asked / images) ** 2:.0f} times as long"
            )
        mutual, most = found.lower.mean().item(), math.log(images)
        if mutual > most - SATURATED:
            rate, upper = drawn["rate"].mean().item(), found.upper.mean().item()
            name = "information_rate" if rate < upper else "mutual_information_upper"
            findings.warnings.append(
                f"mutual_information is saturated: {mutual:.2f} of at most log {images} = {most:.2f} nats; for images "
                f"yet unseen it lies anywhere from there to {min(rate, upper):.2f} ({name}), and what is missing is in "
                "marginal_kl"
            )
        return findings

    def _draw(self, subject: Subject) -> Callable[[Tensor], dict[str, Tensor]]:
        """A function of a batch: its codes z (B, S, D), their log p(z) (B, S), and the rate (B,)."""
        p = subject.model.prior(subject.model.encode)

        def draw(x: Tensor) -> dict[str, Tensor]:
            q = subject.model.encode(x)
            z, log_q = sample_with_density(q, self.num_samples)
            latent = Latent(q, p, z, log_q)
            return {"z": z.transpose(0, 1), "log_p": finest(latent.log_p).T, "rate": finest(latent.kl).mean(dim=0)}

        return draw
