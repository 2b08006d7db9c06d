"""Invertible layers for flows, through zuko.

Shapes: B batch, D latent dimensions, K context features.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.errors import choice, integer, positive_integer
from nelbo.nets.base import widths

# zuko switches off validation for everything in torch.distributions; whoever imports nelbo should not lose it.
_validation = Distribution._validate_args, Distribution.__dict__["arg_constraints"]
import zuko  # noqa: E402

Distribution._validate_args, Distribution.arg_constraints = _validation  # type: ignore[method-assign]

SPLINE_BINS = 8
KINDS = ("autoregressive", "coupling", "spline")


class FlowTransforms(nn.Module):
    """A stack of `layers` invertible layers on vectors (..., D); called with a context, it gives their composition.

    `autoregressive`: affine, each coordinate moved and scaled by a masked net of those before it (Kingma et al. 2016,
    eq. 10; Papamakarios et al. 2017, eq. 4). The composed transform is fast; its inverse takes D passes a layer.
    `coupling`: affine, half of the coordinates by a net of the other half (Dinh et al. 2017, eqs. 4 and 5). `spline`:
    the same with monotonic rational-quadratic splines of 8 bins on [-5, 5], the identity beyond (Durkan et al. 2019,
    section 3.1). Of these two both directions are fast.

    Args:
        dim: D.
        context: K; 0 for none.
        kind: one of the three.
        layers: how many; every other one sees the coordinates in reverse order, or the other half.
        hidden: widths of each layer's net, with ReLU.

    Raises:
        ConfigError: for a kind that does not exist or a number out of range.
    """

    def __init__(self, dim: int, context: int, *, kind: str, layers: int, hidden: Sequence[int]) -> None:
        super().__init__()
        kind = choice("kind", kind, KINDS)
        options: dict[str, object] = {"context": integer("context", context, minimum=0)}
        options["hidden_features"] = widths("hidden", hidden)
        if kind == "spline":
            options["univariate"] = partial(zuko.transforms.MonotonicRQSTransform, slope=1e-3)
            options["shapes"] = [(SPLINE_BINS,), (SPLINE_BINS,), (SPLINE_BINS - 1,)]
        order = torch.arange(dim)
        self.layers = nn.ModuleList()
        for index in range(positive_integer("layers", layers)):
            if kind == "autoregressive":
                layer = zuko.flows.MaskedAutoregressiveTransform(
                    dim, order=order if index % 2 == 0 else order.flip(0), **options
                )
            else:
                layer = zuko.flows.GeneralCouplingTransform(dim, mask=order % 2 == index % 2, **options)
            self.layers.append(layer)

    def forward(self, context: Tensor | None = None) -> Any:
        """The transform of vectors (S, B, D) given a context (B, K), or (..., D) without one."""
        return zuko.transforms.ComposedTransform(*(layer(context) for layer in self.layers))
