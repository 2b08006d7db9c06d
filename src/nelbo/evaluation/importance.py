"""log p(x) by importance sampling from q(z|x).

Shapes: S samples, B batch, C H W image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nelbo.distributions import sample_with_density
from nelbo.errors import positive_integer
from nelbo.models import VAE


@torch.no_grad()
def log_likelihood(model: VAE, x: Tensor, num_samples: int, chunk_size: int = 50) -> Tensor:
    """Log 1/S sum over s of p(x, z_s) / q(z_s|x), z_s ~ q(z|x), (B,), in nats (Burda et al. 2016, eq. 8).

    In expectation a lower bound of log p(x), which it approaches as S grows. Images are encoded once; weights are
    summed a chunk of samples at a time, so that memory does not grow with S.

    Args:
        model: in eval mode.
        x: images, (B, C, H, W) in [0, 1].
        num_samples: S.
        chunk_size: samples that are decoded at once.

    Raises:
        ConfigError: if a number is not a positive whole one.
        NotImplementedError: if the model has no log q(z|x).
    """
    positive_integer("num_samples", num_samples)
    q = model.encode(x)
    total = x.new_full((len(x),), -math.inf)
    for start in range(0, num_samples, positive_integer("chunk_size", chunk_size)):
        z, log_q = sample_with_density(q, min(chunk_size, num_samples - start))
        log_weight = model.log_joint(x, [z]) - (q.log_prob(z) if log_q is None else log_q)
        total = torch.logaddexp(total, log_weight.logsumexp(dim=0))
    return total - math.log(num_samples)
