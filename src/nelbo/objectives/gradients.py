"""Gradient estimators of the ELBO and of IWAE with less variance for the parameters of q.

Each loss has the value of its bound, in nats. The gradients of STL and DReG are unbiased; PIWAE gives phi the gradient
of another bound. With several levels of latents z stands for all of them, and its gradients are partial ones of each
level (`paths.py`): for `stl` this takes another backward pass of q from level to level, for `dreg` and `piwae` also one
of the decoder. A parameter that p and q share, as in a top-down hierarchy, receives the sum of both gradients.

Shapes: S Monte Carlo samples, B batch, M groups of K samples, S = M K. w_i = p(x, z_i) / q(z_i|x) are the importance
weights, theta the parameters of p, phi those of q.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from nelbo.objectives.bounds import IWAE, MIWAE, log_mean_exp
from nelbo.objectives.elbo import NegativeELBO
from nelbo.objectives.paths import path_log_q, reweighted
from nelbo.trace import Trace

LEAST_SHARE = 1e-7
"""Fraction of a sample's weight for phi that PIWAE adds to its weight for theta, below the precision of float32.

It keeps the weight for theta above 0 where the weight for phi is.
"""


class STL(NegativeELBO):
    """The ELBO with a gradient without the score function of q, "sticking the landing"; `objective=stl`.

    E_q[-log p(x|z) + beta (log q(z|x) - log p(z))], in nats: Roeder et al. 2017. The variance of the gradient is 0 if q
    is the exact posterior. The KL is a Monte Carlo estimate, because the noise of log q - log p cancels that of
    log p(x|z). A flow posterior is inverted to evaluate it. With several levels of latents, the score function of their
    joint q is left out.

    Args:
        beta: weight of the KL, at least 0: a number or a schedule.
        num_samples: S.

    Raises:
        ConfigError: if `beta` or `num_samples` is invalid.
    """

    name: ClassVar[str] = "stl"
    sums_over_classes = False

    def penalty(self, trace: Trace, kl: Tensor, step: float) -> Tensor:
        """Return log q(z|x) - log p(z), (S, B), in nats, with the gradient of log q along the sampling path only."""
        return path_log_q(trace) - trace.log_p

    def check(self, trace: Trace) -> None:
        """Check that samples of every level are reparameterised and have a density.

        Raises:
            ConfigError: for deterministic latents and one-hot codes.
        """
        self.require_weights(trace)


class DReG(IWAE):
    """IWAE with the doubly reparameterised gradient for phi; `objective=dreg`.

    The gradient for phi is sum_i w~_i^2 (d log w_i / d z_i) (d z_i / d phi), where w~ are the normalised weights:
    Tucker et al. 2019; for several levels of latents Bauer & Mnih 2021. Theta has the gradient of IWAE. A flow
    posterior is inverted to evaluate it.

    Args:
        num_samples: S.

    Raises:
        ConfigError: if `num_samples` is invalid.
    """

    name: ClassVar[str] = "dreg"

    def bound(self, trace: Trace) -> Tensor:
        """Return the bound on log p(x) in nats, (B,)."""
        log_weight = trace.log_joint - path_log_q(trace)
        weight = log_weight.detach().softmax(dim=0)
        # The gradient of the bound has the first factor w~, and this is the second.
        if len(trace.latents) == 1:
            trace.latents[0].scale_gradient(weight)
            return log_mean_exp(log_weight)
        return log_mean_exp(log_weight) + reweighted(trace, log_weight, weight.square() - weight).sum(dim=0)


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
        value = trace.log_weight.detach()
        for_phi = self.grouped(value).softmax(dim=0).flatten(0, 1) / self.groups
        for_theta = value.softmax(dim=0)
        surrogate = (self.of_one_level if len(trace.latents) == 1 else self.of_levels)(trace, for_phi, for_theta)
        return log_mean_exp(value) + (surrogate - surrogate.detach()).sum(dim=0)

    @staticmethod
    def of_one_level(trace: Trace, for_phi: Tensor, for_theta: Tensor) -> Tensor:
        """Return a surrogate whose gradients have the given weights for phi and theta, all (S, B).

        A hook on z changes one weight into the other, which needs no further pass of the decoder.
        """
        (latent,) = trace.latents
        for_theta = for_theta + LEAST_SHARE * for_phi  # not 0 unless for_phi is
        latent.scale_gradient(for_phi / for_theta.clamp_min(torch.finfo(for_theta.dtype).tiny))
        return for_theta * (trace.log_joint - latent.path_log_q()) - for_phi * latent.own_log_q()

    @staticmethod
    def of_levels(trace: Trace, for_phi: Tensor, for_theta: Tensor) -> Tensor:
        """Return a surrogate whose gradients have the given weights for phi and theta, all (S, B)."""
        along_paths = reweighted(trace, trace.log_joint, for_phi - for_theta)
        return for_theta * trace.log_joint - for_phi * trace.log_q + along_paths
