"""Conditional Gaussians whose mean is linear in what is given, and their composition and conditioning.

Shapes: K numbers that are given, D numbers that are distributed. Everything is in float64 and in nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nelbo.errors import ConfigError


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """The distribution of y given v: N(matrix v + offset, covariance).

    With K = 0 it is an ordinary Gaussian.

    Args:
        matrix: (D, K), float64.
        offset: (D,), float64.
        covariance: symmetric and positive definite, (D, D), float64.

    Raises:
        ConfigError: if a tensor is not in float64, if the shapes do not agree, or if the covariance is not symmetric
            and positive definite.

    Example:
        >>> matrix, offset = torch.tensor([[2.0]]).double(), torch.zeros(1).double()
        >>> independent(matrix, offset, torch.ones(1).double()).mean(torch.tensor([3.0]).double()).item()
        6.0
    """

    matrix: Tensor
    offset: Tensor
    covariance: Tensor

    def __post_init__(self) -> None:
        size = tuple(self.offset.shape[:1])
        shapes = {"offset": size, "matrix": size + tuple(self.matrix.shape[1:2]), "covariance": size * 2}
        for (name, shape), dimensions in zip(shapes.items(), (1, 2, 2), strict=True):
            value: Tensor = getattr(self, name)
            if value.ndim != dimensions or tuple(value.shape) != shape:
                hint = "the shapes must be (D, K) of the matrix, (D,) of the offset and (D, D) of the covariance"
                raise ConfigError(name, tuple(value.shape), hint)
            if value.dtype != torch.float64:
                raise ConfigError(name, value.dtype, "must be in float64; call its method double()")
        covariance = self.covariance.detach()
        if not covariance.allclose(covariance.T) or torch.linalg.cholesky_ex(covariance).info.item():
            raise ConfigError("covariance", covariance.tolist(), "must be symmetric and positive definite")

    @property
    def size(self) -> int:
        """D."""
        return len(self.offset)

    @property
    def inputs(self) -> int:
        """K."""
        return self.matrix.shape[1]

    @cached_property
    def cholesky(self) -> Tensor:
        """Lower triangular factor L with L L^T = covariance, (D, D)."""
        factor: Tensor = torch.linalg.cholesky(self.covariance)
        return factor

    @cached_property
    def precision(self) -> Tensor:
        """Inverse of the covariance, (D, D)."""
        return torch.cholesky_inverse(self.cholesky)

    @cached_property
    def log_det(self) -> Tensor:
        """Logarithm of the determinant of the covariance, ()."""
        return self.cholesky.diagonal().square().log().sum()

    def mean(self, given: Tensor) -> Tensor:
        """Return E[y | v], (..., D), for v of shape (..., K)."""
        return given @ self.matrix.T + self.offset

    def log_prob(self, value: Tensor, given: Tensor) -> Tensor:
        """Return log p(y | v) in nats, (...), for y of shape (..., D) and v of shape (..., K)."""
        return -0.5 * (self.squared_norm(value - self.mean(given)) + self.log_det + self.size * math.log(2 * math.pi))

    def squared_norm(self, residual: Tensor) -> Tensor:
        """Return r^T covariance^-1 r, (...), for r of shape (..., D)."""
        return ((residual @ self.precision) * residual).sum(-1)

    def sample(self, given: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw one y for each v: (..., D) for v of shape (..., K)."""
        mean = self.mean(given)
        return mean + torch.randn(mean.shape, generator=generator, dtype=mean.dtype) @ self.cholesky.T


def independent(matrix: Tensor, offset: Tensor, scale: Tensor) -> LinearGaussian:
    """Return N(matrix v + offset, diag(scale^2)).

    Args:
        matrix: (D, K).
        offset: (D,).
        scale: standard deviations, above 0, (D,).
    """
    return LinearGaussian(matrix, offset, torch.diag(scale.square()))


def standard_normal(size: int) -> LinearGaussian:
    """Return N(0, I) of D numbers, given nothing."""
    zero = torch.zeros(size, dtype=torch.float64)
    return independent(zero[:, None][:, :0], zero, zero + 1)


def compose(parts: Sequence[LinearGaussian]) -> LinearGaussian:
    """Return the joint distribution of y_1, ..., y_n, given v, from y_1 | v, then y_2 | v, y_1, and so on.

    Args:
        parts: the conditionals; the matrix of part i has the shape (D_i, K + D_1 + ... + D_i-1).

    Raises:
        ConfigError: if a matrix has another number of columns.
    """
    joint = parts[0]
    for part in parts[1:]:
        if part.inputs != joint.inputs + joint.size:
            hint = f"must have {joint.inputs + joint.size} columns: one for each number that is given or comes before"
            raise ConfigError("matrix", tuple(part.matrix.shape), hint)
        direct, through = part.matrix.split([joint.inputs, joint.size], dim=1)
        cross = through @ joint.covariance
        rows = [torch.cat([joint.covariance, cross.T], 1), torch.cat([cross, cross @ through.T + part.covariance], 1)]
        joint = LinearGaussian(
            torch.cat([joint.matrix, direct + through @ joint.matrix]),
            torch.cat([joint.offset, part.offset + through @ joint.offset]),
            torch.cat(rows),
        )
    return joint


def select(joint: LinearGaussian, indices: Tensor) -> LinearGaussian:
    """Return the distribution of some of the numbers y, given v, in the order of `indices`."""
    return LinearGaussian(joint.matrix[indices], joint.offset[indices], joint.covariance[indices][:, indices])


def condition(joint: LinearGaussian, known: int) -> LinearGaussian:
    """Return the distribution of the other numbers y, given v and the first `known` of them.

    Its matrix has the shape (D - known, K + known).
    """
    first, rest = slice(0, known), slice(known, None)
    cross = joint.covariance[rest, first]
    gain = torch.linalg.solve(joint.covariance[first, first], cross.T).T
    covariance = joint.covariance[rest, rest] - gain @ cross.T
    return LinearGaussian(
        torch.cat([joint.matrix[rest] - gain @ joint.matrix[first], gain], dim=1),
        joint.offset[rest] - gain @ joint.offset[first],
        (covariance + covariance.T) / 2,
    )


def factorize(joint: LinearGaussian, sizes: Sequence[int]) -> tuple[LinearGaussian, ...]:
    """Return y_1 | v, then y_2 | v, y_1, and so on, for parts of y of the given sizes: the inverse of `compose`."""
    parts = []
    for size in sizes[:-1]:
        parts.append(select(joint, torch.arange(size)))
        joint = condition(joint, size)
    return (*parts, joint)
