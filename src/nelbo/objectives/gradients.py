"""The same bounds with other gradients, less noisy where q is trained.

Those of STL and DReG are right in expectation; PIWAE gives phi that of another bound.

Each loss has the value of its bound. Shapes: S Monte Carlo samples, B batch, M groups of K samples, S = M K. In nats.
w_i = p(x, z_i) / q(z_i|x); theta are the parameters of p, phi those of q.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from nelbo.objectives.bounds import IWAE, MIWAE, log_mean_exp
from nelbo.objectives.elbo import NegativeELBO
from nelbo.trace import Trace

LEAST_SHARE = 1e-7
"""Under PIWAE a sample's weight for theta is lifted by this share of its weight for phi: below float32's last digit."""


class STL(NegativeELBO):
    """The ELBO without the score function of q in its gradient, "sticking the landing": Roeder et al. 2017.

    The gradient's variance is 0 where q is the exact posterior. The KL is Monte Carlo, for the noise of log q - log p
    is what cancels that of log p(x|z); a flow is inverted for it.
    """

    name: ClassVar[str] = "stl"

    def rate(self, trace: Trace, kl: Tensor, step: float) -> Tensor:
        """Log q - log p, with gradients along the path only."""
        (latent,) = trace.latents
        return (latent.path_log_q() - latent.log_p).mean()

    def check(self, trace: Trace) -> None:
        """One level of reparameterised samples.

        Raises:
            ConfigError: for anything else.
        """
        self.require_weights(trace)
        self.require_one_level(trace)


class DReG(IWAE):
    """IWAE with the doubly reparameterised gradient for phi, sum of w~_i^2 d log w_i / dz_i dz_i / dphi.

    w~ are the weights over their sum (Tucker et al. 2019); theta has IWAE's own gradient. A flow is inverted.
    """

    name: ClassVar[str] = "dreg"

    def bound(self, trace: Trace) -> Tensor:
        """The bound on log p(x), (B,)."""
        (latent,) = trace.latents
        log_weight = trace.log_px + latent.log_p - latent.path_log_q()
        latent.scale_gradient(log_weight.detach().softmax(dim=0))  # the bound's own w~ is the other one
        return log_mean_exp(log_weight)

    def check(self, trace: Trace) -> None:
        """One level of reparameterised samples.

        Raises:
            ConfigError: for anything else.
        """
        super().check(trace)
        self.require_one_level(trace)


class PIWAE(MIWAE):
    """Theta has the gradient of IWAE with all S samples, phi that of MIWAE: Rainforth et al. 2018.

    The value is IWAE's. A flow is inverted.
    """

    name: ClassVar[str] = "piwae"

    def bound(self, trace: Trace) -> Tensor:
        """The bound on log p(x), (B,)."""
        (latent,) = trace.latents
        value = trace.log_weight.detach()
        for_phi = self.grouped(value).softmax(dim=0).flatten(0, 1) / self.groups
        for_theta = value.softmax(dim=0) + LEAST_SHARE * for_phi  # never 0 where the other is not
        latent.scale_gradient(for_phi / for_theta.clamp_min(torch.finfo(value.dtype).tiny))
        along_path = for_theta * (trace.log_px + latent.log_p - latent.path_log_q())
        directly = for_phi * latent.own_log_q()
        surrogate = (along_path - directly).sum(dim=0)
        return log_mean_exp(value) + (surrogate - surrogate.detach())

    def check(self, trace: Trace) -> None:
        """One level of reparameterised samples.

        Raises:
            ConfigError: for anything else.
        """
        super().check(trace)
        self.require_one_level(trace)
