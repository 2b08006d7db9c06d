"""Invertible layers of normalizing flows, from zuko.

Shapes: B batch, D latent dimensions, K context features.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nelbo.errors import choice, integer, positive_integer
from nelbo.nets.base import widths
from nelbo.nets.compat import coupling, is_coupling, zuko

SPLINE_BINS = 8
KINDS = ("autoregressive", "coupling", "spline")


class FlowTransforms(nn.Module):
    """A stack of invertible layers on vectors (..., D), whose composition `forward` returns.

    There are three kinds of layers:

    - `autoregressive`: each coordinate is shifted and scaled by a masked network of the coordinates before it (Kingma
      et al. 2016, eq. 10; Papamakarios et al. 2017, eq. 4). The transform takes one pass per layer, its inverse D.
    - `coupling`: half of the coordinates are shifted and scaled by a network of the other half (Dinh et al. 2017,
      eqs. 4 and 5). The transform and its inverse take one pass per layer.
    - `spline`: as `coupling`, with monotonic rational-quadratic splines of 8 bins on [-5, 5] and the identity outside
      (Durkan et al. 2019, section 3.1).

    Args:
        dim: D.
        context: K, the number of context features; 0 for none.
        kind: `autoregressive`, `coupling` or `spline`.
        layers: number of layers. Every other layer has the reverse order of coordinates, or the other half.
        hidden: widths of the hidden layers of each network, with ReLU.

    Raises:
        ConfigError: if the kind is unknown or a number is out of range.

    Example:
        >>> transform = FlowTransforms(2, 0, kind="coupling", layers=2, hidden=[8])()
        >>> e = torch.randn(5, 2)
        >>> z, log_det = transform.call_and_ladj(e)
        >>> z.shape, log_det.shape, torch.allclose(transform.inv(z), e, atol=1e-4)
        (torch.Size([5, 2]), torch.Size([5]), True)
    """

    def __init__(self, dim: int, context: int, *, kind: str, layers: int, hidden: Sequence[int]) -> None:
        super().__init__()
        kind = choice("kind", kind, KINDS)
        options: dict[str, object] = {"context": integer("context", context, minimum=0)}
        options["hidden_features"] = widths("hidden", hidden)
        if kind == "spline":
            options["univariate"] = partial(zuko.transforms.MonotonicRQSTransform, slope=1e-3)
            options["shapes"] = [(SPLINE_BINS,), (SPLINE_BINS,), (SPLINE_BINS - 1,)]
        self.fast_inverse = kind != "autoregressive"
        """Whether the inverse takes one pass per layer."""
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
        # The positions where the masks of even layers are true, and those where the masks of odd layers are.
        self.register_buffer("even", order[order % 2 == 0], persistent=False)
        self.register_buffer("odd", order[order % 2 == 1], persistent=False)
        self.even: Tensor
        self.odd: Tensor

    def forward(self, context: Tensor | None = None) -> Any:
        """Return the composed transform of vectors (S, B, D) given a context (B, K), or of (..., D) without one.

        It has the interface `nelbo.distributions.flow.LogDetTransform`.
        """
        halves = (self.even, self.odd)
        return zuko.transforms.ComposedTransform(
            *(
                coupling(layer, halves[index % 2], halves[1 - index % 2], context)
                if is_coupling(layer)
                else layer(context)
                for index, layer in enumerate(self.layers)
            )
        )
