"""Pixels with an unconstrained probability for each of their L levels.

Shapes: any batch shape, event (C, H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.distributions import Categorical, constraints

from nelbo.distributions.levels import LevelPixels
from nelbo.distributions.pixels import EVENT_DIMENSIONS

LEVEL = -3
"""The dimension of the levels in the logits (..., C, L, H, W)."""


class CategoricalPixels(LevelPixels):
    """P(k) = softmax(logits)_k for each pixel and channel (van den Oord et al. 2016, section 2.2).

    Args:
        logits: unnormalised log-probabilities, (..., C, L, H, W).

    Example:
        >>> px = CategoricalPixels(torch.zeros(5, 3, 256, 4, 4))
        >>> px.batch_shape, px.event_shape
        (torch.Size([5]), torch.Size([3, 4, 4]))
        >>> round(-px.log_prob(torch.zeros(5, 3, 4, 4))[0].item() / 48, 3)  # log 256 nats per pixel and channel
        5.545
    """

    arg_constraints = {"logits": constraints.real}

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        channels, levels, height, width = logits.shape[-4:]
        super().__init__(levels, logits.shape[:-4], torch.Size((channels, height, width)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of images, (...), in nats."""
        return self.pixel_log_probs(value).flatten(-EVENT_DIMENSIONS).sum(-1)

    def pixel_log_probs(self, value: Tensor) -> Tensor:
        """Return the log-probability of each pixel of images, (..., C, H, W), in nats."""
        level = self.nearest(value).long().unsqueeze(LEVEL)
        shape = torch.broadcast_shapes(self.logits.shape[:-4], level.shape[:-4])
        logits, level = self.logits.expand(*shape, *self.logits.shape[-4:]), level.expand(*shape, *level.shape[-4:])
        log_p: Tensor = LogProbability.apply(logits, level)  # type: ignore[no-untyped-call]
        return log_p

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Return images, (*sample_shape, ..., C, H, W)."""
        pixels = Categorical(logits=self.logits.movedim(LEVEL, -1), validate_args=False)
        level: Tensor = pixels.sample(torch.Size(sample_shape))
        return level.to(self.logits.dtype) / self.top

    @property
    def mean(self) -> Tensor:
        """The exact mean image, (..., C, H, W)."""
        values = torch.arange(self.levels, dtype=self.logits.dtype, device=self.logits.device) / self.top
        return (self.logits.softmax(LEVEL) * values.reshape(-1, 1, 1)).sum(LEVEL)

    def expand(
        self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None
    ) -> CategoricalPixels:
        """Return the same distribution with a larger batch shape."""
        return CategoricalPixels(self.logits.expand(*batch_shape, *self.logits.shape[-4:]))


class LogProbability(torch.autograd.Function):
    """Log softmax(logits) at `level`, (..., C, H, W), for logits (..., C, L, H, W) in any memory layout.

    With L = 256 levels, the logits take most of a model's memory. Torch's cross-entropy allocates five tensors of their
    size and permutes the dimensions; this function allocates one in each direction.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, level: Tensor) -> Tensor:
        """Return the log-probabilities.

        Args:
            ctx: the context that passes tensors to `backward`.
            logits: (..., C, L, H, W).
            level: (..., C, 1, H, W).
        """
        total = logits.logsumexp(LEVEL, keepdim=True)
        ctx.save_for_backward(logits, level, total)
        return (logits.gather(LEVEL, level) - total).squeeze(LEVEL)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the logits, `gradient` (one-hot - softmax), and None for the level."""
        logits, level, total = ctx.saved_tensors  # type: ignore[attr-defined]
        gradient = gradient.unsqueeze(LEVEL)
        of_logits = (logits - total).exp_().mul_(-gradient)
        return of_logits.scatter_add_(LEVEL, level, gradient), None
