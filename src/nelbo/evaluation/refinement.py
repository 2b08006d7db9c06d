"""The best q of each image: in the family of q(z|x), but found for that image alone.

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
"""Parameters of each image's q, (B, ...) each, and what makes a q of them."""


@singledispatch
def free_parameters(q: Distribution, model: VAE, x: Tensor) -> Free:
    """Parameters of `q` = q(z|x) that are each image's own, tied to no encoder, and what makes a q of them.

    Where a family has none here (a flow, whose layers all images share) they are the encoder's features: the family is
    then whatever `model.posterior` makes of any features.
    """
    return [model.encoder(x)], model.posterior


@free_parameters.register
def _(q: DiagonalNormal, model: VAE, x: Tensor) -> Free:
    return [q.loc, q.log_scale], lambda loc, log_scale: DiagonalNormal(loc, log_scale.exp(), log_scale)


@free_parameters.register
def _(q: FullNormal, model: VAE, x: Tensor) -> Free:
    # L = diag(sigma) (I + U), as in FullNormalPosterior: entries of L itself would need step sizes of their own.
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
    """The best q of each image in the family of q(z|x), by Adam on its ELBO, from q(z|x) on.

    The learning rate falls to 0 as half a cosine, so that the noise of the gradients averages out. Adam has a step size
    for each parameter, and no two images share one, so that none depends on the others in the batch.

    Args:
        model: in eval mode.
        x: images, (B, C, H, W) in [0, 1].
        num_steps: of Adam.
        lr: the learning rate at the start.
        gradient_samples: of q, for each gradient.

    Returns:
        q after half of the steps, and at the end; batch shape (B,).
    """
    with torch.no_grad():
        p = model.prior(model.encode)
        start, make = free_parameters(model.encode(x), model, x)
        parameters = [value.clone().requires_grad_() for value in start]
    adam = torch.optim.Adam(parameters, lr=lr)
    kept = start
    for step in range(num_steps):
        if step == num_steps // 2:
            kept = [parameter.detach().clone() for parameter in parameters]
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
        return make(*kept), make(*(parameter.detach() for parameter in parameters))
