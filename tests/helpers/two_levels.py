"""Small models with two levels of latents: a vector z_1 above a map z_2, with p and q in separate or in shared copies.

Shapes: S samples, B images, D elements of z_1, C h w of z_2. Parameters and images are in float64.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from nelbo.distributions import DiagonalNormal, FullNormal, StandardNormal
from nelbo.objectives import Objective
from nelbo.trace import Latent, Trace

SHAPE, VECTOR, MAP = (1, 2, 3), 2, (2, 1, 2)
SIZE = MAP[0] * MAP[1] * MAP[2]
PIXELS = SHAPE[1] * SHAPE[2]


def normal(parameters: Tensor, event: tuple[int, ...]) -> DiagonalNormal:
    """Return a normal distribution of 2 N numbers: N locations and N logarithms of scales."""
    loc, log_scale = parameters.chunk(2, dim=-1)
    shape = (*loc.shape[:-1], *event)
    return DiagonalNormal(
        loc.reshape(shape), (0.5 * log_scale.tanh()).exp().reshape(shape), event_dimensions=len(event)
    )


class TwoLevels(nn.Module):
    """p(z_1) p(z_2|z_1) p(x|z_1, z_2) and q(z_1|x) q(z_2|z_1, x), with tanh between linear layers.

    Args:
        relative: whether the location of q(z_2|z_1, x) is added to that of p(z_2|z_1), as in top-down hierarchies.
    """

    def __init__(self, *, relative: bool = False) -> None:
        super().__init__()
        self.relative = relative
        self.top = nn.Linear(PIXELS, 2 * VECTOR)
        self.below = nn.Linear(PIXELS + VECTOR, 2 * SIZE)
        self.conditional = nn.Linear(VECTOR, 2 * SIZE)
        self.decoder = nn.Linear(VECTOR + SIZE, PIXELS)

    def prior(self, z: Tensor) -> DiagonalNormal:
        """Return p(z_2|z_1), batch shape (S, B)."""
        return normal(self.conditional(z.tanh()), MAP)

    def posterior(self, x: Tensor, z: Tensor) -> DiagonalNormal:
        """Return q(z_2|z_1, x), batch shape (S, B)."""
        features = x.flatten(1).expand(len(z), -1, -1)
        q = normal(self.below(torch.cat([features, z.tanh()], dim=-1)), MAP)
        return DiagonalNormal(self.prior(z).loc + q.loc, q.scale, event_dimensions=3) if self.relative else q

    def trace(self, x: Tensor, num_samples: int, p: TwoLevels | None = None) -> Trace:
        """Return a trace with q of this copy and p of another one, by default of the same."""
        p = self if p is None else p
        q = normal(self.top(x.flatten(1)), (VECTOR,))
        z = q.rsample((num_samples,))
        lower = self.posterior(x, z)
        z_2 = lower.rsample()
        mean = p.decoder(torch.cat([z, z_2.flatten(2).tanh()], dim=-1)).unflatten(-1, SHAPE)
        px = Independent(Normal(mean, torch.full_like(mean, 0.5), validate_args=False), 3, validate_args=False)
        top_prior = StandardNormal(torch.zeros(VECTOR, dtype=x.dtype))
        return Trace(x, px, (Latent(q, top_prior, z), Latent(lower, p.prior(z), z_2)))


def make_two_levels(*, relative: bool = False) -> TwoLevels:
    """Return a model with random parameters, which are large enough for weights to differ."""
    torch.manual_seed(3)
    model = TwoLevels(relative=relative).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return model


class SplitLevels:
    """Two copies of a model, one for q and one for p, so that the gradients of both roles can be told apart."""

    def __init__(self, model: TwoLevels) -> None:
        self.q, self.p = model, copy.deepcopy(model)

    def gradients(self, objective: Objective, x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return the gradients of q's and of p's parameters, each in one vector."""
        torch.manual_seed(seed)
        total = objective(self.q.trace(x, objective.num_samples, self.p), 0).total
        return gradient(total, self.q), gradient(total, self.p)

    def draws(self, objective: Objective, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the gradients for `count` seeds, in rows."""
        phi, theta = zip(*(self.gradients(objective, x, seed) for seed in range(count)), strict=True)
        return torch.stack(phi), torch.stack(theta)


def gradient(total: Tensor, model: nn.Module) -> Tensor:
    """Return the gradient of a loss with respect to all parameters of a model in one vector."""
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.cat([each.flatten() for each in gradients])


class LinearLevels:
    """z_1 ~ N(0, I), z_2 = A z_1 + a + s e, x = C z_1 + B z_2 + b + sigma e, whose log p(x) and posteriors are exact.

    Args:
        images: B, the number of images that are drawn from p(x).
    """

    def __init__(self, images: int) -> None:
        torch.manual_seed(4)
        self.lower, self.offset = torch.randn(SIZE, VECTOR).double(), torch.randn(SIZE).double()
        self.upper_weights, self.weights = torch.randn(PIXELS, VECTOR).double(), torch.randn(PIXELS, SIZE).double()
        self.bias, self.spread, self.sigma = torch.randn(PIXELS).double(), 0.8, 0.7
        z = torch.randn(images, VECTOR).double()
        z_2 = z @ self.lower.T + self.offset + self.spread * torch.randn(images, SIZE).double()
        mean = z @ self.upper_weights.T + z_2 @ self.weights.T + self.bias
        self.x = mean + self.sigma * torch.randn(images, PIXELS).double()

    def joint(self) -> tuple[Tensor, Tensor]:
        """Return the mean and the covariance of (x, z_1, z_2), in this order."""
        top, lower = torch.eye(VECTOR).double(), self.lower
        covariance = torch.cat([torch.cat([top, lower.T], 1), torch.cat([lower, lower @ lower.T], 1)])
        covariance[VECTOR:, VECTOR:] += self.spread**2 * torch.eye(SIZE).double()
        weights = torch.cat([self.upper_weights, self.weights], dim=1)
        cross = weights @ covariance
        noise = self.sigma**2 * torch.eye(PIXELS).double()
        rows = [torch.cat([cross @ weights.T + noise, cross], 1), torch.cat([cross.T, covariance], 1)]
        z_mean = torch.cat([torch.zeros(VECTOR).double(), self.offset])
        return torch.cat([weights @ z_mean + self.bias, z_mean]), torch.cat(rows)

    def log_p(self) -> Tensor:
        """Return log p(x), (B,)."""
        mean, covariance = self.joint()
        factor = torch.linalg.cholesky(covariance[:PIXELS, :PIXELS])
        return FullNormal(mean[:PIXELS], factor).log_prob(self.x)

    def conditional(self, size: int, given: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return A, a and L of N(A v + a, L L^T) for the next `size` of (x, z_1, z_2) given the first ones, v.

        Args:
            size: number of elements that are distributed.
            given: number of elements of v.
        """
        mean, covariance = self.joint()
        known, unknown = slice(0, given), slice(given, given + size)
        gain = torch.linalg.solve(covariance[known, known], covariance[known, unknown]).T
        rest = covariance[unknown, unknown] - gain @ covariance[known, unknown]
        return gain, mean[unknown] - gain @ mean[known], torch.linalg.cholesky(rest)

    def posterior(self) -> list[Tensor]:
        """Return A, a and L of the exact q(z_1|x), and of the exact q(z_2|x, z_1), as leaves."""
        parts = [*self.conditional(VECTOR, PIXELS), *self.conditional(SIZE, PIXELS + VECTOR)]
        return [part.detach().requires_grad_() for part in parts]

    def trace(self, posterior: list[Tensor], num_samples: int) -> Trace:
        """Return a trace with the given q, in which z_2 is a vector."""
        gain, offset, factor, gain_2, offset_2, factor_2 = posterior
        images = len(self.x)
        q = FullNormal(self.x @ gain.T + offset, factor.expand(images, -1, -1))
        z, log_q = q.rsample_and_log_prob((num_samples,))
        given = torch.cat([self.x.expand(num_samples, -1, -1), z], dim=-1)
        lower = FullNormal(given @ gain_2.T + offset_2, factor_2.expand(num_samples, images, -1, -1))
        z_2, log_q_2 = lower.rsample_and_log_prob()
        top_prior = StandardNormal(torch.zeros(VECTOR).double())
        prior = DiagonalNormal(z @ self.lower.T + self.offset, torch.full_like(z_2, self.spread))
        mean = z @ self.upper_weights.T + z_2 @ self.weights.T + self.bias
        scale = torch.full_like(mean, self.sigma)
        px = Independent(Normal(mean.unflatten(-1, SHAPE), scale.unflatten(-1, SHAPE)), 3)
        latents = Latent(q, top_prior, z, log_q), Latent(lower, prior, z_2, log_q_2)
        return Trace(self.x.unflatten(-1, SHAPE), px, latents)
