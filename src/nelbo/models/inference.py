"""What a model takes from a batch of images before it samples latents.

Shapes: B batch, D latent dimensions of the top level.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.distributions import code_of, sample_with_density
from nelbo.models.context import NO_CONTEXT, Context
from nelbo.models.free_parameters import free_parameters
from nelbo.trace import Latent


@dataclass(frozen=True, eq=False)
class Inference:
    """All that inference takes from x, computed once: one pass of the encoder, and q and p of the top level.

    Args:
        q: q(z|x) of the top level, batch shape (B,).
        p: p(z) of the top level, batch shape (), or (B,) if it depends on a context.
        features: what q was made of, (B, ...).
        head: makes q of features.
        below: what the levels below the top take from x, tensors (B, ...), top level first.
        context: what the model is conditioned on.
        restrict: what the context makes of any q of the family, such as its first units; None for nothing.
    """

    q: Distribution
    p: Distribution
    features: Tensor
    head: Callable[[Tensor], Distribution]
    below: tuple[Tensor, ...] = ()
    context: Context = dataclasses.field(default_factory=lambda: NO_CONTEXT)
    restrict: Callable[[Distribution], Distribution] | None = None

    def draw_top(self, count: int, num_samples: int, *, mode: bool, from_prior: bool) -> Latent:
        """Return the top level with S samples for each image.

        Args:
            count: B.
            num_samples: S.
            mode: whether the mode of q is taken in place of samples, once.
            from_prior: whether q is p.
        """
        if from_prior:
            sizes = (num_samples,) if self.p.batch_shape else (num_samples, count)
            return Latent(self.p, self.p, self.p.sample(torch.Size(sizes)))
        if mode:
            return Latent(self.q, self.p, code_of(self.q).unsqueeze(0))
        z, log_q = sample_with_density(self.q, num_samples)
        return Latent(self.q, self.p, z, log_q)

    def parameters(self) -> list[Tensor]:
        """Return tensors (B, ...) that determine q of each image, free of the encoder's weights.

        They are the parameters of q of the top level, such as location and log scale, and the features that the levels
        below take from x.
        """
        parameters, _ = free_parameters(self.q, self.features, self.head)
        return [*parameters, *self.below]

    def replace(self, parameters: Sequence[Tensor]) -> Inference:
        """Return the same inference with other `parameters()`.

        Args:
            parameters: tensors of the same shapes, in the same order.
        """
        old, make = free_parameters(self.q, self.features, self.head)
        q = make(*parameters[: len(old)])
        q = q if self.restrict is None else self.restrict(q)
        return dataclasses.replace(self, q=q, below=tuple(parameters[len(old) :]))
