"""Distributions with extreme but valid parameters, for the property tests."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Distribution, Independent, Laplace

from nelbo.distributions import (
    BernoulliPixels,
    BetaPixels,
    CategoricalPixels,
    ContinuousBernoulli,
    DiagonalNormal,
    DiscretizedGaussian,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    Flow,
    FullNormal,
    LaplacePixels,
    NormalMixture,
    NormalPixels,
    StandardNormal,
    even_mixture,
)
from nelbo.heads.beta import CONCENTRATION_FLOOR, LOGIT_BOUND, concentration_ceiling
from nelbo.heads.discretized import SCALE_FLOOR
from nelbo.heads.gaussian import SIGMA_FLOOR
from nelbo.heads.posterior import LOG_SCALE_BOUND
from tests.helpers.properties import MORE, tried

few = settings(tried, max_examples=15 * MORE)
FAR = 1e4
B, C, H, W, D, K = 2, 3, 2, 2, 3, 4
Draw = Callable[..., Tensor]
Make = Callable[[Draw], Distribution]


def drawer(data: st.DataObject, dtype: torch.dtype = torch.float32) -> Draw:
    """Return `draw(low, high, *shape)`, whose values are all at one bound, each at one of the bounds, or between."""

    def draw(low: float, high: float, *shape: int) -> Tensor:
        kind, seed = data.draw(st.sampled_from(["low", "high", "ends", "between"])), data.draw(st.integers(0, 2**31))
        share = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
        share = {"low": share * 0, "high": share * 0 + 1, "ends": share.round(), "between": share}[kind]
        return (low + (high - low) * share).clamp(low, high).requires_grad_()

    return draw


def log_scales(draw: Draw, *shape: int) -> Tensor:
    return draw(-LOG_SCALE_BOUND, LOG_SCALE_BOUND, *shape)


def diagonal(draw: Draw, batch: int = B) -> DiagonalNormal:
    log_scale = log_scales(draw, batch, D)
    return DiagonalNormal(draw(-FAR, FAR, batch, D), log_scale.exp(), log_scale)


def full(draw: Draw) -> FullNormal:
    scale = log_scales(draw, B, D).exp()
    factor = torch.diag_embed(scale) + scale.unsqueeze(-1) * draw(-5, 5, B, D, D).tril(-1)
    return FullNormal(draw(-FAR, FAR, B, D), factor)


def laplace(draw: Draw) -> Distribution:
    base = Laplace(draw(-FAR, FAR, B, D), log_scales(draw, B, D).exp(), validate_args=False)
    return Independent(base, 1, validate_args=False)


class Affine:
    """The invertible map z = a e + b."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self.a, self.b = a, b

    @property
    def inv(self) -> Affine:
        return Affine(1 / self.a, -self.b / self.a)

    def __call__(self, x: Tensor) -> Tensor:
        return self.a * x + self.b

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self(x), self.a.abs().log().expand_as(x).sum(-1)


VECTORS: dict[str, Make] = {
    "diagonal_normal": diagonal,
    "standard_normal": lambda draw: StandardNormal(torch.zeros(D)).expand((B,)),
    "full_normal": full,
    "laplace": laplace,
    "flow": lambda draw: Flow(diagonal(draw), Affine(draw(-5, 5, D).exp(), draw(-FAR, FAR, D))),
}
MIXTURES: dict[str, Make] = {
    "normal_mixture": lambda draw: NormalMixture(draw(-50, 50, K), draw(-FAR, FAR, K, D), log_scales(draw, K, D).exp()),
    "even_diagonal": lambda draw: even_mixture(diagonal(draw, K)),
    "even_full": lambda draw: even_mixture(full(draw)),
    "even_laplace": lambda draw: even_mixture(laplace(draw)),
}
LEVELS = [2, 17, 256]


def sigma(draw: Draw, floor: float, *shape: int) -> Tensor:
    return draw(math.log(floor), math.log(FAR), *shape).exp()


def pixels(levels: int) -> dict[str, Make]:
    """Return likelihoods by name, event shape (C, H, W)."""
    shape, top = (B, C, H, W), levels - 1
    floor = SCALE_FLOOR / top
    return {
        "bernoulli": lambda draw: BernoulliPixels(draw(-FAR, FAR, *shape)),
        "continuous_bernoulli": lambda draw: Independent(ContinuousBernoulli(draw(-FAR, FAR, *shape)), 3),
        "normal": lambda draw: NormalPixels(draw(-FAR, FAR, *shape), sigma(draw, SIGMA_FLOOR, C, 1, 1)),
        "laplace": lambda draw: LaplacePixels(draw(-FAR, FAR, *shape), sigma(draw, SIGMA_FLOOR)),
        "beta": lambda draw: BetaPixels(
            draw(-LOGIT_BOUND, LOGIT_BOUND, *shape),
            draw(math.log(CONCENTRATION_FLOOR), math.log(concentration_ceiling(levels)), C, 1, 1).exp(),
            levels,
        ),
        "discretized_logistic": lambda draw: DiscretizedLogistic(
            draw(-FAR, FAR, *shape), sigma(draw, floor, C, 1, 1), levels
        ),
        "discretized_gaussian": lambda draw: DiscretizedGaussian(
            draw(-FAR, FAR, *shape), sigma(draw, floor, C, 1, 1), levels
        ),
        "discretized_logistic_mixture": lambda draw: DiscretizedLogisticMixture(
            draw(-FAR, FAR, B, K, H, W),
            draw(-FAR, FAR, B, C, K, H, W),
            sigma(draw, floor, B, C, K, H, W),
            draw(-1, 1, B, C * (C - 1) // 2, K, H, W),
            levels,
        ),
        "categorical": lambda draw: CategoricalPixels(draw(-FAR, FAR, B, C, levels, H, W)),
    }


def assert_finite(distribution: Distribution, value: Tensor, parameters: list[Tensor]) -> None:
    """Assert that the log-probability has the right shape and is finite, and so are its gradients."""
    log_p = distribution.log_prob(value)
    leading = value.shape[: value.ndim - len(distribution.event_shape)]
    assert log_p.shape == torch.broadcast_shapes(leading, distribution.batch_shape)
    assert log_p.isfinite().all()
    if log_p.requires_grad:
        gradients = torch.autograd.grad(log_p.sum(), parameters, allow_unused=True, retain_graph=True)
        assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


def recording(draw: Draw) -> tuple[Draw, list[Tensor]]:
    """Return `draw` with a record, and the list of the tensors that it has returned."""
    drawn = list[Tensor]()

    def record(low: float, high: float, *shape: int) -> Tensor:
        drawn.append(draw(low, high, *shape))
        return drawn[-1]

    return record, drawn
