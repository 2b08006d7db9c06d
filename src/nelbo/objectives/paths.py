"""Gradients along the sampling paths of latents with several levels.

z of a level is a function of the noise, of the parameters of q, and of z of the levels above. A gradient of autograd
with respect to z of a level therefore includes what happens through z of the levels below; the partial gradients of
this module hold these fixed.

Shapes: S Monte Carlo samples, B batch, z of a level (S, B, *event).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nelbo.trace import Trace


def partial_gradients(value: Tensor, zs: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradient of a value with respect to z of each level at fixed z of all others, (S, B, *event).

    It takes one backward pass, in which every z passes on a gradient of 0 in place of its own.

    Args:
        value: (S, B); each element depends on its own sample of z alone.
        zs: z of each level, as they were sampled: tensors through which `value` was computed. The gradient of one that
            has none, as in evaluation, is 0.

    Example:
        >>> above = torch.tensor([[1.0]], requires_grad=True)
        >>> below = 3 * above
        >>> partial_gradients(above + 10 * below, [above, below])  # the total gradient by `above` is 31
        [tensor([[1.]]), tensor([[10.]])]
    """
    gradients = [torch.zeros_like(z) for z in zs]
    sampled = {level: z for level, z in enumerate(zs) if z.requires_grad}
    if not sampled or not value.requires_grad:
        return gradients

    def hook(level: int) -> Callable[[Tensor], Tensor]:
        def keep(gradient: Tensor) -> Tensor:
            gradients[level] = gradient
            return torch.zeros_like(gradient)

        return keep

    hooks = [z.register_hook(hook(level)) for level, z in sampled.items()]
    try:
        torch.autograd.grad(value.sum(), list(sampled.values()), retain_graph=True, allow_unused=True)
    finally:
        for each in hooks:
            each.remove()
    return gradients


def along_paths(zs: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """Return 0 for every sample and example, (S, B), with given gradients with respect to z of each level.

    Args:
        zs: z of each level.
        gradients: of each level, (S, B, *event).
    """
    products = [(gradient.detach() * z).flatten(2).sum(-1) for z, gradient in zip(zs, gradients, strict=True)]
    total = torch.stack(products).sum(dim=0)
    return total - total.detach()


def path_log_q(trace: Trace) -> Tensor:
    """Return log q(z|x) of all levels, (S, B), in nats, with the path derivative only.

    The gradient is that of log q(z|x) as a function of z alone, of all levels, at fixed parameters of q; with several
    levels it includes how log q of a level changes with z of the levels above. The direct gradient with respect to the
    parameters of q, the score function, is omitted: its expectation is 0 (Roeder et al. 2017), for all levels together
    as for one.
    """
    zs = [latent.z for latent in trace.latents]
    if len(zs) == 1:
        return trace.latents[0].path_log_q()
    if not any(z.requires_grad for z in zs):  # in evaluation: no need to invert a flow for an unused gradient
        return trace.log_q.detach()
    # The density of a sample that a flow brings with it is a function of the noise, not of z.
    log_q = sum((latent.q.log_prob(latent.z) for latent in trace.latents), start=torch.zeros_like(trace.log_q))
    return trace.log_q.detach() + along_paths(zs, partial_gradients(log_q, zs))


def reweighted(trace: Trace, value: Tensor, change: Tensor) -> Tensor:
    """Return 0 for every sample and example, (S, B), which changes the weight of a value along the sampling paths.

    Added to a loss, it changes the weight with which the gradient of `value` reaches the parameters of q through z, and
    leaves that of all other parameters as it is.

    Args:
        trace: of several levels.
        value: (S, B), a function of z.
        change: the new weight minus the old one, (S, B).
    """
    zs = [latent.z for latent in trace.latents]
    gradients = partial_gradients(value, zs)
    scaled = [change.reshape(*change.shape, *[1] * (z.ndim - 2)) * each for z, each in zip(zs, gradients, strict=True)]
    return along_paths(zs, scaled)
