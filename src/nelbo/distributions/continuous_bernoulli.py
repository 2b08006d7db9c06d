"""The continuous Bernoulli distribution, accurate in float32.

Torch's implementation computes with probabilities, which lose precision near 1: in float32 its density integrates to
0.99 at a logit of 15, and its samples no longer vary with the logit beyond 17. This one computes with logits.

Shapes: any batch shape, event ().
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALL = 0.1
"""Half logits smaller than this use a Taylor series, whose truncation error is below the resolution of float32."""


class ContinuousBernoulli(torch.distributions.ContinuousBernoulli):
    """The density on [0, 1] proportional to exp(l x), with logit l (Loaiza-Ganem & Cunningham 2019).

    Args:
        logits: l, any shape.

    Example:
        >>> ContinuousBernoulli(torch.tensor(0.0)).mean
        tensor(0.5000)
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits=logits, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(value), in nats: l (x - 1/2) + log(u / sinh u), where u = l / 2."""
        half = self.logits / 2
        size = half.abs()
        large = size.clamp(min=SMALL)
        exact = torch.log(2 * large) - large - torch.log1p(-torch.exp(-2 * large))
        square = half.square()
        series = -square / 6 + square.square() / 180 - square**3 / 2835
        return self.logits * (value - 0.5) + torch.where(size < SMALL, series, exact)

    def entropy(self) -> Tensor:
        """Return the entropy, in nats: -log p(E[x]), because log p is linear in x."""
        return -self.log_prob(self.mean)

    @property
    def mean(self) -> Tensor:
        """E[x] = 1/2 + (coth u - 1/u) / 2, where u = l / 2."""
        half = self.logits / 2
        large = torch.where(half.abs() < SMALL, SMALL, half)
        exact = 1 / torch.tanh(large) - 1 / large
        return 0.5 + torch.where(half.abs() < SMALL, half / 3 - half**3 / 45 + 2 * half**5 / 945, exact) / 2

    @property
    def variance(self) -> Tensor:
        """Var[x] = (1 / u^2 - 1 / sinh^2 u) / 4, where u = l / 2."""
        half = self.logits.abs() / 2
        large = half.clamp(min=1)
        exact = large.reciprocal().square() - 4 * torch.exp(-2 * large) / torch.expm1(-2 * large).square()
        square = half.clamp(max=1).square()
        terms = (1 / 3, -1 / 15, 2 / 189, -1 / 675, 2 / 10395, -1382 / 58046625, 4 / 1403325)
        series = sum((term * square**power for power, term in enumerate(terms)), start=torch.zeros_like(square))
        return torch.where(half < 1, series, exact) / 4

    def cdf(self, value: Tensor) -> Tensor:
        """Return P(x <= value) = (exp(l value) - 1) / (exp(l) - 1), for value in [0, 1]."""
        value, (size, is_small) = value.clamp(0, 1), self._sizes()
        ratio = torch.expm1(-size * value) / torch.expm1(-size)
        exact = torch.where(self.logits < 0, ratio, torch.exp(size * (value - 1)) * ratio)
        return torch.where(is_small, _small_cdf(self.logits, value), exact)

    def icdf(self, value: Tensor) -> Tensor:
        """Return the quantile x with P(X <= x) = value: log(1 + value (exp(l) - 1)) / l.

        To avoid cancellation, this computes the distance y from the end of [0, 1] with the largest density, given by
        exp(-|l| y) = 1 - w + w exp(-|l|), where w is `value` for negative l and 1 - `value` otherwise.
        """
        size, is_small = self._sizes()
        decreasing, log_value, log_rest = self.logits < 0, value.log(), torch.log1p(-value)
        w = torch.where(decreasing, value, 1 - value)
        near = torch.log1p(w.clamp(max=0.5) * torch.expm1(-size))
        far = torch.logaddexp(
            torch.where(decreasing, log_rest, log_value), torch.where(decreasing, log_value, log_rest) - size
        )
        distance = torch.where(w < 0.5, near, far) / -size
        exact = torch.where(decreasing, distance, 1 - distance)
        return torch.where(is_small, _small_icdf(self.logits, value), exact)

    def _sizes(self) -> tuple[Tensor, Tensor]:
        """Return |logit|, clamped from below to the range of the exact formulas, and whether a series replaces them."""
        least = 0.02 if self.logits.dtype == torch.float64 else 2 * SMALL
        return self.logits.abs().clamp(min=least), self.logits.abs() < least

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Return samples in [0, 1], (*sample_shape, ...), differentiable with respect to the logits."""
        shape = (*sample_shape, *self.logits.shape)
        return self.icdf(torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device))

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Return samples in [0, 1], (*sample_shape, ...), without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def expand(
        self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None
    ) -> ContinuousBernoulli:
        """Return the same distribution with a larger batch shape."""
        return ContinuousBernoulli(self.logits.expand(batch_shape))


def _small_icdf(logits: Tensor, value: Tensor) -> Tensor:
    """Return `icdf` for logits near 0: a power series in l with the cumulants of a Bernoulli(value) variable."""
    w, skew = value * (1 - value), 1 - 2 * value
    cumulants = (w / 2, w * skew / 6, w * (1 - 6 * w) / 24, w * skew * (1 - 12 * w) / 120)
    return value + sum((logits**power * term for power, term in enumerate(cumulants, 1)), start=torch.zeros_like(w))


def _small_cdf(logits: Tensor, value: Tensor) -> Tensor:
    """Return `cdf` for logits near 0: a power series in l with Bernoulli polynomials of x minus their values at 0."""
    x = value
    polynomials = (
        (x**2 - x) / 2,
        (x**3 - 1.5 * x**2 + 0.5 * x) / 6,
        (x**4 - 2 * x**3 + x**2) / 24,
        (x**5 - 2.5 * x**4 + 5 / 3 * x**3 - x / 6) / 120,
    )
    return x + sum((logits**power * term for power, term in enumerate(polynomials, 1)), start=torch.zeros_like(x))
