"""The best q of each image: a member of the family of q(z|x), optimised for that image alone.

Shapes: B batch, D latent dimensions, C H W image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nelbo.models import Inference, Model


def fit(model: Model, x: Tensor, *, num_steps: int, lr: float, gradient_samples: int) -> tuple[Inference, Inference]:
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
        The inference after half of the steps, and after all. With several levels, those below the top have other
        features of each image in place of the encoder's.
    """
    with torch.no_grad():
        inference = model.infer(x)
        start = inference.parameters()
        parameters = [value.clone().requires_grad_() for value in start]
    adam = torch.optim.Adam(parameters, lr=lr)
    halfway = start
    for step in range(num_steps):
        if step == num_steps // 2:
            halfway = [parameter.detach().clone() for parameter in parameters]
        adam.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / num_steps))
        with torch.enable_grad():
            trace = model.draw(x, inference.replace(parameters), gradient_samples)
            elbo = trace.over_samples(trace.log_px - trace.kl)
            gradients = torch.autograd.grad(-elbo.sum(), parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        adam.step()
    with torch.no_grad():
        return inference.replace(halfway), inference.replace([parameter.detach() for parameter in parameters])
