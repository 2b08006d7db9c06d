"""Estimates of log p(x) by importance sampling from q(z|x).

Shapes: S samples, B batch, C H W image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nelbo.errors import positive_integer
from nelbo.evaluation.chunks import samples_at_once
from nelbo.evaluation.pareto import FEWEST, pareto_shape, tail_size
from nelbo.models import Inference, Model
from nelbo.numerics.precision import IEEE, finest, float32

FLUSH = 250
"""Samples whose weights are summed at once, so that the cost of summing is negligible."""


@dataclass(frozen=True, eq=False)
class Importance:
    """Estimates of log p(x) from S importance samples of each image, and their diagnostics.

    Args:
        log_likelihood: log 1/S sum_s w_s, (B,), in nats.
        effective_samples: (sum_s w_s)^2 / sum_s w_s^2, (B,): between 1 and S (Kong 1992); 0 if all weights are 0.
        shape: k-hat of the tail of the weights, (B,), see `pareto`; None for fewer than 100 samples.
        curve: estimates from the first K samples, (B,), by K.
        log_weights: log w, (S, B), in nats; None unless requested.
    """

    log_likelihood: Tensor
    effective_samples: Tensor
    shape: Tensor | None
    curve: dict[int, Tensor]
    log_weights: Tensor | None


@float32(IEEE)
@torch.no_grad()
def importance(
    model: Model,
    x: Tensor,
    num_samples: int,
    *,
    inference: Inference | None = None,
    counts: Sequence[int] = (),
    keep_log_weights: bool = False,
) -> Importance:
    """Estimate log p(x) from weights w_s = p(x, z_s) / q(z_s|x) with z_s ~ q(z|x) (Burda et al. 2016, eq. 8).

    The log of the mean weight is in expectation a lower bound of log p(x), which it approaches as S grows. Images are
    encoded once, and weights are summed as they are computed, in float64, so that memory does not grow with S.

    Args:
        model: in eval mode.
        x: images, (B, C, H, W) in [0, 1].
        num_samples: S.
        inference: has the proposal distribution q; None for `model.infer(x)`.
        counts: values of K < S for which `curve` has an estimate too.
        keep_log_weights: whether to return all weights, S x B numbers.

    Raises:
        ConfigError: if `num_samples` is not a positive whole number.
        NotImplementedError: if the model has no log q(z|x).
    """
    positive_integer("num_samples", num_samples)
    inference = model.infer(x) if inference is None else inference
    chunk = max(1, samples_at_once(model, x) // len(x))
    total = finest(x.new_full((len(x),), -math.inf))
    squares, tail = total.clone(), tail_size(num_samples) + 1
    largest = total.unsqueeze(0)
    curve, log_weights, pending, done = {}, [], [], 0
    for stop in sorted({*(count for count in counts if count < num_samples), num_samples}):
        while done < stop:
            trace = model.draw(x, inference, min(chunk, stop - done))
            pending.append(trace.over_alternatives(trace.log_joint - trace.log_q))
            done += len(pending[-1])
            if done < stop and sum(map(len, pending)) < FLUSH:
                continue
            log_weight = finest(torch.cat(pending))
            pending.clear()
            total = torch.logaddexp(total, log_weight.logsumexp(dim=0))
            squares = torch.logaddexp(squares, (2 * log_weight).logsumexp(dim=0))
            candidates = torch.cat([largest, log_weight])
            largest = candidates.topk(min(tail, len(candidates)), dim=0).values
            if keep_log_weights:
                log_weights.append(log_weight.float())
        curve[stop] = total - math.log(stop)
    enough = num_samples >= FEWEST
    return Importance(
        log_likelihood=curve[num_samples],
        effective_samples=(2 * total - squares).exp().where(total > -math.inf, 0),
        shape=pareto_shape(largest) if enough else None,
        curve=curve,
        log_weights=torch.cat(log_weights) if keep_log_weights else None,
    )


def log_likelihood(model: Model, x: Tensor, num_samples: int) -> Tensor:
    """Return the importance-weighted bound of log p(x), (B,), in nats; see `importance`.

    Args:
        model: in eval mode.
        x: images, (B, C, H, W) in [0, 1].
        num_samples: S, importance samples of each image.

    Example:
        >>> import nelbo
        >>> model = nelbo.load("outputs/my_run")  # doctest: +SKIP
        >>> log_likelihood(model, x, num_samples=500)  # doctest: +SKIP
        tensor([-90.1, -85.3, ...])
    """
    return importance(model, x, num_samples).log_likelihood
