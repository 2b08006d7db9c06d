"""The best q of each image: a member of the family of q(z|x), optimised for that image alone.

Shapes: B batch, D latent dimensions, C H W image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Laplace

from nelbo.distributions import DiagonalNormal, FullNormal, sample_with_density
from nelbo.models import VAE
from nelbo.trace import Latent

Free = tuple[list[Tensor], Callable[..., Distribution]]
"""Parameters of each image's q, (B, ...) each, and a function that builds q from them."""


@singledispatch
def free_parameters(q: Distribution, model: VAE, x: Tensor) -> Free:
    """Return the parameters of q(z|x) of each image, detached from the encoder's weights, and a function to build q.

    For a family without an implementation here, such as a flow, whose layers all images share, the parameters are the
    encoder's features. The family then contains every q that `model.posterior` makes of any features.
    """
    return [model.encoder(x)], model.posterior


@free_parameters.register
def _(q: DiagonalNormal, model: VAE, x: Tensor) -> Free:
    return [q.loc, q.log_scale], lambda loc, log_scale: DiagonalNormal(loc, log_scale.exp(), log_scale)


@free_parameters.register
def _(q: FullNormal, model: VAE, x: Tensor) -> Free:
    # L = diag(sigma) (I + U), as in FullNormalPosterior. The entries of L itself have very different scales, which
    # one learning rate does not suit.
    scale = q.scale_tril.diagonal(dim1=-2, dim2=-1)
    unit = torch.eye(scale.shape[-1], dtype=scale.dtype, device=scale.device)

    def make(loc: Tensor, log_scale: Tensor, below: Tensor) -> FullNormal:
        return FullNormal(loc, log_scale.exp().unsqueeze(-1) * (unit + below.tril(-1)))

    return [q.loc, scale.log(), (q.scale_tril / scale.unsqueeze(-1)).tril(-1)], make


@free_parameters.register(Independent)
def _(q: Independent[Distribution], model: VAE, x: Tensor) -> Free:
    base = q.base_dist
    if not isinstance(base, Laplace):
        return free_parameters.dispatch(Distribution)(q, model, x)

    def make(loc: Tensor, log_scale: Tensor) -> Distribution:
        return Independent(Laplace(loc, log_scale.exp(), validate_args=False), 1, validate_args=False)

    return [base.loc, base.scale.log()], make


def fit(
    model: VAE, x: Tensor, *, num_steps: int, lr: float, gradient_samples: int
) -> tuple[Distribution, Distribution]:
    """Optimise the ELBO of each image over the family of q(z|x), with Adam and q(z|x) as the starting point.

    The learning rate falls to 0 along half a cosine, so that the noise of the gradients averages out. Images share no
    parameters, and Adam scales the step of each parameter separately, so the result of an image does not depend on the
    others in the batch.

    Args:
        model: in eval mode.
        x: images, (B, C, H, W) in [0, 1].
        num_steps: Adam steps.
        lr: initial learning rate.
        gradient_samples: samples of q for each gradient.

    Returns:
        q after half of the steps, and after all; batch shape (B,).
    """
    with torch.no_grad():
        p = model.prior(model.encode)
        start, make = free_parameters(model.encode(x), model, x)
        parameters = [value.clone().requires_grad_() for value in start]
    adam = torch.optim.Adam(parameters, lr=lr)
    halfway = start
    for step in range(num_steps):
        if step == num_steps // 2:
            halfway = [parameter.detach().clone() for parameter in parameters]
        adam.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / num_steps))
        with torch.enable_grad():
            q = make(*parameters)
            z, log_q = sample_with_density(q, gradient_samples)
            elbo = model.decode(z).log_prob(x) - Latent(q, p, z, log_q).kl
            gradients = torch.autograd.grad(-elbo.mean(dim=0).sum(), parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        adam.step()
    with torch.no_grad():
        return make(*halfway), make(*(parameter.detach() for parameter in parameters))
