"""The objective of codes that are entries of a codebook.

Shapes: S samples, B batch, N vectors. In nats, summed over pixels and vectors, averaged over S and B at the end.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from nelbo.distributions import Quantized
from nelbo.objectives.objective import Loss, Objective, elbo_terms
from nelbo.schedules import Schedule, as_schedule
from nelbo.trace import Trace


class VectorQuantized(Objective):
    """-log p(x|z) - log p(z) + commitment |z_e - sg(e)|^2, van den Oord et al. 2017, eq. 3.

    The second term of theirs, which moves the codebook, is an exponential moving average (their appendix A.1), kept by
    the posterior. They leave -log p(z) out, constant while the prior is uniform, and fit a prior afterwards; here it is
    trained with the rest, and the first two terms are the exact negative ELBO. No gradient of it reaches the encoder.

    Args:
        commitment: the weight of the squared distance, at least 0: a number or a schedule.
        num_samples: S; all are the same code.

    Raises:
        ConfigError: for a weight that is no finite number of at least 0, or a bad `num_samples`.
    """

    name: ClassVar[str] = "vq_vae"

    def __init__(self, *, commitment: float | Schedule, num_samples: int) -> None:
        super().__init__(num_samples)
        self.commitment = as_schedule("commitment", commitment, minimum=0)

    def forward(self, trace: Trace, step: float) -> Loss:
        """The loss at `step`; the term `commitment` is with its weight."""
        reconstruction, kl, terms = elbo_terms(trace)
        distances = [latent.q.commitment for latent in trace.latents if isinstance(latent.q, Quantized)]
        commitment = self.commitment(step) * torch.stack(distances).sum(dim=0).mean()
        return Loss(reconstruction + kl + commitment, {**terms, "commitment": commitment.detach()})

    def check(self, trace: Trace) -> None:
        """It is about vectors that were rounded.

        Raises:
            ConfigError: for other posteriors.
        """
        if not all(isinstance(latent.q, Quantized) for latent in trace.latents):
            hint = "use posterior=vector_quantized or model=vq_vae, or objective=elbo"
            raise self.refuse(f"is about vectors rounded to a codebook, and this posterior has none: {hint}")
