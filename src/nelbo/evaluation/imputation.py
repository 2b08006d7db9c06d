"""Missing entries of x given those that were observed, by importance sampling.

Shapes: S samples, B batch, D entries of x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nelbo.errors import positive_integer
from nelbo.models import Model
from nelbo.models.context import Context
from nelbo.numerics.precision import IEEE, finest, float32

ELEMENTS = 200_000
"""Entries of x, over all samples, that are decoded at once."""


@dataclass(frozen=True, eq=False)
class Imputation:
    """What is known of x given its observed entries.

    Args:
        mean: E[x|observed], (B, D); of a category its probability.
        drawn: one draw of p(x|observed), (B, D), by resampling z with the weights of importance.
        effective_samples: (sum_s w_s)^2 / sum_s w_s^2, (B,): between 1 and S.
    """

    mean: Tensor
    drawn: Tensor
    effective_samples: Tensor


@float32(IEEE)
@torch.no_grad()
def imputation(model: Model, x: Tensor, context: Context, num_samples: int) -> Imputation:
    """Estimate E[x|observed] = sum_s w_s E[x|z_s] / sum_s w_s (Mattei & Frellsen 2019, "MIWAE", eq. 7).

    The weights are w_s = p(observed|z_s) p(z_s) / q(z_s|observed) with z_s ~ q. As S grows, the estimate approaches the
    conditional mean under the model, which has the least expected squared error. All entries are estimated, also those
    that were observed.

    Args:
        model: in eval mode.
        x: (B, D), with 0 where an entry is missing.
        context: what the model is conditioned on, (B, ...) each, with `observed`, bool, (B, D).
        num_samples: S.

    Raises:
        ConfigError: if `num_samples` is not a positive whole number.
    """
    positive_integer("num_samples", num_samples)
    inference = model.infer(x, context)
    chunk = max(1, ELEMENTS // x.numel())
    total = finest(x.new_full((len(x),), -math.inf))
    squares, mean, drawn = total.clone(), finest(torch.zeros_like(x)), torch.zeros_like(x)
    examples = torch.arange(len(x), device=x.device)
    done = 0
    while done < num_samples:
        trace = model.draw(x, inference, min(chunk, num_samples - done))
        log_weight = finest(trace.with_log_weights(trace.log_joint - trace.log_q))
        done += len(log_weight) // trace.alternatives
        of_chunk = log_weight.logsumexp(0)
        new_total = torch.logaddexp(total, of_chunk)
        share = torch.softmax(log_weight, 0)
        of_new = (of_chunk - new_total).exp()
        mean = mean + of_new.unsqueeze(1) * ((share.unsqueeze(-1) * trace.px.mean).sum(0) - mean)
        chosen = torch.multinomial(share.T, 1).squeeze(1)
        replaced = torch.rand_like(of_new) < of_new
        drawn = torch.where(replaced.unsqueeze(1), trace.px.sample()[chosen, examples], drawn)
        total, squares = new_total, torch.logaddexp(squares, (2 * log_weight).logsumexp(0))
    return Imputation(mean.to(x.dtype), drawn, (2 * total - squares).exp())
