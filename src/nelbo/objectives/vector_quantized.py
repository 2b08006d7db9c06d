"""The objective of VQ-VAE, whose latents are entries of a codebook.

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
    """The loss of a VQ-VAE; `objective=vq_vae`.

    -log p(x|z) - log p(z) + commitment |z_e - sg(e)|^2: van den Oord et al. 2017, eq. 3, where z_e is the encoder's
    output, e the codebook entry and sg the stop-gradient. The first two terms are the negative ELBO in nats.

    The codebook term of the paper is replaced by an exponential moving average (their appendix A.1) in the posterior.
    The paper omits -log p(z), which is constant for a uniform prior, and fits a prior afterwards. Here the prior is
    trained together with the model; the gradient of -log p(z) does not reach the encoder. With several levels of codes
    the KL and the distance are sums over the levels.

    Args:
        commitment: weight of the squared distance, at least 0: a number or a schedule.
        num_samples: S; all samples are the same code.

    Raises:
        ConfigError: if `commitment` or `num_samples` is invalid.
    """

    name: ClassVar[str] = "vq_vae"

    def __init__(self, *, commitment: float | Schedule, num_samples: int) -> None:
        super().__init__(num_samples)
        self.commitment = as_schedule("commitment", commitment, minimum=0)

    def forward(self, trace: Trace, step: float) -> Loss:
        """Return the loss at `step`; the logged term `commitment` includes its weight."""
        terms = elbo_terms(trace)
        distances = [latent.q.commitment.mean() for latent in trace.latents if isinstance(latent.q, Quantized)]
        commitment = self.commitment(step) * torch.stack(distances).sum()
        total = terms.reconstruction.mean() + terms.kl.mean() + commitment
        return Loss(total, {**terms.logged, "commitment": commitment.detach()})

    def check(self, trace: Trace) -> None:
        """Check that the latents are quantised to a codebook.

        Raises:
            ConfigError: for any other posterior.
        """
        if not all(isinstance(latent.q, Quantized) for latent in trace.latents):
            one_level = "posterior=vector_quantized or model=vq_vae, or " if len(trace.latents) == 1 else ""
            problem = "needs latents quantised to a codebook, and this posterior has none"
            raise self.refuse(f"{problem}; use {one_level}objective=elbo")
