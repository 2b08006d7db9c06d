"""What each level of latents contributes: its KL, and the bound that the upper levels give alone.

Shapes: N images, S samples, B batch, L levels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nelbo.errors import at_most, positive_integer
from nelbo.evaluation.measure import Findings, Measure, NotApplicable, Subject
from nelbo.numerics.precision import finest


class Levels(Measure):
    """The KL of each level of latents, its units, and the negative ELBO of the upper levels alone, in nats per image.

    `kl_level_1` is the KL of the top level. `nelbo_upper_1` is the negative ELBO of a q that is q(z|x) at the top level
    and p(z|above) at all levels below, `nelbo_upper_2` that of the upper two levels, and so on; all are upper bounds of
    -log p(x) (Havtorn et al. 2021). The last one is the negative ELBO of the model.

    Args:
        num_samples: S, Monte Carlo samples of q(z|x) for each image and bound.
        limit: largest number of images; None for all.
    """

    def __init__(self, *, num_samples: int, limit: int | None) -> None:
        self.num_samples = positive_integer("num_samples", num_samples)
        self.limit = at_most("limit", limit)

    def __call__(self, subject: Subject) -> Findings:
        """Measure the subject.

        Raises:
            NotApplicable: if the model has one level, or no KL.
        """
        sizes = [event[0] for event in subject.model.events]
        if len(sizes) == 1:
            raise NotApplicable("levels: the model has one level of latents, whose KL is in metrics=[elbo]")
        if not subject.example.has_kl:
            raise NotApplicable("levels: a level has a deterministic code, without a KL")

        @torch.no_grad()
        def measure(x: Tensor) -> dict[str, Tensor]:
            inference = subject.model.infer(x)

            def draw(upper: int) -> tuple[Tensor, list[Tensor]]:
                """Return the negative ELBO of the upper levels, (B,), and the KL of each, (B,)."""
                trace = subject.model.draw(x, inference, self.num_samples, prior_from=upper)
                kls = [trace.over_samples(finest(latent.kl)) for latent in trace.latents[:upper]]
                return torch.stack(kls).sum(dim=0) - trace.over_samples(finest(trace.log_px)), kls

            bounds = {f"nelbo_upper_{upper}": draw(upper)[0] for upper in range(1, len(sizes))}
            bounds[f"nelbo_upper_{len(sizes)}"], kls = draw(len(sizes))
            return {f"kl_level_{level}": kl for level, kl in enumerate(kls, 1)} | bounds

        findings = Findings(recipe={"levels_samples": self.num_samples})
        findings.values |= {"levels": len(sizes)}
        findings.values |= {f"units_level_{level}": size for level, size in enumerate(sizes, 1)}
        for key, per_image in subject.map("levels", measure, limit=self.limit).items():
            findings.add_mean(key, per_image)
        findings.values |= findings.recipe
        return findings
