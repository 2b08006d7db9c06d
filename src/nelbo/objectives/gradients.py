"""Gradient estimators of the ELBO and of IWAE with less variance for the parameters of q.

Each loss has the value of its bound, in nats. The gradients of STL and DReG are unbiased; PIWAE gives phi the gradient
of another bound. Shapes: S Monte Carlo samples, B batch, M groups of K samples, S = M K. w_i = p(x, z_i) / q(z_i|x) are
the importance weights, theta the parameters of p, phi those of q.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from nelbo.objectives.bounds import IWAE, MIWAE, log_mean_exp
from nelbo.objectives.elbo import NegativeELBO
from nelbo.trace import Trace

LEAST_SHARE = 1e-7
"""Fraction of a sample's weight for phi that PIWAE adds to its weight for theta, below the precision of float32.

It keeps the weight for theta above 0 where the weight for phi is.
"""


class STL(NegativeELBO):
    """The ELBO with a gradient without the score function of q, "sticking the landing"; `objective=stl`.

    E_q[-log p(x|z) + beta (log q(z|x) - log p(z))], in nats: Roeder et al. 2017. The variance of the gradient is 0 if q
    is the exact posterior. The KL is a Monte Carlo estimate, because the noise of log q - log p cancels that of
    log p(x|z). A flow posterior is inverted to evaluate it.

    Args:
        beta: weight of the KL, at least 0: a number or a schedule.
        num_samples: S.

    Raises:
        ConfigError: if `beta` or `num_samples` is invalid.
    """

    name: ClassVar[str] = "stl"

    def penalty(self, trace: Trace, kl: Tensor, step: float) -> Tensor:
        """Return the mean of log q(z|x) - log p(z) in nats, with the gradient along the sampling path only."""
        (latent,) = trace.latents
        return (latent.path_log_q() - latent.log_p).mean()

    def check(self, trace: Trace) -> None:
        """Check that the model has one level of latents with reparameterised samples.

        Raises:
            ConfigError: for deterministic latents, one-hot codes or several levels.
        """
        self.require_weights(trace)
        self.require_one_level(trace)


class DReG(IWAE):
    """IWAE with the doubly reparameterised gradient for phi; `objective=dreg`.

    The gradient for phi is sum_i w~_i^2 (d log w_i / d z_i) (d z_i / d phi), where w~ are the normalised weights:
    Tucker et al. 2019. Theta has the gradient of IWAE. A flow posterior is inverted to evaluate it.

    Args:
        num_samples: S.

    Raises:
        ConfigError: if `num_samples` is invalid.
    """

    name: ClassVar[str] = "dreg"

    def bound(self, trace: Trace) -> Tensor:
        """Return the bound on log p(x) in nats, (B,)."""
        (latent,) = trace.latents
        log_weight = trace.log_px + latent.log_p - latent.path_log_q()
        # The gradient of the bound has the first factor w~, and this is the second.
        latent.scale_gradient(log_weight.detach().softmax(dim=0))
        return log_mean_exp(log_weight)

    def check(self, trace: Trace) -> None:
        """Check that the model has one level of latents with reparameterised samples.

        Raises:
            ConfigError: for deterministic latents, one-hot codes or several levels.
        """
        super().check(trace)
        self.require_one_level(trace)


class PIWAE(MIWAE):
    """IWAE for theta and MIWAE for phi; `objective=piwae`.

    Theta has the gradient of IWAE with all S samples, phi that of MIWAE with M groups: Rainforth et al. 2018. The value
    is that of IWAE, in nats. A flow posterior is inverted to evaluate it.

    Args:
        num_samples: S = M K.
        groups: M, a divisor of S.

    Raises:
        ConfigError: if a number is not a positive integer, or if `groups` does not divide `num_samples`.
    """

    name: ClassVar[str] = "piwae"

    def bound(self, trace: Trace) -> Tensor:
        """Return the bound on log p(x) in nats, (B,)."""
        (latent,) = trace.latents
        value = trace.log_weight.detach()
        for_phi = self.grouped(value).softmax(dim=0).flatten(0, 1) / self.groups
        for_theta = value.softmax(dim=0) + LEAST_SHARE * for_phi  # not 0 unless for_phi is
        latent.scale_gradient(for_phi / for_theta.clamp_min(torch.finfo(value.dtype).tiny))
        along_path = for_theta * (trace.log_px + latent.log_p - latent.path_log_q())
        direct = for_phi * latent.own_log_q()
        surrogate = (along_path - direct).sum(dim=0)
        return log_mean_exp(value) + (surrogate - surrogate.detach())

    def check(self, trace: Trace) -> None:
        """Check that the model has one level of latents with reparameterised samples.

        Raises:
            ConfigError: for deterministic latents, one-hot codes or several levels.
        """
        super().check(trace)
        self.require_one_level(trace)
